"""What activations must be before anything is added up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers, as_numbers


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


def checked_groups(groups: Numbers | Sequence[int], count: int, *, name: str) -> Tensor:
    """Numbers of the sets of images that belong together, int64, on the CPU.

    Args:
        groups: One whole number from 0 on for each image.
        count: Images.
        name: What error messages call the code.

    Raises:
        SpectrumError: another length, or numbers that are not whole or negative.
    """
    numbers = as_numbers(groups, caller=name, what="`groups`").cpu()
    if numbers.shape != (count,):
        raise SpectrumError(f"{name}: `groups` must name one set for each of {count} images; got shape {tuple(numbers.shape)}.")
    whole = numbers.to(torch.int64)
    if bool((whole != numbers).any()) or bool((whole < 0).any()):
        raise SpectrumError(f"{name}: `groups` must be whole numbers from 0 on. Number the sets of images.")
    return whole


def unmasked(batch: Tensor, mask: Tensor | np.ndarray, numbers: Tensor, *, name: str) -> tuple[Tensor, Tensor]:
    """Samples that a mask leaves, shape (n_samples, 1, n_units), and the numbers of their images, shape (n_samples,).

    Args:
        batch: Activations, shape (n_images, n_positions, n_units).
        mask: As in ``checked_mask``.
        numbers: One for each image.
        name: What error messages call the code.
    """
    is_sample = checked_mask(mask, (batch.shape[0], batch.shape[1]), name=name)
    if bool(is_sample.all()):  # without a copy
        return batch.flatten(0, 1).unsqueeze(1), numbers.repeat_interleave(batch.shape[1])
    return batch[is_sample.to(batch.device)].unsqueeze(1), numbers.repeat_interleave(is_sample.sum(dim=1).cpu())


def checked_mask(mask: Tensor | np.ndarray, shape: tuple[int, int], *, name: str) -> Tensor:
    """Which positions are samples, as truth values.

    Args:
        mask: Truth values, or 0 and 1, shape (n_images, n_positions).
        shape: The shape that it must have.
        name: What error messages call the code.

    Raises:
        SpectrumError: another shape, other values, or an image without any position.
    """
    given = as_numbers(mask, caller=name, what="`mask`", truths=True)
    given = given if given.dtype == torch.bool else given.to(torch.float64)
    if tuple(given.shape) != shape:
        raise SpectrumError(
            f"{name}: `mask` must have shape {shape}, images by positions; got {tuple(given.shape)}. Pass the mask of this batch."
        )
    is_sample = given != 0
    if given.dtype != torch.bool and bool((given != is_sample).any()):
        raise SpectrumError(f"{name}: `mask` must hold 0 and 1 or truth values. Set it to 1 where a position counts.")
    if not bool(is_sample.any(dim=1).all()):
        raise SpectrumError(
            f"{name}: `mask` leaves no position of image {int((~is_sample.any(dim=1)).nonzero()[0])}. Leave it out."
        )
    return is_sample
