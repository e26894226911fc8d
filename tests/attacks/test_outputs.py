import pytest
import torch

from eigencode.attacks.outputs import check_batch
from eigencode.errors import AttackError


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_image_that_is_not_finite_is_named(value):
    images = torch.full((4, 1, 2, 2), 0.5)
    images[2, 0, 1, 0] = value
    with pytest.raises(AttackError) as caught:
        check_batch(images, torch.zeros(4, dtype=torch.int64), 0.1, "linf", (0.0, 1.0), name="pgd")
    assert str(caught.value) == "pgd: images must be finite; image 2 has NaN or infinite values. Replace them."
