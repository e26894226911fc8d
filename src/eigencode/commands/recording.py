"""The recording of a command: its spectrum, its signal, and what there is to know of them."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eigencode.commands.options import RecordingOptions
from eigencode.commands.parsing import parse_whole
from eigencode.commands.progress import progress_bar
from eigencode.datasets import Recording, join_sessions, load_nwb, load_recording, load_spontaneous
from eigencode.errors import SpectrumError, UsageError
from eigencode.measurement.summary import signal_row, summary_row
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, SignalSpectrum, cvpca, signal_spectrum
from eigencode.spectra.intervals import Interval
from eigencode.spectra.sampled_units import dimension_of_all_units
from eigencode.spectra.signal import Neurons
from eigencode.spectra.signal_laws import DOUBTFUL
from eigencode.spectra.window import Window
from eigencode.studies.results.recorded import RecordedSpectrum

_FEWEST = 3
"""Stimuli shown twice that cross-validated PCA needs."""


@dataclass(frozen=True)
class MeasuredRecording:
    """A recording and what was computed of it.

    Attributes:
        recording: The responses.
        spectrum: Cross-validated if enough stimuli were shown twice, else that of single presentations.
        signal: What repeats share, if it could be estimated.
        notes: What to know of both.
        all_neurons: Dimension in all neurons that these are a sample of, of single presentations.
    """

    recording: Recording
    spectrum: Eigenspectrum | CrossValidatedSpectrum
    signal: SignalSpectrum | None
    notes: list[str]
    all_neurons: Interval | None = None

    def rows(self, ranks: Window) -> list[dict[str, Any]]:
        """Rows of ``summary_row``: of the spectrum, and of the signal."""
        return [summary_row(self.spectrum, ranks), *([signal_row(self.signal)] if self.signal else [])]

    def beside_networks(self) -> RecordedSpectrum:
        """What figures of studies draw."""
        nothing = Interval(math.nan, math.nan, math.nan)
        alpha, neurons = (self.signal.alpha, self.signal.n_features) if self.signal else (nothing, 0)
        bends = self.signal is not None and self.signal.agreement < DOUBTFUL
        return RecordedSpectrum(self.recording.name, self.spectrum.eigenvalues.numpy(), alpha, neurons, bends)

    def described(self) -> dict[str, Any]:
        """As JSON values."""
        recording = self.recording
        return {
            "name": recording.name,
            "neurons": recording.presentations.shape[1],
            "stimuli": len(recording.stimulus_ids),
            "presentations": len(recording.presentations),
            "axes": list(recording.axes),
            "notes": self.notes,
            "signal": _of_signal(self.signal) if self.signal else None,
            **({"dimension_of_all_neurons": _ends_as_json(self.all_neurons)} if self.all_neurons else {}),
        }


def measured_recording(config: RecordingOptions, *, half_samples: int, seed: int) -> MeasuredRecording:
    """Reads and measures the recording of a configuration.

    Args:
        config: The recording, and how it is read.
        half_samples: Halves of the stimuli for intervals, where none was shown twice.
        seed: Seed.

    Raises:
        EigencodeError: a file that cannot be read, or responses that cannot be measured.
    """
    assert config.recording is not None
    paths = _paths(config)
    recording = join_sessions([_session(path, config) for path in paths])
    notes, twice = list(recording.notes), recording.counts >= 2
    if int(twice.sum()) < _FEWEST:
        if bool(twice.any()):
            notes.append(
                f"fewer than {_FEWEST} stimuli were shown twice, so the first presentation of each is measured, noise and all"
            )
        all_neurons = _of_all_neurons(recording, notes) if config.recording_neurons == "sampled" else None
        single = Eigenspectrum.from_activations(
            recording.repeats(1)[0], half_samples=half_samples, seed=seed, name=recording.name
        )
        return MeasuredRecording(recording, single, None, notes, all_neurons)
    if not bool(twice.all()):
        notes.append(f"{int((~twice).sum())} stimuli that were shown once are left out")
    if int(recording.counts.max()) > 2:
        notes.append("cross-validated PCA has the first two presentations of each stimulus, the signal all of them")
    crossed = cvpca(recording.repeats(2), seed=seed, name=recording.name)
    signal = _signal(recording, notes, config.recording_neurons)
    return MeasuredRecording(recording, crossed, signal, notes)


def _paths(config: RecordingOptions) -> list[str]:
    """Files of the sessions.

    Raises:
        UsageError: an empty name, or options that none of the files takes.
    """
    assert config.recording is not None
    given = config.recording
    with suppress(OSError):  # of a name that is too long for one file
        if Path(given).exists():
            return _with_options([given], config)
    paths = [path.strip() for path in given.split(",")]
    if not all(paths):
        raise UsageError(f"--recording must be a file, or several separated by commas; got {given!r}.")
    return _with_options(paths, config)


def _with_options(paths: list[str], config: RecordingOptions) -> list[str]:
    nwb = [path.lower().endswith(".nwb") for path in paths]
    if config.recording_window is not None and not any(nwb):
        raise UsageError(f"--recording_window is of NWB files; got {paths[0]}, whose presentations have no times. Leave it out.")
    for option in ("recording_axes", "recording_spontaneous"):
        if getattr(config, option) is not None and all(nwb):
            raise UsageError(f"--{option} is not of NWB files, such as {paths[0]}. Leave it out.")
    return paths


def _session(path: str, config: RecordingOptions) -> Recording:
    """The recording in one file."""
    stimuli, missing = config.recording_stimuli, config.recording_missing
    leave_out = parse_whole(config.recording_leave_out, "recording_leave_out")
    if path.lower().endswith(".nwb"):
        responses, window = config.recording_variable, config.recording_window
        return load_nwb(path, responses=responses, stimuli=stimuli, window=window, leave_out=leave_out, missing=missing)
    variable, axes = config.recording_variable, config.recording_axes
    recording = load_recording(path, variable=variable, axes=axes, stimuli=stimuli, leave_out=leave_out, missing=missing)
    if config.recording_spontaneous is None:
        return recording
    activity = load_spontaneous(path, config.recording_spontaneous)
    return recording.without_components(activity, config.recording_components)


def _of_all_neurons(recording: Recording, notes: list[str]) -> Interval | None:
    """Dimension in all neurons of which those that were shown each stimulus once are a sample."""
    try:
        found = dimension_of_all_units(recording.repeats(1)[0], name=recording.name)
    except SpectrumError as error:
        notes.append(str(error).removeprefix(f"{recording.name}: ").removesuffix("."))
        return None
    interval = Interval(found.dimension, found.low, found.high)
    notes.append(f"{_all_neurons(interval)}, noise and all")
    return interval


def _all_neurons(found: Interval) -> str:
    value = "is not determined" if math.isnan(found.value) else f"is {found.value:.1f}"
    return f"the dimension in all neurons, if these are an independent sample of them, {value} {_ends(found, digits=1)}"


def _signal(recording: Recording, notes: list[str], neurons: Neurons) -> SignalSpectrum | None:
    done = 0.0
    with progress_bar(recording.name) as progress:

        def advance(share: float) -> None:
            nonlocal done
            done += share
            progress("signal", min(100, round(100 * done)), 100)

        try:
            signal = signal_spectrum(
                recording.presentations,
                recording.stimuli,
                removed=recording.removed,
                neurons=neurons,
                name=recording.name,
                progress=advance,
            )
        except SpectrumError as error:
            notes.append(str(error).removeprefix(f"{recording.name}: ").removesuffix("."))
            return None
    if silent := recording.presentations.shape[1] - signal.n_features - recording.removed:
        notes.append(f"{silent} neurons that always give the same response are left out of the signal")
    fraction = signal.signal_fraction
    notes.append(f"{100 * fraction.value:.1f} % of the variance of single presentations repeats {_ends(fraction, 100, 1)}")
    if neurons == "sampled":
        notes.append(
            f"{_all_neurons(signal.dimension_of_all_neurons)}; intervals of the signal's exponent, dimension and share are over "
            "stimuli and neurons"
        )
    if math.isnan(signal.alpha.value):
        notes.append(f"the exponent of the signal is not determined by {signal.n_stimuli} stimuli")
    if signal.agreement < DOUBTFUL:
        notes.append(
            f"one exponent does not describe the signal over all its ranks (p = {signal.agreement:.1g}){_broken(signal)}"
        )
    return signal


def _broken(signal: SignalSpectrum) -> str:
    try:
        law = signal.broken_power_law()
    except SpectrumError:
        return ""
    return (
        f"; a broken power law has exponent {law.first.value:.2f} {_ends(law.first)} up to rank {law.rank.value:.0f} "
        f"({law.rank.low:.0f}-{law.rank.high:.0f}) and {_value(law.second)}{_ends(law.second)} beyond"
    )


def _value(exponent: Interval) -> str:
    """Nothing where it is infinite: the end of its interval says enough."""
    return f"{exponent.value:.2f} " if math.isfinite(exponent.value) else ""


def _ends(interval: Interval, scale: float = 1.0, digits: int = 2) -> str:
    low, high = (f"{scale * end:.{digits}f}" for end in (interval.low, interval.high))
    return f"({low}-{high})" if math.isfinite(interval.high) else f"(above {low})"


def _of_signal(signal: SignalSpectrum) -> dict[str, Any]:
    """Numbers of a signal; what is not determined is null, and what has no bound infinite."""
    numbers: dict[str, Any] = {"alpha": signal.alpha, "dimension": signal.dimension, "signal_fraction": signal.signal_fraction}
    if signal.moments.without_neurons is not None:
        numbers["dimension_of_all_neurons"] = signal.dimension_of_all_neurons
    try:
        law = signal.broken_power_law()
        numbers |= {"broken_first": law.first, "broken_second": law.second, "broken_rank": law.rank}
    except SpectrumError:
        pass
    found: dict[str, Any] = {name: _ends_as_json(each) for name, each in numbers.items()}
    moments = signal.moments
    found["moments"] = [moments.trace, moments.square, moments.cube, moments.fourth]
    return found | {"agreement": _json(signal.agreement), "level": signal.level}


def _ends_as_json(interval: Interval) -> dict[str, Any]:
    return {end: _json(at) for end, at in asdict(interval).items()}


def _json(value: float) -> float | str | None:
    """Null for what is not determined, and a word for what has no bound."""
    return "infinite" if math.isinf(value) else None if math.isnan(value) else value
