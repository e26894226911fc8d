"""Codes in chunks of a fixed number of images, so that sums do not depend on how these came in batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from eigencode.errors import SpectrumError
from eigencode.spectra import SpectrumAccumulator

CHUNK_BYTES = 8 * 2**20
"""Least memory that is copied before it is added up: visits of a scatter matrix cost time."""

_TOKENS = 128
"""Positions for which a chunk is sized where a mask says which are samples, and batches have as many as they are padded to."""


def unlike(one: tuple[int, ...], other: tuple[int, ...]) -> str:
    """Why batches of two outlines are not one code."""
    if len(one) != len(other):
        return "some batches had a mask of its tokens, and others had none"
    what = "positions" if one[-1] == other[-1] else "units"
    numbers = (each[0] if what == "positions" else each[-1] for each in (one, other))
    return f"it had {' and '.join(map(str, numbers))} {what} in different batches"


class Gathered:
    """One layer's codes on their way into an accumulator, in chunks whose size depends on the layer alone.

    Args:
        metric: The accumulator.

    Attributes:
        failure: Why the codes cannot be measured; empty if they can.
        outline: Positions and units of each batch; units alone where a mask says which positions are samples.
    """

    def __init__(self, metric: SpectrumAccumulator) -> None:
        self.metric = metric
        self.failure = ""
        self.outline: tuple[int, ...] = ()
        self._waiting: list[tuple[Tensor, Tensor | None]] = []

    def update(self, activations: Tensor, *, mask: Tensor | None = None, groups: Tensor | None = None) -> None:
        """Copies a batch of shape (n, positions, units), and adds up all chunks that are full."""
        del groups  # each image is one of its own
        if self.failure or not len(activations):
            return
        outline = tuple(activations.shape[1:] if mask is None else activations.shape[2:])
        if self.outline and outline != self.outline:
            self.failure = unlike(self.outline, outline)
            return
        self.outline = outline
        positions, units = (activations.shape[1] if mask is None else _TOKENS), activations.shape[2]
        size = max(1, CHUNK_BYTES // (positions * units * activations.element_size()))
        self._waiting.append((activations.clone(), mask))
        while sum(len(rows) for rows, _ in self._waiting) >= size and not self.failure:
            self._add(size)

    def complete(self) -> None:
        """Adds up what waits."""
        while self._waiting and not self.failure:
            self._add(sum(len(rows) for rows, _ in self._waiting))

    def _add(self, size: int) -> None:
        """Adds up the first images, of batches with as many positions as the longest of them."""
        taken: list[tuple[Tensor, Tensor | None]] = []
        while size:
            rows, mask = self._waiting.pop(0)
            if len(rows) > size:
                self._waiting.insert(0, (rows[size:], None if mask is None else mask[size:]))
                rows, mask = rows[:size], None if mask is None else mask[:size]
            taken.append((rows, mask))
            size -= len(rows)
        try:
            masks = [mask for _, mask in taken if mask is not None]
            if not masks:
                self.metric.update(torch.cat([rows for rows, _ in taken]))
                return
            longest = max(mask.shape[1] for mask in masks)
            rows = torch.cat([pad(rows, (0, 0, 0, longest - rows.shape[1])) for rows, _ in taken])
            self.metric.update(rows, mask=torch.cat([pad(mask, (0, longest - mask.shape[1])) for mask in masks]))
        except SpectrumError as error:
            self.failure = str(error)
