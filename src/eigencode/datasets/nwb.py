"""Recordings in NWB files: spikes of units, or fluorescence of regions, at the presentations of stimuli."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode._readers.files import allowed_bytes
from eigencode.errors import DataError

Array = np.ndarray[Any, Any]

_UNITS = "units"

_COLUMNS = ("stimulus_id", "stimulus_ids", "istim", "image_id", "stimulus_name", "stimulus", "image", "frame")
"""Columns that say which stimulus was shown, of which a table should have one."""

_NEEDED = ("start_time", "stop_time")
_OTHERS = (*_NEEDED, "tags", "timeseries")

_LARGEST = 2.0**53
"""Numbers from which not every whole one is exact in float64."""

_APART = 10
"""Times between neighbouring presentations that a window may last, at most: longer ones are likely to be in milliseconds."""

_LISTED = 8


@dataclass(frozen=True)
class NwbResponses:
    """Responses at presentations, as an NWB file has them.

    Attributes:
        responses: Shape (n_presentations, n_neurons), float64; NaN where there is none.
        stimuli: Number of the stimulus of each presentation, shape (n_presentations,), int64.
        names: What the file calls each stimulus, by its number; empty if it calls them by whole numbers.
        notes: What to know of how they were read.
    """

    responses: Tensor
    stimuli: Tensor
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_nwb(path: Path, responses: str | None, stimuli: str | None, window: Sequence[float] | None) -> NwbResponses:
    """Responses to each presentation.

    Args:
        path: NWB file of version 2.
        responses: "units", or the name of a RoiResponseSeries; if several have it, with that of its container and a slash before.
        stimuli: Column of a table of presentations, with the table's name and a dot before it if there are several.
        window: Seconds after the start of each presentation; default: to its end.

    Raises:
        DataError: pynwb is missing, the file cannot be read, or it does not have what is asked for.
    """
    _check_contained(path)
    try:
        pynwb = import_module("pynwb")
    except ModuleNotFoundError:
        raise DataError(f"{path.name} is read with pynwb. Run: pip install 'eigencode[recordings]'.") from None
    try:
        with warnings.catch_warnings(action="ignore"), pynwb.NWBHDF5IO(str(path), "r") as opened:
            return _read(opened.read(), responses, stimuli, window)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from None
    except Exception as error:  # pynwb and h5py have many kinds of failure; all mean the same to the user
        raise DataError(f"{path.name} cannot be read as an NWB file ({_reason(error)}). Write it again.") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__


def _check_contained(path: Path) -> None:
    """Refuses a file that refers to others, or declares more than it holds."""
    try:
        h5py = import_module("h5py")
    except ModuleNotFoundError:
        raise DataError(f"{path.name} is read with h5py and pynwb. Run: pip install 'eigencode[recordings]'.") from None
    outside: list[str] = []

    def check(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            outside.append(name)
        if isinstance(item, h5py.Dataset) and item.size and item.size * item.dtype.itemsize > allowed_bytes(path.stat().st_size):
            raise DataError(f"{path.name} declares an array of shape {item.shape}, far more than it holds. Do not use it.")

    def check_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            outside.append(name)

    try:
        if not path.is_file():
            raise DataError(f"{path} does not exist or is no file. Check the path.")
        with h5py.File(path, "r") as stored:
            stored.visititems(check)
            stored.visititems_links(check_link)
    except DataError:
        raise
    except Exception as error:  # of damaged files h5py raises whatever HDF5 stumbles over
        raise DataError(f"{path.name} cannot be read as an NWB file ({_reason(error)}). Write it again.") from None
    if outside:
        raise DataError(f"{path.name} refers to other files at {outside[0]}, which are not read. Export it whole.")


def _read(file: Any, responses: str | None, stimuli: str | None, window: Sequence[float] | None) -> NwbResponses:
    called, table, column = _presentations(file, stimuli)
    ids, names, notes = _numbered(table, column, f"{called}.{column}")
    starts, stops = _times(table, window, called)
    known = ids >= 0
    ids, starts, stops = ids[known], starts[known], stops[known]
    if bool((stops[np.argsort(starts)][:-1] > np.sort(starts)[1:] + 1e-9).any()):
        notes.append("times of neighbouring presentations overlap, so that they share responses, and their noise too")
    series = _series(file)
    chosen = _chosen(responses, [*([_UNITS] if _has_spikes(file) else []), *series])
    if chosen == _UNITS:
        found, what = _spike_rates(file.units, starts, stops), "spikes per second of"
    else:
        found, what = _means(series[chosen], starts, stops, chosen), f"mean {chosen} of"
    when = "from start to stop" if window is None else f"from {window[0]:g} to {window[1]:g} s after the start"
    notes.insert(0, f"{what} {found.shape[1]} neurons, {when} of each presentation in {called}")
    if absent := int(np.isnan(found).all(axis=1).sum()):
        notes.append(f"{absent} presentations at which nothing was recorded are left out")
    return NwbResponses(torch.from_numpy(found), torch.from_numpy(ids), names, tuple(notes))


def _series(file: Any) -> dict[str, Any]:
    """Series of fluorescence by their names, with those of their containers where several have the same name."""
    kind = import_module("pynwb.ophys").RoiResponseSeries
    found = [each for each in file.all_children() if isinstance(each, kind)]
    names = [each.name for each in found]
    found = sorted(found, key=lambda each: (each.parent.name, each.name))
    return {
        each.name if names.count(each.name) == 1 and each.name != _UNITS else f"{each.parent.name}/{each.name}": each
        for each in found
    }


def _chosen(responses: str | None, kinds: list[str]) -> str:
    """The responses that are asked for, or the only ones that there are."""
    if responses in kinds:
        return str(responses)
    if responses is None and len(kinds) == 1:
        return kinds[0]
    if not kinds:
        raise DataError("it has neither units with spikes nor a RoiResponseSeries. Save responses as an array.")
    asked = "several responses may be meant" if responses is None else f"there are no responses {responses!r}"
    raise DataError(f"{asked}; got {', '.join(kinds)}. Name one of these with --recording_variable.")


def _presentations(file: Any, stimuli: str | None) -> tuple[str, Any, str]:
    """Name of the table, the table, and its column that says which stimulus was shown."""
    tables = {"trials": file.trials, "epochs": file.epochs, **(file.intervals or {})}
    tables = {name: table for name, table in tables.items() if table is not None and name != "invalid_times" and len(table)}
    if not tables:
        raise DataError("there is no table of presentations, such as trials. Save responses as an array.")
    columns = [(name, column) for name, table in tables.items() for column in table.colnames if column not in _OTHERS]
    if not columns:
        raise DataError(f"the table {', '.join(tables)} says when, but no column says what was shown. Add such a column.")
    if stimuli is None:
        fitting = [each for each in columns if each[1] in _COLUMNS] or columns
    else:
        fitting = [each for each in columns if stimuli in (".".join(each), each[1])]
    if len(fitting) != 1:
        asked = f"there is no column {stimuli!r}" if stimuli and not fitting else "several columns may say what was shown"
        listed = [".".join(each) for each in fitting or columns]
        raise DataError(f"{asked}; got {', '.join(listed)}. Name one of these with --recording_stimuli, such as {listed[0]}.")
    table, column = fitting[0]
    return table, tables[table], column


def _numbered(table: Any, column: str, called: str) -> tuple[Array, tuple[str, ...], list[str]]:
    """Stimuli as whole numbers, -1 where there is none; their names, if these are no whole numbers."""
    try:
        shown = np.asarray(table[column][:])
    except ValueError:
        shown = np.empty((0, 0))  # of lists with different lengths
    texts = shown.ndim == 1 and all(isinstance(each, str | bytes) for each in shown.tolist())
    if shown.ndim != 1 or len(shown) != len(table) or not (texts or shown.dtype.kind in "iubf"):
        raise DataError(f"{called} must hold one number or text for each presentation. Name another column.")
    notes = []
    if texts:
        values = np.array([each.decode() if isinstance(each, bytes) else each for each in shown.tolist()])
        there = values != ""
    else:
        values, there = shown, ~np.isnan(shown.astype(np.float64))
    if missing := int((~there).sum()):
        notes.append(f"{missing} presentations without a stimulus in {called} are left out")
    if not bool(there.any()):
        raise DataError(f"{called} holds no stimulus at all. Name another column.")
    ids = np.full(len(values), -1)
    whole = not texts and bool(((values[there] == np.round(values[there])) & (np.abs(values[there]) < _LARGEST)).all())
    if whole and bool((values[there] >= 0).all()):
        ids[there] = values[there].astype(np.int64)
        return ids, (), notes
    if not texts and not bool(np.isfinite(values[there].astype(np.float64)).all()):
        raise DataError(f"{called} must hold finite numbers; got infinite ones. Name another column.")
    kinds, ids[there] = np.unique(values[there], return_inverse=True)
    names = tuple(str(each) if texts else f"{each:.17g}" for each in kinds.tolist())
    listed = ", ".join(f"{number} is {name}" for number, name in enumerate(names[:_LISTED]))
    more = ", ..." if len(names) > _LISTED else ""
    order = "alphabetical" if texts else "rising"
    notes.append(f"stimuli are numbered from 0 in the {order} order of {called}: {listed}{more}")
    return ids, names, notes


def _times(table: Any, window: Sequence[float] | None, called: str) -> tuple[Array, Array]:
    """Seconds at which each presentation's responses begin and end."""
    starts, stops = (np.asarray(table[column][:], dtype=np.float64) for column in _NEEDED)
    unknown = np.flatnonzero(~np.isfinite(starts) | (~np.isfinite(stops) if window is None else False))
    if len(unknown):
        raise DataError(
            f"presentation {unknown[0]} of {called} has no known {'start' if window else 'start or stop'}. Take it out of "
            f"the table{'' if window else ', or give the time after the start with --recording_window, such as 0.05,0.25'}."
        )
    if window is not None:
        stops, starts = starts + window[1], starts + window[0]
        between = float(np.median(np.diff(np.sort(starts)))) if len(starts) > 1 else np.inf
        if between > 0 and window[1] - window[0] > _APART * between:
            raise DataError(
                f"presentations begin {between:g} s apart, and a window from {window[0]:g} to {window[1]:g} s holds many. "
                "Give --recording_window in seconds, such as 0.05,0.25."
            )
    bad = np.flatnonzero(~(stops > starts))
    if len(bad):
        raise DataError(
            f"presentations must end after they begin; presentation {bad[0]} of {called} lasts from {starts[bad[0]]:g} to "
            f"{stops[bad[0]]:g} s. Give the time after its start with --recording_window, such as 0.05,0.25."
        )
    return starts, stops


def _has_spikes(file: Any) -> bool:
    return file.units is not None and "spike_times" in file.units.colnames and len(file.units) > 0


def _spike_rates(units: Any, starts: Array, stops: Array) -> Array:
    """Spikes per second, shape (n_presentations, n_units); NaN where a unit was not observed."""
    ends = np.asarray(units.spike_times_index.data[:], dtype=np.int64)
    all_times = np.asarray(units.spike_times_index.target.data[:], dtype=np.float64)
    if len(ends) != len(units) or bool((np.diff(ends, prepend=0) < 0).any()) or (len(ends) and ends[-1] != len(all_times)):
        raise DataError("spike_times_index does not divide spike_times among the units. Write the file again.")
    if not bool(np.isfinite(all_times).all()):
        raise DataError("spike_times must be finite; got NaN or infinite ones. Take them out of the file.")
    found = np.empty((len(starts), len(units)))
    observed = "obs_intervals" in units.colnames
    for unit, times in enumerate(np.split(all_times, ends[:-1])):
        times = np.sort(times)
        counts = np.searchsorted(times, stops, side="left") - np.searchsorted(times, starts, side="left")
        found[:, unit] = counts / (stops - starts)
        if observed:
            intervals = np.asarray(units.get_unit_obs_intervals(unit), dtype=np.float64).reshape(-1, 2)
            found[~_within(intervals, starts, stops), unit] = np.nan
    return found


def _within(intervals: Array, starts: Array, stops: Array) -> Array:
    """Which presentations lie within the intervals, shape (n, 2), of which those that touch are one."""
    if not len(intervals):
        return np.zeros(len(starts), dtype=bool)
    intervals = intervals[np.argsort(intervals[:, 0])]
    reached = np.maximum.accumulate(intervals[:, 1])
    apart = np.flatnonzero(intervals[1:, 0] > reached[:-1])
    first, last = intervals[np.r_[0, apart + 1], 0], reached[np.r_[apart, len(intervals) - 1]]
    place = np.searchsorted(first, starts, side="right") - 1
    inside: Array = (place >= 0) & (stops <= last[place])
    return inside


def _means(series: Any, starts: Array, stops: Array, called: str) -> Array:
    """Mean over the samples of each presentation, shape (n_presentations, n_regions); NaN where they do not cover it."""
    data = np.asarray(series.data[:])
    data = data[:, None] if data.ndim == 1 else data
    if data.ndim != 2 or data.dtype.kind not in "fiu" or data.shape[1] != len(series.rois):
        raise DataError(
            f"{called} must hold real numbers of shape (times, regions) for its {len(series.rois)} regions; got {data.dtype} of "
            f"shape {data.shape}. Write the series again."
        )
    data = data.astype(np.float64) * float(series.conversion or 1.0) + float(series.offset or 0.0)
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64)
    else:
        times = float(series.starting_time or 0.0) + np.arange(len(data)) / float(series.rate or np.nan)
    if len(times) != len(data) or len(times) < 2 or not bool((np.diff(times) > 0).all()):
        raise DataError(f"{called} must have one finite time for each sample, in rising order. Write the series again.")
    step = float(np.median(np.diff(times)))
    covered = (starts >= times[0] - step) & (stops <= times[-1] + step)
    first, last = np.searchsorted(times, starts, side="left"), np.searchsorted(times, stops, side="left")
    found = np.full((len(starts), data.shape[1]), np.nan)
    for place in np.flatnonzero(covered & (last > first)):
        found[place] = data[first[place] : last[place]].mean(axis=0)
    if bool(np.isnan(found).all()):
        raise DataError(
            f"no sample of {called}, one in {step:g} s, lies within a presentation. Give a longer time with --recording_window, "
            "such as 0,1."
        )
    return found


def window_in(window: str | Sequence[float] | None) -> tuple[float, float] | None:
    """Seconds after the start of each presentation: a text such as "0.05,0.25", or two numbers.

    Raises:
        DataError: something else.
    """
    if window is None:
        return None
    try:
        parts = window.split(",") if isinstance(window, str) else window
        first, last = (float(part) for part in parts)
    except (TypeError, ValueError):
        first, last = np.nan, np.nan
    if not (np.isfinite(first) and np.isfinite(last) and first < last):
        raise DataError(
            f"a window must be two times in seconds after the start of a presentation, the later one second, such as 0.05,0.25; "
            f"got {window}. Change it."
        )
    return float(first), float(last)
