"""The signal of a recording: what repeats of the same stimuli share, without the noise of any single presentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers, as_numbers
from eigencode.spectra.intervals import Interval
from eigencode.spectra.sampled_units import FEWEST, dimension_of_shares, unit_groups
from eigencode.spectra.signal_laws import (
    FEWEST_RANKS,
    UNLIKELY,
    BrokenPowerLaw,
    agreement,
    broken_power_law,
    concentration,
    error_of,
    exponent_of,
)
from eigencode.spectra.signal_moments import SignalMoments, signal_moments

Neurons = Literal["recorded", "sampled"]

_LARGEST_PART = 10
"""Neurons for each direction that was taken away, from which on they still are nearly independent."""

_FEWEST_NEURONS = 2

_LARGEST = 1e30
"""Responses above, or below its inverse, have fourth moments beyond float64."""

_ROUNDING = 1e-14
"""Variation, as a part of the largest response, that may be rounding alone."""


@dataclass(frozen=True, eq=False, repr=False)
class SignalSpectrum(Shown):
    """Moments of a signal's covariance over stimuli, and the power laws that have them.

    Attributes:
        moments: Of the signal, in squared response units and their powers.
        n_stimuli: Stimuli.
        n_presentations: Presentations of them.
        n_features: Ranks: neurons that vary, less directions that were removed.
        level: Nominal coverage of all intervals, which are over stimuli, and of alpha, dimension and signal fraction also over
            neurons if these are a sample.
        name: What error messages call the recording.
    """

    moments: SignalMoments
    n_stimuli: int
    n_presentations: int
    n_features: int
    level: float = 0.95
    name: str = "recording"

    def _shown(self) -> dict[str, object]:
        counts = {"stimuli": self.n_stimuli, "presentations": self.n_presentations, "neurons": self.n_features}
        found = {name: getattr(self, name) for name in ("alpha", "dimension", "signal_fraction")}
        return {"name": self.name, **counts, **found, "level": self.level}

    @property
    def signal_fraction(self) -> Interval:
        """Share of the variance of single presentations that repeats."""
        moments = self.moments
        whole = moments.trace / moments.total
        error = error_of(moments, lambda found: found[0] / found[5])
        low, high = (whole + reach for reach in error.reaches(self.level))
        value = whole - error.bias + error.shift  # of these neurons
        value, low, high = (min(1.0, max(0.0, each)) for each in (value, low, high))
        return Interval(value, min(low, value), max(high, value))

    @property
    def dimension(self) -> Interval:
        """Dimension of the signal, (tr S)^2 / tr S^2; NaN if the stimuli do not tell it from the number of neurons."""
        share = concentration(self.moments, self.level)
        low, value, high = (1 / min(1.0, max(each, 1 / self.n_features)) for each in (share.high, share.value, share.low))
        return Interval(value if share.value > 1 / self.n_features else math.nan, low, high)

    @property
    def dimension_of_all_neurons(self) -> Interval:
        """Dimension of the signal in infinitely many neurons of which the recorded ones are an independent sample.

        Its value is NaN, and the upper end infinite, if stimuli and neurons do not tell it from infinity.

        Raises:
            SpectrumError: the neurons were not taken for a sample.
        """
        if self.moments.without_neurons is None:
            raise SpectrumError(
                f"{self.name}: the dimension in all neurons needs an interval over neurons. Measure with neurons='sampled'."
            )
        return dimension_of_shares(concentration(self.moments, self.level, of_all=True))

    @property
    def alpha(self) -> Interval:
        """Exponent of the power law over all ranks, 1 to ``n_features``, that has the signal's dimension.

        Its value is NaN, and the lower end 0, if the stimuli do not tell the signal from one that fills all dimensions evenly.
        """
        share = concentration(self.moments, self.level)
        low, value, high = (exponent_of(each, self.n_features) for each in (share.low, share.value, share.high))
        return Interval(value if share.value > 1 / self.n_features else math.nan, low, high)

    @cached_property
    def agreement(self) -> float:
        """Probability of third and fourth moments so far from those of a power law, if the signal follows one.

        Small values say that no single exponent describes the signal; large ones that these stimuli cannot tell. It holds for
        many stimuli: with few of them, or with rare strong ones, values below 0.05 are two to five times too frequent.
        NaN where the moments are too uncertain to be compared.
        """
        return agreement(self.moments, self.n_features)

    @checked(SpectrumError)
    def broken_power_law(self) -> BrokenPowerLaw:
        """Two exponents, and the rank where they meet, from the first four moments.

        Returns:
            BrokenPowerLaw; each interval is that of the misfit with the other two parameters at their best, for breaks from
            rank 2 to the last but one and exponents from 0 to 8.

        Raises:
            SpectrumError: fewer than six neurons; a moment, or the interval of the signal's variance, that is not above 0, so
                that these stimuli do not determine the law; or moments that no such law has.
        """
        if self.n_features < FEWEST_RANKS:
            raise SpectrumError(f"{self.name}: a broken law needs {FEWEST_RANKS} neurons; got {self.n_features}. Record more.")
        found = self._broken
        if found is not None and found.misfit > UNLIKELY:
            raise SpectrumError(
                f"{self.name}: no broken power law has the moments of this signal: the best is {math.sqrt(found.misfit):.1f} "
                "standard errors away. Look at the spectrum of cross-validated PCA."
            )
        if found is None:
            raise SpectrumError(
                f"{self.name}: these stimuli do not determine a broken power law: unbiased estimates of tr S^3 and tr S^4 are "
                f"{self.moments.cube:.3g} and {self.moments.fourth:.3g}, and must stay above 0 without any one stimulus. Record "
                "more stimuli or repeats."
            )
        return found

    @cached_property
    def _broken(self) -> BrokenPowerLaw | None:
        return broken_power_law(self.moments, self.n_features, self.level)

    @property
    def eigenvalues(self) -> Tensor:
        """Of the power law with the signal's variance and exponent, shape (n_features,), squared response units.

        Raises:
            SpectrumError: the exponent is not determined.
        """
        if not math.isfinite(self.alpha.value):
            raise SpectrumError(f"{self.name}: these stimuli do not determine the exponent of the signal. Record more.")
        decay = torch.arange(1, self.n_features + 1, dtype=torch.float64) ** -self.alpha.value
        return decay * (self.moments.trace / decay.sum())


@checked(SpectrumError)
def signal_spectrum(
    responses: Numbers,
    stimuli: Numbers | None = None,
    *,
    level: float = 0.95,
    removed: int = 0,
    neurons: Neurons = "recorded",
    name: str = "recording",
    progress: Callable[[float], object] | None = None,
) -> SignalSpectrum:
    """Dimension and exponent of the signal in responses to repeated stimuli, from moments without bias by noise or few stimuli.

    Noise may have any distribution and any covariance, and may depend on the stimulus; it must be independent between
    presentations. Products in which no presentation occurs twice have the expectation of the signal alone, so that the moments of
    the signal's covariance S over stimuli are estimated without bias. If all stimuli were shown equally often, their first
    presentations are one repeat, their second ones another, and means that differ between repeats change nothing; otherwise take
    away slow drifts first. The exponent is that of the power law over all ranks that has the signal's dimension; ``agreement``
    says whether the higher moments are those of that law.

    Args:
        responses: Shape (n_repeats, n_stimuli, n_neurons), NaN in every neuron where a presentation is missing; or with
            ``stimuli`` shape (n_presentations, n_neurons).
        stimuli: Stimulus of each presentation, whole numbers, shape (n_presentations,).
        level: Nominal coverage of the intervals, which leave out one stimulus, or one group of neurons, in turn.
        removed: Directions that were taken away from the responses (see ``Recording.without_components``), which are no ranks. At
            most a tenth of the neurons if these are a sample.
        neurons: "recorded": the numbers are of these neurons, and intervals over stimuli alone. "sampled": the neurons are an
            independent sample of many; the intervals of alpha, dimension and signal fraction, whose values stay those of these
            neurons, are also over their choice, and there is a ``dimension_of_all_neurons``. It takes up to 50 times longer.
        name: What error messages call the recording.
        progress: Called with the share of the work that is done.

    Returns:
        SignalSpectrum. Stimuli that were shown once, and neurons that always give the same response, are left out.

    Raises:
        SpectrumError: fewer than eight stimuli were shown twice, values that are not finite, no signal, or fewer than eight
            neurons that are a sample.

    Source: products of distinct presentations: Chun et al. 2026, ICLR; moments of a spectrum: Kong and Valiant 2017, Ann. Stat.
    45; the question: Stringer et al. 2019.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> signal = torch.randn(500, 200, generator=generator) / torch.arange(1, 201) ** 0.5
        >>> found = signal_spectrum(signal + 0.3 * torch.randn(2, 500, 200, generator=generator))
        >>> round(found.alpha.value, 1), found.alpha.low < 1 < found.alpha.high
        (1.0, True)
    """
    if not 0 < level < 1:
        raise SpectrumError(f"{name}: `level` must lie between 0 and 1; got {level}. Pass for example 0.95.")
    if removed < 0:
        raise SpectrumError(f"{name}: `removed` directions must not be negative; got {removed}. Pass 0 if none was taken away.")
    presentations, shown = _presentations(responses, stimuli, name)
    presentations, numbers = _repeated(presentations, shown)
    n_stimuli = int(numbers[-1]) + 1 if len(numbers) else 0
    if n_stimuli < FEWEST:
        raise SpectrumError(
            f"{name}: the signal needs {FEWEST} stimuli that were shown at least twice; got {n_stimuli}. Pass more, "
            "or check which axis and which presentations are whose."
        )
    largest = float(presentations.abs().max())
    presentations = presentations - presentations.mean(0)
    varying = presentations.abs().amax(0) > _ROUNDING * largest
    n_features = int(varying.sum()) - removed
    if n_features < _FEWEST_NEURONS:
        raise SpectrumError(
            f"{name}: a dimension and an exponent need {_FEWEST_NEURONS} neurons that vary, beside directions that were "
            f"removed; got {max(0, n_features)}. Record more."
        )
    presentations = presentations[:, varying]
    if neurons == "sampled":
        _check_sample(presentations.shape[1], removed, name)
    counts = torch.bincount(numbers)
    crossed = bool((counts == counts[0]).all())
    groups = unit_groups(presentations.shape[1]) if neurons == "sampled" else None
    moments = signal_moments(presentations, numbers, crossed=crossed, groups=groups, advance=progress)
    _check_signal(moments, presentations.shape[1] * (_ROUNDING * largest) ** 2, name)
    return SignalSpectrum(moments, n_stimuli, len(numbers), n_features, level, name)


def _check_sample(n_neurons: int, removed: int, name: str) -> None:
    if n_neurons < FEWEST:
        raise SpectrumError(
            f"{name}: an interval over neurons needs {FEWEST} that vary; got {n_neurons}. Take them for recorded, not sampled."
        )
    if _LARGEST_PART * removed > n_neurons:
        raise SpectrumError(
            f"{name}: {n_neurons} neurons of which {removed} directions were taken away depend on each other, and are no sample "
            f"of many. Take them for recorded, or take away at most {n_neurons // _LARGEST_PART}."
        )


def _check_signal(moments: SignalMoments, rounding: float, name: str) -> None:
    if not moments.total > rounding:
        raise SpectrumError(f"{name}: responses must differ between stimuli; they are all the same. Check the array.")
    if not moments.trace > 0:
        raise SpectrumError(
            f"{name}: no signal was found: its variance is estimated at {moments.trace:.3g}, where single presentations vary by "
            f"{moments.total:.3g}. Check that repeats are of the same stimuli, or record more."
        )
    if not (moments.squared_trace > 0 and bool((moments.without[:2] > 0).all())):
        raise SpectrumError(
            f"{name}: the signal rests on single stimuli: without one of them its variance, {moments.trace:.3g}, or the square "
            f"of it, {moments.squared_trace:.3g}, is not above 0. Record more stimuli."
        )


def _presentations(responses: Numbers, stimuli: Numbers | None, name: str) -> tuple[Tensor, Tensor]:
    """Responses, shape (n_presentations, n_neurons), and the stimulus of each, without missing ones."""
    data = as_numbers(responses, caller=name, what="responses").to(torch.float64)
    if stimuli is None:
        if data.ndim != 3 or not data.numel():
            raise SpectrumError(
                f"{name}: responses must have shape (repeats, stimuli, neurons), or (presentations, neurons) with `stimuli`; got "
                f"{tuple(data.shape)}. Arrange them so."
            )
        shown = torch.arange(data.shape[1], device=data.device).repeat(data.shape[0])
        data = data.flatten(0, 1)
    else:
        given = as_numbers(stimuli, caller=name, what="stimuli").to(data.device)
        if data.ndim != 2 or not data.numel() or given.shape != data.shape[:1]:
            raise SpectrumError(
                f"{name}: `stimuli` must have one number for each presentation of responses (presentations, neurons); got shapes "
                f"{tuple(given.shape)} and {tuple(data.shape)}. Pass one each."
            )
        whole = given.to(torch.float64)
        if not bool(((whole == whole.round()) & (whole.abs() < 2**53)).all()):
            raise SpectrumError(f"{name}: `stimuli` must be whole numbers below 2^53; got others. Number the stimuli.")
        shown = given.to(torch.int64)
    there = ~data.isnan().all(dim=1)
    data, shown = data[there], shown[there]
    if bad := int((~data.isfinite()).sum()):
        raise SpectrumError(
            f"{name}: responses must be finite, or NaN in every neuron where a presentation is missing; got {bad} NaN or "
            "infinite values. Leave out those neurons or presentations."
        )
    largest = float(data.abs().max()) if data.numel() else 0.0
    if largest > _LARGEST:
        raise SpectrumError(f"{name}: fourth moments of responses must not overflow; got {largest:.3g}. Divide them.")
    if 0 < largest < 1 / _LARGEST:
        raise SpectrumError(f"{name}: fourth moments of responses must not underflow; got {largest:.3g}. Multiply them.")
    varying = float((data - data.mean(0)).abs().max()) if data.numel() else 0.0
    if varying <= _ROUNDING * largest:
        raise SpectrumError(f"{name}: responses must differ between presentations by more than rounding; they are all the same.")
    return data, shown


def _repeated(data: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Presentations of stimuli that were shown at least twice, sorted by stimulus; these numbered from 0."""
    _, numbers, counts = shown.unique(return_inverse=True, return_counts=True)
    kept = counts[numbers] >= 2
    data, numbers = data[kept], numbers[kept]
    order = numbers.argsort(stable=True)
    return data[order], numbers[order].unique(return_inverse=True)[1]
