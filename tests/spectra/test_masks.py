"""Positions that are no samples, and images that belong together, against plain NumPy."""

import copy

import numpy as np
import pytest
import torch

from eigencode.errors import SpectrumError
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator, stimulus_curve
from eigencode.spectra.resampling import GROUPS, deal, draw_halves
from plain_numpy import alpha, eigenvalues

IMAGES, POSITIONS = 60, 7


@pytest.fixture(params=[12, 500])
def code(request, generator):
    """Activations (images, positions, units) with NaN where there is padding, and the mask."""
    activations = torch.randn(IMAGES, POSITIONS, request.param, generator=generator, dtype=torch.float64)
    mask = torch.arange(POSITIONS) < torch.randint(1, POSITIONS + 1, (IMAGES, 1), generator=generator)
    mask[0] = True
    return activations.masked_fill(~mask[:, :, None], torch.nan), mask


@pytest.mark.parametrize("memory_limit", [2**31, 2**25])
def test_samples_are_what_the_mask_leaves(code, memory_limit):
    activations, mask = code
    spectrum = Eigenspectrum.from_activations(activations, mask=mask, memory_limit=memory_limit)
    expected = eigenvalues(activations[mask])
    count = min(len(expected), int(mask.sum()))
    assert (spectrum.n_images, spectrum.n_samples, spectrum.n_features) == (IMAGES, int(mask.sum()), activations.shape[2])
    assert np.allclose(spectrum.eigenvalues.numpy()[:count], expected[:count], rtol=0, atol=1e-12 * expected[0])


@pytest.mark.parametrize("kind", [np.uint16, np.float64, ">i4", bool, "reversed"])
def test_masks_of_any_type(code, kind):
    activations, mask = code
    given = mask.numpy()[::-1].copy()[::-1] if kind == "reversed" else mask.numpy().astype(kind)
    one, other = (Eigenspectrum.from_activations(activations, mask=each) for each in (mask, given))
    assert torch.equal(one.eigenvalues, other.eigenvalues)


def test_half_samples_have_whole_images(code):
    activations, mask = code
    spectrum = Eigenspectrum.from_activations(activations, mask=mask, half_samples=6)
    counts = mask.sum(dim=1)
    sums = {int(counts[list(chosen)].sum()) for chosen in _halves(spectrum)}
    assert set(spectrum.half_counts) == sums
    pairs = zip(spectrum.half_samples, spectrum.half_counts, strict=True)
    for (half, count), chosen in zip(pairs, _halves(spectrum), strict=True):
        rows = activations[list(chosen)][mask[list(chosen)]]
        assert len(rows) == count
        expected = eigenvalues(rows)[: min(count, rows.shape[1])]
        assert np.allclose(half.numpy()[: len(expected)], expected, rtol=0, atol=1e-10 * expected[0])
        assert not half[count:].any()


def _halves(spectrum):
    """Images of each half, as the documented draws give them."""
    if spectrum.method == "gram":
        return [tuple(half) for half in draw_halves(IMAGES, draws=6, seed=0)]
    group_of = deal(np.arange(IMAGES), n_groups=GROUPS, seed=0)
    return [tuple(np.flatnonzero(np.isin(group_of, half))) for half in draw_halves(GROUPS, draws=6, seed=0)]


def test_parts_in_any_order_are_one(code):
    activations, mask = code
    groups = torch.arange(IMAGES) // 3
    whole = SpectrumAccumulator(positions=True, half_samples=5)
    whole.update(activations, mask=mask, groups=groups)
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(1))
    parts = []
    for chosen in order.split(17):
        parts.append(SpectrumAccumulator(positions=True, half_samples=5))
        parts[-1].update(activations[chosen], mask=mask[chosen], groups=groups[chosen])
    twin = copy.deepcopy(parts[0])
    for part in parts[1:]:
        twin.merge(part)
    one, other = whole.compute(), twin.compute()
    assert (other.n_images, other.n_samples) == (one.n_images, one.n_samples)
    assert torch.allclose(one.eigenvalues, other.eigenvalues, rtol=1e-9, atol=1e-12)
    assert torch.allclose(one.half_samples, other.half_samples, rtol=1e-9, atol=1e-12)
    with pytest.raises(SpectrumError, match="`mask` and `groups` must be given to all accumulators"):
        twin.merge(_filled(activations, positions=True))


def _filled(activations, **options):
    metric = SpectrumAccumulator(half_samples=5, **options)
    metric.update(activations.nan_to_num())
    return metric


def test_every_number_has_a_group_of_its_own():
    dealt = [deal(np.array([number]), n_groups=20, seed=3)[0] for number in range(60)]
    assert deal(np.arange(60), n_groups=20, seed=3).tolist() == dealt
    assert all(sorted(dealt[start : start + 20]) == list(range(20)) for start in (0, 20, 40))
    assert deal(np.arange(5), n_groups=1, seed=3).tolist() == [0] * 5
    assert deal(np.arange(0), n_groups=20, seed=3).tolist() == []


@pytest.mark.parametrize("count", [20, IMAGES])
def test_curves_are_of_images_with_all_their_samples(code, count):
    activations, mask = code
    table = stimulus_curve(activations, mask=mask, counts=[count], ranks=(2, 9), repeats=3, seed=4)
    generator = torch.Generator().manual_seed(4)
    expected = []
    for _ in range(1 if count == IMAGES else 3):
        chosen = torch.randperm(IMAGES, generator=generator)[:count]
        expected.append(alpha(eigenvalues(activations[chosen][mask[chosen]]), 2, 9))
    assert table["alpha"].iloc[0] == pytest.approx(np.mean(expected), abs=1e-9)


def test_curves_of_sets(code):
    activations, _ = code
    rows, groups = activations.nan_to_num().flatten(1)[:, :300], torch.arange(IMAGES) // 2
    table = stimulus_curve(rows, groups=groups, counts=[15, 30], ranks=(2, 9), repeats=2, seed=4)
    generator = torch.Generator().manual_seed(4)
    expected = []
    for _ in range(2):
        chosen = torch.randperm(30, generator=generator)[:15]
        expected.append(alpha(eigenvalues(rows[torch.isin(groups, chosen)]), 2, 9))
    assert table["alpha"].tolist() == pytest.approx([np.mean(expected), alpha(eigenvalues(rows), 2, 9)], abs=1e-9)
    with pytest.raises(SpectrumError, match="between 11 .* and 30, the sets of images given"):
        stimulus_curve(rows, groups=groups, counts=[31], ranks=(2, 9))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask": torch.ones(IMAGES, POSITIONS + 1)}, "`mask` must have shape"),
        ({"mask": torch.full((IMAGES, POSITIONS), 2)}, "must hold 0 and 1"),
        ({"mask": torch.eye(IMAGES, POSITIONS)}, "leaves no position of image 7"),
        ({"mask": torch.ones(IMAGES, POSITIONS) * 1j}, "must be real numbers"),
        ({"groups": torch.arange(IMAGES - 1)}, "`groups` must name one set for each of 60 images"),
        ({"groups": torch.arange(IMAGES) / 2}, "whole numbers from 0 on"),
        ({"groups": torch.arange(IMAGES) - 1}, "whole numbers from 0 on"),
    ],
)
def test_what_is_no_mask_and_no_sets(code, options, text):
    activations = code[0].nan_to_num()
    given = options if "mask" in options else {"mask": code[1]} | options
    with pytest.raises(SpectrumError, match=text):
        Eigenspectrum.from_activations(activations, **given)
    with pytest.raises(SpectrumError, match=text):
        stimulus_curve(activations, counts=[30], ranks=(2, 9), **given)


@pytest.mark.parametrize("first", [{}, {"mask": True}, {"groups": True}])
def test_all_batches_are_alike(code, first):
    activations, mask = code
    options = {"mask": mask, "groups": torch.arange(IMAGES)}
    metric = SpectrumAccumulator(positions=True)
    metric.update(activations.nan_to_num(), **{name: options[name] for name in first})
    for other in ({}, {"mask": True}, {"groups": True}, {"mask": True, "groups": True}):
        if other.keys() != first.keys():
            with pytest.raises(SpectrumError, match="must be given with all batches, or with none"):
                metric.update(activations.nan_to_num(), **{name: options[name] for name in other})
