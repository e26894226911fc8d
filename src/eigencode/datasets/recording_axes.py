"""Which array of a file is the recording, and which of its axes is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from eigencode.errors import DataError

AXES = ("neurons", "stimuli", "repeats", "presentations")
"""What an axis can be. Presentations are stimuli in the order in which they were shown, some of them several times."""

_STIMULI = ("istim", "stimuli", "stimulus_ids", "stimulus_id")
"""Names of the vector that says which stimulus each presentation was."""

_SHORT = 3
"""Stimuli shown less often than others, from which the axis of repeats is known."""

_EXAMPLE = "such as neurons,stimuli,repeats"


def axes_in(axes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of axes as given: a text with commas, or a sequence; none if nothing is given.

    Raises:
        DataError: a name that is not in ``AXES``, or names that do not go together.
    """
    if axes is None:
        return ()
    names = tuple(name.strip() for name in axes.split(",")) if isinstance(axes, str) else tuple(axes)
    for name in names:
        if name not in AXES:
            raise DataError(
                f"recording_axes: an axis must be {', '.join(AXES[:-1])} or {AXES[-1]}; got {name!r}. Write them {_EXAMPLE}."
            )
    counts = {name: names.count(name) for name in AXES}
    if counts["neurons"] != 1 or counts["repeats"] > 1 or (counts["stimuli"] == 0) == (counts["presentations"] == 0):
        raise DataError(
            f"recording_axes must have neurons once, and stimuli (with repeats, if there are any) or presentations; got "
            f"{','.join(names)}. Write them {_EXAMPLE}, or presentations,neurons."
        )
    if counts["presentations"] and len(names) != 2:
        raise DataError(
            f"recording_axes: presentations go with neurons alone; got {','.join(names)}. Write presentations,neurons."
        )
    return names


def choose_array(arrays: Mapping[str, Tensor], *, axes: tuple[str, ...], stimuli: str | None, name: str) -> str:
    """Name of the only array that can be the recording.

    Args:
        arrays: Name to array.
        axes: Axes that were named, or none.
        stimuli: Name of the vector of stimuli, if given.
        name: What error messages call the file.

    Raises:
        DataError: none, or several.
    """
    dimensions = {len(axes)} if axes else {2, 3}
    larger = {key: array for key, array in arrays.items() if array.ndim > max(dimensions)} if not axes else {}
    found = {
        key: array
        for key, array in arrays.items()
        if array.ndim in dimensions and array.numel() > 1 and key != stimuli and key.split(".")[-1] not in _STIMULI
    }
    matrices = {key: array for key, array in found.items() if sum(extent > 1 for extent in array.shape) > 1}
    found = matrices or found
    if len(found) > 1:
        shown = {
            key: array
            for key, array in found.items()
            if (vector := _vector(arrays, key)) is not None and len(vector) in array.shape
        }
        found = shown if len(shown) == 1 else found
    if len(found) == 1 and not larger:
        return next(iter(found))
    found = larger | (matrices if larger else found)
    listed = ", ".join(f"{key} {tuple(array.shape)}" for key, array in (found or arrays).items()) or "no array of numbers"
    mend = "Name one with --recording_variable." if found else "Save one such array of real numbers, outside of cells."
    if larger:
        mend = "Name one with --recording_variable, and its axes with --recording_axes."
    if axes and not found and any(array.ndim > 1 for array in arrays.values()):
        mend = f"Name as many axes as the array has; {len(axes)} are named."
    raise DataError(
        f"{name}: a recording must hold one array of neurons and stimuli, in {' or '.join(map(str, sorted(dimensions)))} "
        f"dimensions; got {listed}. {mend}"
    )


def named_array(arrays: Mapping[str, Tensor], variable: str, *, name: str) -> Tensor:
    """The array of that name.

    Raises:
        DataError: there is none.
    """
    if variable not in arrays:
        raise DataError(f"{name}: there is no array {variable!r}; got {', '.join(arrays) or 'none'}. Name one of these.")
    return arrays[variable]


def stimuli_beside(
    arrays: Mapping[str, Tensor], variable: str, *, stimuli: str | None, axes: tuple[str, ...], name: str
) -> Tensor | None:
    """Stimulus of each presentation, shape (n_presentations,), int64; None where the array has no axis of presentations.

    Args:
        arrays: Name to array.
        variable: Name of the recording's array.
        stimuli: Name of the vector; default: one called istim, stimuli or stimulus_ids beside the array, if its length fits.
        axes: Axes that were named, or none.
        name: What error messages call the file.

    Raises:
        DataError: no such vector, another length, or numbers that are not whole.
    """
    array = arrays[variable]
    if axes and "presentations" not in axes:
        if stimuli:
            raise DataError(
                f"{name}: stimuli {stimuli!r} are those of presentations, and the axes are {','.join(axes)}. Leave one out."
            )
        return None
    vector = named_array(arrays, stimuli, name=name).flatten() if stimuli else _vector(arrays, variable)
    if vector is None or (array.ndim != 2 and not stimuli and not axes):
        if axes:
            raise DataError(
                f"{name}: nothing says which stimulus each presentation was. Name the vector with --recording_stimuli."
            )
        return None
    length = array.shape[axes.index("presentations")] if axes else None
    fits = array.ndim == 2 and (len(vector) == length if axes else len(vector) in array.shape)
    if not fits:
        raise DataError(
            f"{name}: the stimuli must be one for each presentation of an array in two dimensions; got {len(vector)} of them and "
            f"an array of shape {tuple(array.shape)}. Name another vector with --recording_stimuli, or the axes "
            "with --recording_axes."
        )
    whole = vector.to(torch.float64)
    unusable = whole[(whole != whole.round()) | (whole.abs() >= 2**53)]
    if len(unusable):
        raise DataError(f"{name}: stimuli must be whole numbers below 2^53; got {float(unusable[0]):g}. Number the stimuli.")
    return whole.to(torch.int64)


def check_unread(names: Sequence[str], variable: str, *, name: str) -> None:
    """Refuses a file in which stimuli lie beside the array, but are no numbers.

    Args:
        names: All names in the file, of arrays that hold no real numbers too.
        variable: Name of the recording's array, beside which no stimuli were read.
        name: What error messages call the file.

    Raises:
        DataError: there are such stimuli.
    """
    within = variable.rpartition(".")[0]
    for stimuli in _STIMULI:
        if (called := f"{within}.{stimuli}" if within else stimuli) in names:
            raise DataError(
                f"{name}: {called} beside {variable!r} must hold whole numbers; it holds texts or others. Number the stimuli, or "
                "name the axes with --recording_axes."
            )


def recognised_axes(array: Tensor, ids: Tensor | None, *, axes: tuple[str, ...], variable: str, name: str) -> tuple[str, ...]:
    """What each axis is: as named, or as the array shows.

    Args:
        array: The recording.
        ids: Stimulus of each presentation, if there are presentations.
        axes: Axes that were named, or none.
        variable: Name of the array.
        name: What error messages call the file.

    Raises:
        DataError: it cannot be known.
    """
    if axes:
        if len(axes) != array.ndim:
            raise DataError(
                f"{name}: {variable!r} has shape {tuple(array.shape)}, and {len(axes)} axes are named: {','.join(axes)}. Name "
                f"{array.ndim} axes."
            )
        return axes
    if ids is not None and array.shape[0] != array.shape[1]:
        return ("presentations", "neurons") if len(ids) == array.shape[0] else ("neurons", "presentations")
    if ids is None and array.ndim == 2:
        return ("neurons", "stimuli")
    if array.ndim == 3 and (shown := _shown_by_missing(array)):
        return shown
    if array.ndim == 3 and array.shape[0] in (1, 2):
        return ("repeats", "neurons", "stimuli")
    if array.ndim < 2:
        raise DataError(f"{name}: {variable!r} has one axis, and a recording needs neurons and stimuli. Name another array.")
    raise DataError(
        f"{name}: nothing says which axis of {variable!r}, of shape {tuple(array.shape)}, is which. Name them with "
        f"--recording_axes, {'presentations,neurons or neurons,presentations' if ids is not None else _EXAMPLE}."
    )


def _vector(arrays: Mapping[str, Tensor], variable: str) -> Tensor | None:
    """The vector of stimuli in the structure, or among the arrays, where the recording is."""
    within = variable.rpartition(".")[0]
    for name in _STIMULI:
        vector = arrays.get(f"{within}.{name}" if within else name)
        if vector is not None:
            return vector.flatten()
    return None


def _shown_by_missing(array: Tensor) -> tuple[str, ...] | None:
    """Axes that missing presentations show: the same for every neuron, and the last of a stimulus's repeats."""
    missing = array.isnan()
    neurons = [axis for axis in range(3) if bool((missing == missing.narrow(axis, 0, 1)).all())]
    if not bool(missing.any()) or len(neurons) != 1:
        return None
    pattern = missing.select(neurons[0], 0).to(torch.int8)
    last = [axis for axis in range(2) if bool((pattern.diff(dim=axis) >= 0).all())]
    if len(last) != 1:
        return None
    short = int(pattern.amax(last[0]).sum())  # stimuli that were shown less often
    if pattern.shape[last[0]] > pattern.shape[1 - last[0]] or short < max(_SHORT, 0.1 * pattern.shape[1 - last[0]]):
        return None  # a session that was cut short, or single missing presentations, look the same
    names = ["repeats", "stimuli"] if last[0] == 0 else ["stimuli", "repeats"]
    names.insert(neurons[0], "neurons")
    return tuple(names)
