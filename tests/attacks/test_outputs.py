import pytest
import torch

from eigencode.attacks.outputs import are_probabilities, check_batch, scores_of
from eigencode.errors import AttackError


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_image_that_is_not_finite_is_named(value):
    images = torch.full((4, 1, 2, 2), 0.5)
    images[2, 0, 1, 0] = value
    with pytest.raises(AttackError) as caught:
        check_batch(images, torch.zeros(4, dtype=torch.int64), 0.1, "linf", (0.0, 1.0), name="pgd")
    assert str(caught.value) == "pgd: images must be finite; image 2 has NaN or infinite values. Replace them."


def test_the_distance_between_two_images_is_a_budget():
    images, labels = torch.full((2, 1, 3, 3), 0.5), torch.zeros(2, dtype=torch.int64)
    for norm, largest in (("linf", 2.0), ("l2", 6.0)):
        check_batch(images, labels, largest, norm, (-1.0, 1.0), name="pgd")
        with pytest.raises(AttackError, match=f"`epsilon` must lie in 0..{largest:g}, "):
            check_batch(images, labels, 1.01 * largest, norm, (-1.0, 1.0), name="pgd")


def test_what_looks_like_probabilities():
    assert are_probabilities(torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    for other in ([[0.25, 1.0], [1.0, 0.0]], [[1.5, -0.5], [1.0, 0.0]]):
        assert not are_probabilities(torch.tensor(other))


def test_scores_are_a_matrix_of_real_numbers():
    for scores in (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 3), torch.zeros(2, 3, 1)):
        with pytest.raises(AttackError, match=r"The network must return scores of shape \(n, classes\); got "):
            scores_of(lambda _inputs, scores=scores: scores, torch.zeros(2, 4))
