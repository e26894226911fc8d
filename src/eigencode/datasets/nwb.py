"""Recordings in NWB files: spikes of units, or fluorescence of regions, at the presentations of stimuli."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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


def read_nwb(
    path: Path, responses: str | None, stimuli: str | None, window: Sequence[float] | None
) -> tuple[Tensor, Tensor, list[str]]:
    """Responses, shape (n_presentations, n_neurons), the stimulus of each presentation, and what to know of both.

    Args:
        path: NWB file of version 2.
        responses: "units", or the name of a RoiResponseSeries.
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
            return _read(pynwb, opened.read(), path.name, (responses, stimuli, window))
    except DataError:
        raise
    except Exception as error:  # pynwb and h5py have many kinds of failure; all mean the same to the user
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise DataError(f"{path.name} cannot be read as an NWB file ({reason}). Write it again.") from None


def _check_contained(path: Path) -> None:
    """Refuses a file that refers to others, or declares more than it holds."""
    try:
        h5py = import_module("h5py")
    except ModuleNotFoundError:
        raise DataError(f"{path.name} is read with h5py and pynwb. Run: pip install 'eigencode[recordings]'.") from None
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file. Check the path.")
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
        with h5py.File(path, "r") as stored:
            stored.visititems(check)
            stored.visititems_links(check_link)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} cannot be read as an NWB file ({reason}). Write it again.") from None
    if outside:
        raise DataError(f"{path.name} refers to other files at {outside[0]}, which are not read. Export it whole.")


def _read(
    pynwb: Any, file: Any, name: str, chosen: tuple[str | None, str | None, Sequence[float] | None]
) -> tuple[Tensor, Tensor, list[str]]:
    responses, stimuli, window = chosen
    table, column, shown = _presentations(file, stimuli, name)
    ids, notes = _numbered(shown, f"{table}.{column}")
    starts, stops = _times(dict(_tables(file))[table], window, table, name)
    series = {each.name: each for each in file.all_children() if isinstance(each, pynwb.ophys.RoiResponseSeries)}
    responses = _chosen(responses, [*([_UNITS] if _has_spikes(file) else []), *series], name)
    if responses == _UNITS:
        found = _spike_rates(file.units, starts, stops)
        what = "spikes per second of"
    else:
        found = _means(series[responses], starts, stops, name)
        what = f"mean {responses} of"
    when = "from start to stop" if window is None else f"from {window[0]:g} to {window[1]:g} s after the start"
    notes.insert(0, f"{what} {found.shape[1]} neurons, {when} of each presentation in {table}")
    return torch.from_numpy(found), ids, notes


def _chosen(responses: str | None, kinds: list[str], name: str) -> str:
    """The responses that are asked for, or the only ones that there are."""
    if responses in kinds:
        return str(responses)
    if responses is None and len(kinds) == 1:
        return kinds[0]
    if not kinds:
        raise DataError(f"{name}: it has neither units with spikes nor a RoiResponseSeries. Save responses as an array.")
    asked = f"there are no responses {responses!r}" if responses else "several responses may be meant"
    raise DataError(f"{name}: {asked}; got {', '.join(kinds)}. Name one of these with --recording_variable.")


def _tables(file: Any) -> list[tuple[str, Any]]:
    """Tables of presentations, and their names."""
    tables = {"trials": file.trials, "epochs": file.epochs, **(file.intervals or {})}
    return [(name, table) for name, table in tables.items() if table is not None and name != "invalid_times" and len(table)]


def _presentations(file: Any, stimuli: str | None, name: str) -> tuple[str, str, Array]:
    """Table and column of the stimuli, and what the column holds."""
    columns = {
        f"{table}.{column}": (table, column)
        for table, found in _tables(file)
        for column in found.colnames
        if column not in (*_NEEDED, "tags", "timeseries")
    }
    if stimuli is None:
        fitting = [key for key, (_, column) in columns.items() if column in _COLUMNS]
    else:
        fitting = [key for key, (_, column) in columns.items() if stimuli in (key, column)]
    if len(fitting) != 1:
        which = f"{len(fitting)} columns may be meant" if fitting else "no column is"
        listed = ", ".join(fitting or columns) or "none; there is no table of presentations"
        raise DataError(
            f"{name}: a column must say which stimulus each presentation was, and {which} {stimuli or 'known by its name'}; got "
            f"{listed}. Name one with --recording_stimuli, such as trials.stimulus_id."
        )
    table, column = columns[fitting[0]]
    return table, column, np.asarray(dict(_tables(file))[table][column][:])


def _numbered(shown: Array, column: str) -> tuple[Tensor, list[str]]:
    """Stimuli as whole numbers: those of the column, or the order of its texts."""
    if shown.ndim == 1 and shown.dtype.kind in "iub":
        return torch.from_numpy(shown.astype(np.int64)), []
    if shown.ndim == 1 and shown.dtype.kind == "f" and bool((shown == shown.round()).all()):
        return torch.from_numpy(shown.astype(np.int64)), []
    if shown.ndim != 1 or not all(isinstance(each, str | bytes) for each in shown.tolist()):
        raise DataError(f"{column} must hold whole numbers or texts, one for each presentation. Name another column.")
    texts = np.array([each.decode() if isinstance(each, bytes) else each for each in shown.tolist()])
    names, numbers = np.unique(texts, return_inverse=True)
    note = f"stimuli are numbered from 0 in the alphabetical order of {column}: {names[0]} is 0, {names[-1]} is {len(names) - 1}"
    return torch.from_numpy(numbers.astype(np.int64)), [note]


def _times(table: Any, window: Sequence[float] | None, called: str, name: str) -> tuple[Array, Array]:
    """Seconds at which each presentation's responses begin and end."""
    starts, stops = (np.asarray(table[column][:], dtype=np.float64) for column in _NEEDED)
    if window is not None:
        starts, stops = starts + window[0], starts + window[1]
    bad = np.flatnonzero(~(stops > starts) | ~np.isfinite(starts) | ~np.isfinite(stops))
    if len(bad):
        raise DataError(
            f"{name}: presentations must end after they begin; presentation {bad[0]} of {called} lasts from {starts[bad[0]]:g} "
            f"to {stops[bad[0]]:g} s. Give the time after its start with --recording_window, such as 0.05,0.25."
        )
    return starts, stops


def _has_spikes(file: Any) -> bool:
    return file.units is not None and "spike_times" in file.units.colnames and len(file.units) > 0


def _spike_rates(units: Any, starts: Array, stops: Array) -> Array:
    """Spikes per second, shape (n_presentations, n_units); NaN where a unit was not observed."""
    found = np.empty((len(starts), len(units)))
    observed = "obs_intervals" in units.colnames
    for unit in range(len(units)):
        times = np.sort(np.asarray(units.get_unit_spike_times(unit), dtype=np.float64))
        counts = np.searchsorted(times, stops, side="left") - np.searchsorted(times, starts, side="left")
        found[:, unit] = counts / (stops - starts)
        if observed:
            intervals = np.asarray(units.get_unit_obs_intervals(unit), dtype=np.float64).reshape(-1, 2)
            inside = (intervals[:, 0] <= starts[:, None]) & (stops[:, None] <= intervals[:, 1])
            found[~inside.any(axis=1), unit] = np.nan
    return found


def _means(series: Any, starts: Array, stops: Array, name: str) -> Array:
    """Mean over the samples of each presentation, shape (n_presentations, n_regions); NaN where there are none."""
    data = np.asarray(series.data[:], dtype=np.float64)
    data = data.reshape(len(data), -1)
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64)
    else:
        times = series.starting_time + np.arange(len(data)) / series.rate
    if len(times) != len(data) or bool((np.diff(times) < 0).any()):
        raise DataError(f"{name}: {series.name} must have one time for each sample, in rising order. Write the series again.")
    first, last = np.searchsorted(times, starts, side="left"), np.searchsorted(times, stops, side="left")
    found = np.full((len(starts), data.shape[1]), np.nan)
    for place, (begin, end) in enumerate(zip(first, last, strict=True)):
        if end > begin:
            found[place] = data[begin:end].mean(axis=0)
    if bool(np.isnan(found).all()):
        raise DataError(
            f"{name}: no sample of {series.name} lies within a presentation. Give a longer time with --recording_window, such as "
            "0,1."
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
            f"recording_window must be two times in seconds after the start of a presentation, the later one second, such as "
            f"0.05,0.25; got {window}."
        )
    return float(first), float(last)
