"""The tracked solver of small codes, through the penalty where it can tell, against its own definition elsewhere."""

import pytest
import torch

from eigencode.errors import PenaltyError
from eigencode.penalties import SpectralPenalty, Tracking
from eigencode.spectra import Eigenspectrum
from eigencode.spectra.leading import Samples, above_floor, tracked

SMALL = Tracking(oversampling=6, pool=3, expansion=6, max_expansions=3)
UNITS, IMAGES, RANKS = 120, 150, (2, 8)


def scaled(dimensions, *, seed=0, alpha=1.0, dtype=torch.float64):
    """Images of a code of so many dimensions, each along the same unit at every draw."""
    draw = torch.Generator().manual_seed(seed)
    code = torch.zeros(IMAGES, UNITS, dtype=dtype)
    code[:, :dimensions] = torch.randn(IMAGES, dimensions, generator=draw, dtype=dtype)
    return code * torch.arange(1, UNITS + 1, dtype=dtype) ** (-alpha / 2)


def followed(steps, **options):
    """A penalty that has seen batches of members, and the values of the last."""
    penalty = SpectralPenalty(1.5, ranks=RANKS, tracking=SMALL, **options)
    for step in steps:
        values = penalty.members(torch.stack(step))
    return penalty, values


def test_the_dense_solver_is_kept_to():
    penalty, _ = followed([[scaled(100)], [scaled(100, seed=1)]], solver="dense")
    assert penalty.last.solver == ("dense",)
    assert penalty.last.residual.tolist() == [0.0]


def test_members_go_their_own_ways():
    """The second has no direction of its own for a while, so that its block grows, and then is of another size than the first's."""
    others = [scaled(100, seed=10), scaled(120, seed=11, alpha=0.0), scaled(100, seed=12), scaled(100, seed=13)]
    steps = [[scaled(100, seed=seed), other] for seed, other in enumerate(others)]
    penalty, values = followed(steps)
    sizes = [len(penalty.state_dict()[f"block.{number}"]) for number in (0, 1)]
    assert sizes[0] < sizes[1]
    assert penalty.last.solver == ("tracked", "tracked")
    for value, code in zip(values, steps[-1], strict=True):
        exact = SpectralPenalty(1.5, ranks=RANKS, solver="dense")(code)
        assert float(value) == pytest.approx(float(exact), abs=5e-3)
    assert abs(float(values[0] - values[1])) > 0.01


def test_one_that_is_lost_leaves_the_other_tracked():
    penalty, _ = followed([[scaled(100), scaled(100)], [scaled(100, seed=1), scaled(7, seed=1)]], degenerate="skip")
    assert penalty.last.solver == ("tracked", "skipped")
    assert penalty.last.residual[0] < SMALL.tolerance
    assert penalty.last.residual[1] == torch.inf


def test_as_many_dimensions_as_ranks_are_enough():
    penalty, _ = followed([[scaled(8)], [scaled(8, seed=1)]])
    assert penalty.last.solver == ("tracked",)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_residual_is_the_part_of_a_power_iteration_that_leaves_the_block(dtype):
    code, last = scaled(100, dtype=dtype), RANKS[1] + 1
    block = torch.linalg.qr(torch.eye(UNITS, dtype=torch.float64)[:, :20] + 0.02 * scaled(100, seed=2)[:UNITS, :20]).Q.T.to(dtype)
    settings = Tracking(oversampling=6, pool=3, expansion=6, tolerance=1.0)
    ((pairs, _),) = tracked(
        code[None],
        block[None],
        (RANKS[0], last),
        settings,
        lambda eigenvalues, _: torch.ones_like(eigenvalues),
        Samples(IMAGES),
    )
    covariance, exact = torch.cov(code.double().T), block.double()
    values, vectors = torch.linalg.eigh(exact @ covariance @ exact.T)
    values, rows = values.flip(0)[:last], vectors.flip(1).T[:last] @ exact
    images = rows @ covariance
    relative = (images - images @ exact.T @ exact).norm(dim=1) / values
    expected = float(((values * relative**2).sum() / values.sum()).sqrt())
    assert expected > 0.01
    assert float(pairs.residual) == pytest.approx(expected, rel=1e-8 if dtype == torch.float64 else 1e-3)
    assert pairs.vectors.dtype == dtype
    assert torch.allclose(pairs.eigenvalues[0], values * (1 + relative**2), rtol=1e-8 if dtype == torch.float64 else 1e-4)


def test_one_image_more_than_ranks_is_enough():
    code = torch.randn(60, 80, dtype=torch.float64)
    assert SpectralPenalty(1.0)(code[:51]).isfinite()
    with pytest.raises(PenaltyError, match="ranks 6-50 need 51 images in a batch and 50 units; got 50 images and 80 units"):
        SpectralPenalty(1.0)(code[:50])


def test_a_batch_that_is_too_small_is_skipped_by_every_member():
    penalty, values = followed([[scaled(100)[:8], scaled(100, seed=1)[:8]]], degenerate="skip")
    assert values.tolist() == [0, 0]
    assert penalty.skipped.tolist() == [1, 1]
    assert penalty.last.eigenvalues.shape == (2, RANKS[1])
    assert penalty.last.solver == ("skipped", "skipped")


def test_floor_is_that_of_measurements():
    """It depends on the size of the first image, so that batches and processes agree, and on no other's."""
    code = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    code = code * torch.tensor([1, 1, 1, 1e-3, 3e-14, 1e-20], dtype=torch.float64)
    for first in (1.0, 1e4):
        code[0] = first
        spectrum = Eigenspectrum.from_activations(code, half_samples=0)
        above = above_floor(spectrum.eigenvalues[None], code[None], total=40)
        assert int(above.sum()) == spectrum.numerical_rank
    code[0], code[1, 0] = 1.0, 1e4
    values = torch.tensor([[1.0, 1e-10, 1e-27]], dtype=torch.float64)
    assert above_floor(values, code[None], total=40).tolist() == above_floor(values, code[:1][None], total=40).tolist()


def test_tracking_may_have_nothing_to_spare():
    names = ("oversampling", "pool", "expansion", "tolerance", "max_expansions")
    assert Tracking(**dict.fromkeys(names, 0)).rows(8) == 10
    for name in names:
        with pytest.raises(PenaltyError) as caught:
            Tracking(**{name: -1})
        assert str(caught.value) == f"Tracking: `{name}` must be at least 0; got -1."
