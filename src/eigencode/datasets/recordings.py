"""Neural recordings as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode._readers.arrays import read_arrays
from eigencode.errors import DataError, FileError

_FORMATS = (".npy", ".npz", ".mat")


@dataclass(frozen=True)
class Recording:
    """Responses of neurons to stimuli.

    Attributes:
        responses: Shape (n_repeats, n_stimuli, n_neurons), one or two repeats, float64.
        name: File name.
    """

    responses: Tensor
    name: str


_REMEDY = {
    True: "Transpose it.",
    False: "Average over the repeats, or keep two of them.",
}
"""Of a wrong shape, by whether an axis could be that of one or two repeats."""


@checked(DataError)
def load_recording(path: str | Path, *, variable: str | None = None) -> Recording:
    """A recording of shape (neurons, stimuli), or (repeats, neurons, stimuli) with two repeats.

    Args:
        path: .npy, .npz or .mat file; of version 7.3 with h5py (extra `recordings`).
        variable: Name of the array; default: the only numeric array with two or three dimensions.

    Returns:
        Recording.

    Raises:
        DataError: no such file or array, several that could be meant, or another shape.
    """
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise DataError(f"{path.name}: a recording must be a {', '.join(_FORMATS)} file. Convert it.")
    try:
        arrays = read_arrays(path)
    except FileError as error:
        raise DataError(str(error)) from None
    candidates = {key: value for key, value in arrays.items() if value.ndim in (2, 3) and value.numel() > 1}
    if variable is None:
        if len(candidates) != 1:
            raise DataError(
                f"{path.name}: a recording must hold one array (neurons, stimuli) or (2, neurons, stimuli); got "
                f"{', '.join(f'{k} {tuple(v.shape)}' for k, v in (candidates or arrays).items()) or 'no array of numbers'}. "
                + ("Name one with --recording_variable." if candidates else "Save one such array, outside of cells.")
            )
        variable = next(iter(candidates))
    if variable not in arrays:
        raise DataError(f"{path.name}: there is no array {variable!r}; got {', '.join(arrays) or 'none'}. Name one of these.")
    array = arrays[variable].to(torch.float64)
    if array.ndim == 2:
        array = array.unsqueeze(0)
    if array.ndim != 3 or array.shape[0] not in (1, 2):
        raise DataError(
            f"{path.name}: {variable!r} must have shape (neurons, stimuli) or (2, neurons, stimuli); got "
            f"{tuple(arrays[variable].shape)}. {_REMEDY[2 in array.shape or 1 in array.shape]}"
        )
    if bad := int((~array.isfinite()).sum()):
        _, neuron, stimulus = (~array.isfinite()).nonzero()[0].tolist()
        raise DataError(
            f"{path.name}: responses must be finite; got {bad} NaN or infinite values, the first of neuron {neuron} at stimulus "
            f"{stimulus}, counted from 0. Remove these neurons or stimuli."
        )
    if array.shape[2] > 1 and bool((array == array[..., :1]).all()):
        raise DataError(f"{path.name}: every neuron gives the same response to all stimuli, so there is no variance to measure.")
    return Recording(array.transpose(1, 2), path.name)
