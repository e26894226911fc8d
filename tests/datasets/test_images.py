import pytest
import torch

from eigencode.datasets import ImageSet
from eigencode.errors import DataError

GOOD = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_subset_is_seeded_random_and_without_replacement():
    images = ImageSet(GOOD, torch.arange(6))
    first, again, other = (images.subset(6, seed=seed).labels.tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == list(range(6))
    assert first != sorted(first)
    assert images.subset(None) is images
    chosen = images.subset(3)
    assert torch.equal(chosen.inputs, GOOD[chosen.labels])


def test_from_uint8_divides_by_255():
    pixels = torch.arange(0, 256, 16, dtype=torch.uint8).view(1, 1, 4, 4)
    images = ImageSet.from_uint8(pixels)
    assert torch.equal(images.inputs, pixels.float() / 255)
    assert images.labels.tolist() == [-1]
    assert (images.shape, len(images), repr(images)) == ((1, 4, 4), 1, "ImageSet of 1 images (1, 4, 4) from images")


@pytest.mark.parametrize(
    ("inputs", "labels", "text"),
    [
        (
            (GOOD * 255).to(torch.uint8),
            None,
            "x: images must be float32 in [0, 1]; got uint8. Use ImageSet.from_uint8, or divide by 255.",
        ),
        (torch.full((2, 1, 4, 4), 200.0), None, "x: images must lie in [0, 1]; got values from 200 to 200. Divide by 255."),
        (
            GOOD - 0.5,
            None,
            f"x: images must lie in [0, 1]; got values from {float(GOOD.min()) - 0.5:.4g} to {float(GOOD.max()) - 0.5:.4g}. Undo "
            "any normalisation; the model applies its own.",
        ),
        (GOOD * float("nan"), None, "x: images must lie in [0, 1]; got values from nan to nan. Replace the NaN values."),
        (GOOD.double(), None, "x: images must be float32; got float64. Convert with .float()."),
        (GOOD[0], None, "x: images must have shape (n, channels, height, width); got (1, 4, 4). Reshape them."),
        (GOOD[:0], None, "x: there are no images."),
        (GOOD, torch.zeros(5), "x: labels must be int64 of shape (6,); got float32 of shape (5,)."),
    ],
)
def test_errors(inputs, labels, text):
    with pytest.raises(DataError) as caught:
        ImageSet(inputs, torch.zeros(len(inputs), dtype=torch.int64) if labels is None else labels, "x")
    assert str(caught.value) == text


@pytest.mark.parametrize("count", [0, 7])
def test_count_outside(count):
    with pytest.raises(DataError) as caught:
        ImageSet(GOOD, torch.arange(6), "x").subset(count)
    assert str(caught.value) == f"x: `count` must lie between 1 and 6, the images there are; got {count}."
