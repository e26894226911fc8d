"""Codes of layers, batch by batch, into what collects them; and why some layers have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from eigencode import _processes
from eigencode.activations import Coded


class _Collecting(Protocol):
    """What collects the code of a layer."""

    def update(self, activations: Tensor, *, mask: Tensor | None = None, groups: Tensor | None = None) -> None: ...


C = TypeVar("C", bound=_Collecting)


class Filling(Generic[C]):
    """Accumulators of layers that are filled while a network runs.

    Args:
        metrics: Layer -> accumulator; those of layers that are lost are taken out.

    Attributes:
        lost: Layer -> why it was left out: it did not have one row for each input.
    """

    def __init__(self, metrics: dict[str, C]) -> None:
        self.metrics = metrics
        self.lost: dict[str, str] = {}
        self._seen: set[str] = set()

    def take(self, name: str, code: Coded, groups: Tensor | None, *, count: int) -> None:
        """Adds the code of one layer in one batch.

        Args:
            name: Layer.
            code: Its code.
            groups: Which inputs belong together; None if each is one of its own.
            count: Inputs of the batch.
        """
        if name in self._seen:
            self.lost[name] = "it was called more than once for a batch"
        elif code.rows is None:
            self.lost[name] = code.reason
        elif len(code.rows) != count:
            self.lost[name] = f"it gave {len(code.rows)} rows for a batch of {count} inputs"
        elif name not in self.lost:
            self.metrics[name].update(code.rows, mask=code.mask, groups=groups)
        self._seen.add(name)

    def fail(self, name: str, reason: str) -> None:
        """Leaves out a layer that was called and cannot be read."""
        self.lost[name] = reason
        self._seen.add(name)

    def end_batch(self) -> None:
        """Leaves out the layers that had no code in the batch."""
        self.lose({name: "it was not called for every batch" for name in self.metrics if name not in self._seen})
        self._seen.clear()

    def lose(self, lost: Mapping[str, str]) -> None:
        """Leaves out layers, with reasons."""
        self.lost = {**lost, **self.lost}
        for name in self.lost:
            self.metrics.pop(name, None)

    def agree(self) -> None:
        """Leaves out what another process has lost; collective."""
        for others in _processes.from_each(self.lost):
            self.lose(others)
