"""What activations must be before anything is added up."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.errors import SpectrumError


def check_shape(batch: Tensor, *, positions: bool, name: str) -> tuple[int, int]:
    """Positions and units of a batch.

    Args:
        batch: Activations.
        positions: Whether they must be (n_images, n_positions, n_units); else (n_samples, ...).
        name: What error messages call the code.

    Raises:
        SpectrumError: another shape, no units, or numbers that are not floating point.
    """
    if batch.ndim != 3 if positions else batch.ndim < 2:
        wanted = "(n_images, n_positions, n_units)" if positions else "(n_samples, ...)"
        raise SpectrumError(f"{name}: activations must have shape {wanted}; got {tuple(batch.shape)}. Reshape them.")
    if not batch.dtype.is_floating_point:
        raise SpectrumError(f"{name}: activations must be floating point; got {batch.dtype}. Convert them with .float().")
    n_positions, n_units = (batch.shape[1], batch.shape[2]) if positions else (1, batch[0:1].flatten(1).shape[1])
    if n_units == 0:
        raise SpectrumError(f"{name}: activations must have at least 1 unit; got shape {tuple(batch.shape)}.")
    return n_positions, n_units


def check_units(got: tuple[int, int], had: tuple[int, int], *, name: str) -> None:
    """Refuses a batch whose (positions, units) are not those of the first.

    Raises:
        SpectrumError: they differ.
    """
    if got != had:
        raise SpectrumError(
            f"{name}: every batch must have {had[1]} units at {had[0]} positions, as the first had; "
            f"got {got[1]} at {got[0]}. Use images of one size, and one accumulator per layer."
        )


def check_finite(batch: Tensor, *, name: str, first: int) -> None:
    """Refuses NaN and infinite values.

    Args:
        batch: Activations, shape (n, ...).
        name: What error messages call the code.
        first: Number of samples that came before.

    Raises:
        SpectrumError: there are some; it names how many and the first sample.
    """
    if torch.isfinite(batch.sum()):  # one pass; a sum that overflows is looked at more closely
        return
    bad = torch.stack([~torch.isfinite(image) for image in batch])
    if not bad.any():
        return
    sample = first + int(bad.flatten(1).any(dim=1).nonzero()[0])
    raise SpectrumError(
        f"{name}: activations must be finite; got {int(bad.sum())} NaN or infinite values in one batch, the first in "
        f"sample {sample}. Check the images and the network's weights."
    )
