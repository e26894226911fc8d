"""How sure an exponent is: intervals from half-samples of the images, and alpha against their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit
from torch import Tensor

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.checks import checked_groups, unmasked
from eigencode.spectra.computing import of_gram
from eigencode.spectra.covariance import gram_of_rows, sub_gram
from eigencode.spectra.eigenvalues import Numbers, as_numbers, checked_eigenvalues
from eigencode.spectra.gains import TOGETHER
from eigencode.spectra.population import UNLIKE, PopulationSpectrum, population_spectrum
from eigencode.spectra.power_law import fit_power_law
from eigencode.spectra.resampling import GROUPS, deal, degrees_of_freedom
from eigencode.spectra.window import Ranks, Window


@dataclass(frozen=True, repr=False)
class AlphaInterval(Shown):
    """Confidence interval of the exponent of the population that the images were drawn from.

    Attributes:
        alpha: Exponent of the population spectrum.
        low: Lower end; minus infinity where the images do not determine it.
        high: Upper end; infinity where they do not.
        stderr: Standard error of alpha, from half-samples, with what smoothness and gains leave open.
        misfit: The larger of two mean squared residuals, in standard errors: of the sample's spectrum, and of what changes in it
            when the images are halved. Near 1 or below where images are independent.
        level: Nominal coverage.
        ranks: Window of the fit.
        note: Why an interval is open, else "".
    """

    alpha: float
    low: float
    high: float
    stderr: float
    misfit: float
    level: float
    ranks: tuple[int, int]
    note: str = ""


@checked(SpectrumError)
def alpha_interval(
    population: PopulationSpectrum,
    half_samples: Numbers,
    *,
    ranks: Ranks,
    half_counts: Sequence[int],
    half_groups: int = GROUPS,
    level: float = 0.95,
) -> AlphaInterval:
    """Interval of the population exponent by m-out-of-n resampling of images without replacement, m = n/2.

    Duplicates, as the bootstrap makes them, distort eigenvalues; half-samples do not, and what changes between halves of n
    images varies as much as between samples of n. The differences of the halves' spectra from their mean are added to the
    expected spectrum, one by one, and fitted. To the variance of these exponents are added what the data leave open, by the
    smoothness that was assumed, and what the images' gains leave open, by their own error. The interval is symmetric, with
    Student's t of as many degrees of freedom as the halves leave, by Satterthwaite's rule.

    Where many images are nearly the same as another, where the expected spectrum is not the one observed, or not the one of
    half of the images, these are no independent sample of one population, and the interval is open.

    Args:
        population: Of the whole sample.
        half_samples: Eigenvalues of b half-samples, shape (b, h).
        ranks: Window of the fit.
        half_counts: Samples in each half.
        half_groups: Images, or groups of images, from which the halves were drawn.
        level: Nominal coverage.

    Returns:
        AlphaInterval.

    Raises:
        SpectrumError: fewer than two half-samples or another number of counts, a level outside (0, 1), a window beyond the rank
            of a half-sample, or eigenvalues that are not finite, negative beyond rounding or not in order.

    Source: Politis & Romano 1994, Ann. Stat. 22(4).
    """
    window = Window.of(ranks)
    halves, within = checked_halves(half_samples, half_counts, window, level=level, caller="alpha_interval")
    alpha = population.exponent(window)
    fitted = population.fitted
    moves, misfit = fitted.moves_of(halves, degrees=float(np.mean(half_counts)) - 1, within=within)
    moved = fitted.moved_by(moves)
    weights = fitted.slope(window)
    by_gains = float(weights @ (fitted.of_gains() - fitted.coefficients))
    between = float((moved @ weights).var(ddof=1))
    variance = between + float(weights @ fitted.prior @ weights) + by_gains**2
    misfit = max(population.misfit, misfit)
    stderr, note, reach = math.sqrt(variance), objection(population, misfit), math.inf
    if not note:
        freedom = degrees_of_freedom(len(halves), half_groups) * (variance / between) ** 2 if between else math.inf
        reach = float(stdtrit(freedom, (1 + level) / 2)) * stderr
    return AlphaInterval(alpha, alpha - reach, alpha + reach, stderr, misfit, level, window.ranks, note)


def checked_halves(
    half_samples: Numbers, half_counts: Sequence[int], window: Window, *, level: float, caller: str
) -> tuple[np.ndarray, int]:
    """Eigenvalues of half-samples that suffice for a window, shape (b, h), and the lowest of their ranks."""
    if not 0 < level < 1:
        raise SpectrumError(f"{caller}: `level` must lie between 0 and 1; got {level}. Pass for example 0.95.")
    halves = as_numbers(half_samples, caller=caller, what="`half_samples`").to("cpu", torch.float64)
    if halves.ndim != 2 or len(halves) < 2 or len(halves) != len(half_counts):
        raise SpectrumError(
            f"{caller}: at least 2 half-samples are needed, with a count for each; got {len(half_counts)} counts for shape "
            f"{tuple(halves.shape)}. Measure with half_samples=20."
        )
    for half in halves:
        checked_eigenvalues(half, caller=f"{caller}, half-sample")
    within = min(int((halves > halves[:, :1] * 1e-12).sum(1).min()), min(half_counts) - 2)
    if window.last > within:
        raise SpectrumError(
            f"{caller}: `ranks` {window} must end at {within} or below, the numerical rank of half of the images. "
            "Lower the last rank or pass more images."
        )
    return halves.numpy(), within


def objection(population: PopulationSpectrum, misfit: float) -> str:
    """Why these images are no independent sample of one population, else ""."""
    reason = population.gains.objection
    if not reason and misfit > UNLIKE:
        reason = (
            f"no smooth spectrum explains theirs and that of their halves (misfit {misfit:.0f}, where {UNLIKE:.0f} is the most)"
        )
    if not reason:
        return ""
    return (
        f"{population.name}: alpha of the population is not determined by these {population.n_samples} samples: {reason}. If "
        f"{TOGETHER}; steps in the spectrum, and units that respond to few of the images, have this effect too."
    )


@checked(SpectrumError)
def stimulus_curve(
    activations: Numbers,
    *,
    counts: Sequence[int],
    ranks: Ranks,
    mask: Tensor | np.ndarray | None = None,
    groups: Numbers | Sequence[int] | None = None,
    repeats: int = 10,
    seed: int = 0,
    population: bool = True,
) -> pd.DataFrame:
    """Exponent against the number of images: are there enough of them?

    Args:
        activations: Shape (n_images, ...), any float dtype; flattened into units.
        counts: Numbers of images to try, each at most n_images; of sets of images, where there are ``groups``.
        ranks: Window of the fit.
        mask: For activations (n_images, n_positions, n_units): which positions are samples, shape (n_images, n_positions). What
            it leaves out, such as padding, may be NaN.
        groups: Numbers from 0 on of the sets of images that belong together, shape (n_images,).
        repeats: Random subsets (without replacement) for each count, 2 at least; one where the count is n_images.
        seed: Seed of the subsets.
        population: Also the exponents of the population, which take most of the time.

    Returns:
        Table with columns count, alpha (mean of the plain fit over subsets), alpha_stderr (standard error of the fit to count
        images), and with ``population`` alpha_population (mean of the corrected exponent) and population_stderr. Subsets of the
        same images overlap, and agree more than as many fresh images would: the standard error is their standard deviation over
        sqrt(1 - count / n_images), as of a delete-d jackknife; NaN where the count is n_images.

    Raises:
        SpectrumError: activations that are masked, not floating point or not finite; no counts, one that is not a whole number,
            exceeds the images there are, or is too small for the window; fewer than 2 repeats.

    Source: Jiang et al. 2020, section III.B (k >= 2000 images suffice); standard errors: Shao and Wu, A general theory for
    jackknife variance estimation (1989).
    """
    window = Window.of(ranks)
    rows, sets = _rows_and_sets(activations, mask, groups)
    total = int(sets.max()) + 1 if len(sets) else 0
    whole = len(counts) > 0 and all(count == count // 1 for count in counts)
    if not whole or max(counts) > total or min(counts) < window.last + 2:
        raise SpectrumError(
            f"stimulus_curve: `counts` must be whole numbers between {window.last + 2} (for ranks {window}) and {total}, the "
            f"{'images' if groups is None else 'sets of images'} given; got {list(counts)}. Change the counts or the window."
        )
    if repeats < 2:
        raise SpectrumError(f"stimulus_curve: `repeats` must be at least 2, for a standard error; got {repeats}.")
    gram, alone = gram_of_rows([rows]), mask is None and groups is None
    scale = float(rows[0].abs().max())
    dealt = torch.from_numpy(deal(sets.numpy(), n_groups=GROUPS, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    table = []
    for count in map(int, counts):
        plain, corrected = [], []
        for _ in range(1 if count == total else repeats):
            chosen = torch.zeros(total, dtype=torch.bool)
            chosen[torch.randperm(total, generator=generator)[:count]] = True
            members = chosen[sets].nonzero()[:, 0].to(gram.device)
            n_samples = len(members)
            values, _, gains, _ = of_gram(sub_gram(gram, members), dealt=None if alone else dealt[members.cpu()])
            values = values[: min(n_samples - 1, rows.shape[1])]
            plain.append(fit_power_law(values, ranks=window).alpha)
            if population:
                values = values.where(values > (torch.finfo(rows.dtype).eps * scale) ** 2, 0.0)
                found = population_spectrum(values, n_samples=n_samples, n_features=rows.shape[1], gains=gains)
                corrected.append(found.exponent(window))
        row = {"count": count, "alpha": float(np.mean(plain)), "alpha_stderr": _stderr_of_subsets(plain, count, total)}
        if population:
            row |= {"alpha_population": float(np.mean(corrected))}
            row |= {"population_stderr": _stderr_of_subsets(corrected, count, total)}
        table.append(row)
    return pd.DataFrame(table)


def _rows_and_sets(
    activations: Numbers, mask: Tensor | np.ndarray | None, groups: Numbers | Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """Samples by units, and the number of the set of images that each belongs to, without gaps."""
    caller = "stimulus_curve"
    samples = as_numbers(activations, caller=caller, what="activations")
    if samples.ndim < (2 if mask is None else 3) or not samples.is_floating_point():
        shape = "(n_images, ...)" if mask is None else "(n_images, n_positions, n_units)"
        raise SpectrumError(
            f"{caller}: activations must be floating-point numbers of shape {shape}; got {samples.dtype} of shape "
            f"{tuple(samples.shape)}."
        )
    sets = torch.arange(len(samples)) if groups is None else checked_groups(groups, len(samples), name=caller)
    if mask is None:
        rows = samples.flatten(1)
    else:
        rows, sets = unmasked(samples.flatten(2), mask, sets, name=caller)
        rows = rows.squeeze(1)
    if wrong := int((~torch.isfinite(rows)).sum()):
        raise SpectrumError(
            f"{caller}: activations must be finite; got {wrong} NaN or infinite values of shape {tuple(rows.shape)}."
        )
    return rows, sets.unique(return_inverse=True)[1]


def _stderr_of_subsets(values: Sequence[float], count: int, total: int) -> float:
    """Standard error of a statistic of ``count`` images, from its values on random subsets of ``total``."""
    return float(np.std(values, ddof=1)) / math.sqrt(1 - count / total) if count < total else math.nan
