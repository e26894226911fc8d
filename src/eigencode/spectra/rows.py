"""Samples that are kept as they come, and which of them belong together when images are resampled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from eigencode.spectra.covariance import gram_of_rows, sub_gram
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.resampling import GROUPS, MIN_GROUPS, deal, draw_halves
from eigencode.spectra.traces import Traces, groups_of_gram, traces_of_gram


class Rows:
    """Batches of samples (rows, positions, width), each row with the number of the set that it is resampled with.

    Args:
        room: Rows that are expected, for which one block is made; 0 if their number is not known.
    """

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.batches: list[Tensor] = []
        self.numbers: list[Tensor] = []
        self._block: Tensor | None = None

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return sum(batch.nbytes for batch in self.batches)

    def add(self, batch: Tensor, numbers: Tensor) -> None:
        """Adds a batch as it is."""
        self.batches.append(batch)
        self.numbers.append(numbers)

    def copy(self, batch: Tensor) -> Tensor:
        """A copy to keep, in one block for all rows that are expected: copies one by one would lie between what others free."""
        if not self.room:
            return batch.clone(memory_format=torch.preserve_format)
        if self._block is None:
            self._block = batch.new_empty(self.room, *batch.shape[1:])
        place = self._block[len(self) : len(self) + len(batch)]
        return place.copy_(batch) if place.shape == batch.shape and place.dtype == batch.dtype else batch.clone()

    def taken(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches with their numbers, each no longer held once it is handed over."""
        self._block = None
        while self.batches:
            yield self.batches.pop(0), self.numbers.pop(0)

    def joined(self) -> tuple[Tensor, Tensor]:
        """All samples as one batch, and their numbers; none are left."""
        batches, numbers = self.batches, self.numbers
        self.batches, self.numbers, self._block = [], [], None
        return (batches[0], numbers[0]) if len(batches) == 1 else (torch.cat(batches), torch.cat(numbers))

    def spectra(
        self, halves: int, seed: int, *, independent: bool, piece_bytes: int
    ) -> tuple[Tensor, list[tuple[Tensor, int]], Traces]:
        """Eigenvalues of the covariance by the Gram matrix, those of random halves with their numbers of samples, and traces.

        Args:
            halves: Number of halves.
            seed: Of the halves.
            independent: Whether every sample is an image of its own.
            piece_bytes: Most bytes of a working copy.
        """
        gram = gram_of_rows([batch.flatten(0, 1) for batch in self.batches], piece_bytes=piece_bytes)
        numbers, positions = torch.cat(self.numbers), self.batches[0].shape[1]
        if independent:
            traces = traces_of_gram(gram)
        else:
            dealt = torch.from_numpy(deal(numbers.numpy(), n_groups=GROUPS, seed=seed)).repeat_interleave(positions)
            traces = groups_of_gram(gram, dealt.to(gram.device)).traces(independent=False)
        eigenvalues = descending_eigenvalues(gram) / (len(gram) - 1)
        _, sets = numbers.unique(return_inverse=True)
        count = int(sets.max()) + 1
        if count < MIN_GROUPS:
            return eigenvalues, [], traces
        found = []
        for half in draw_halves(count, draws=halves, seed=seed):
            chosen = torch.zeros(count, dtype=torch.bool)
            chosen[torch.as_tensor(half)] = True
            members = chosen[sets].repeat_interleave(positions).nonzero()[:, 0].to(gram.device)
            found.append((descending_eigenvalues(sub_gram(gram, members)) / (len(members) - 1), len(members)))
        return eigenvalues, found, traces

    def __getstate__(self) -> dict[str, object]:
        """Without the room for rows that have not come."""
        return self.__dict__ | {"batches": [batch.clone() for batch in self.batches], "_block": None}
