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
        (
            GOOD.double(),
            None,
            "x: images must be float32; got float64. Convert them: .float() of a tensor, .astype('float32') of an array.",
        ),
        (GOOD[0], None, "x: images must have shape (n, channels, height, width); got (1, 4, 4). Reshape them."),
        (GOOD[:0], None, "x: there are no images."),
        (GOOD, torch.zeros(5), "x: labels must be one class for each of 6 images; got shape (5,)."),
        (GOOD, torch.zeros(6), "x: labels must be int64; got float32. Convert with .long()."),
        (GOOD, torch.arange(6) - 3, "x: labels must be classes from 0 on, or -1 where unknown; got -3."),
    ],
)
def test_errors(inputs, labels, text):
    with pytest.raises(DataError) as caught:
        ImageSet(inputs, torch.zeros(len(inputs), dtype=torch.int64) if labels is None else labels, "x")
    assert str(caught.value) == text


def test_count_outside():
    with pytest.raises(DataError) as caught:
        ImageSet(GOOD, torch.arange(6), "x").subset(7)
    assert str(caught.value) == "x: `count` must lie between 1 and 6, the images there are; got 7."
    with pytest.raises(DataError) as caught:
        ImageSet(GOOD, torch.arange(6), "x").subset(0)
    assert str(caught.value) == "ImageSet.subset: `count` must be at least 1; got 0."


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0.9, 1, 2, 3, 4, 5], "labels must be whole numbers; got 0.9. Number the classes from 0."),
        ([0, 1, 2, float("nan"), 4, 5], "labels must be whole numbers; got nan. Number the classes from 0."),
        ([0, 1, 2, float("inf"), 4, 5], "labels must be whole numbers; got inf. Number the classes from 0."),
        ([0, 1, 2, -5.0, 4, 5], "labels must be classes from 0 on, or -1 where unknown; got -5."),
        ([0, 1, 2, -5, 4, 5], "labels must be classes from 0 on, or -1 where unknown; got -5."),
        ([True] * 6, "labels must be whole numbers; got bool. Number the classes from 0."),
        ([0, 1, 2], "labels must be one class for each of 6 images; got shape (3,)."),
        (3, "labels must be one class for each of 6 images; got shape ()."),
        ([[0]] * 6, "labels must be one class for each of 6 images; got shape (6, 1)."),
        (
            [[1, 0, 0]] * 6,
            "labels must be one class for each image; got shape (6, 3), one-hot rows or scores. Turn them into classes with "
            "labels.argmax(1).",
        ),
    ],
)
def test_labels_that_a_cast_would_change(labels, text):
    with pytest.raises(DataError) as caught:
        ImageSet.unlabelled(GOOD, torch.tensor(labels), name="x")
    assert str(caught.value) == f"x: {text}"


def test_labels_of_other_types_are_cast_as_they_are():
    for kind in (torch.uint8, torch.int32, torch.float32, torch.float16):
        made = ImageSet.unlabelled(GOOD, torch.arange(6).to(kind))
        assert made.labels.tolist() == list(range(6))
        assert made.labels.dtype == torch.int64
    assert ImageSet.unlabelled(GOOD, torch.tensor([0.0, -1, 2, 3, 4, 5])).labels[1] == -1


def test_what_is_no_label():
    with pytest.raises(DataError) as caught:
        ImageSet.unlabelled(GOOD, ["a"] * 6)
    assert str(caught.value) == "ImageSet.unlabelled: `labels` must be a tensor or None; got ['a', 'a', 'a', 'a', 'a', 'a']."


def test_pixels_that_are_not_of_8_bits():
    with pytest.raises(DataError) as caught:
        ImageSet.from_uint8(GOOD, name="x")
    assert str(caught.value) == "x: pixels must be uint8; got float32. Use ImageSet(inputs, labels) for images in [0, 1]."
