"""Samples that are kept as they come, and which of them belong together when images are resampled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from eigencode.spectra.computing import of_gram
from eigencode.spectra.covariance import PIECE_BYTES, gram_of_rows, sub_gram
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.gains import Gains, Singles, bytes_of_singles, singles_of
from eigencode.spectra.resampling import GROUPS, MIN_GROUPS, Numbering, deal, draw_halves
from eigencode.spectra.traces import Traces


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
    def n_sets(self) -> int:
        """Images, or sets of images that belong together, of which halves are drawn."""
        return len(torch.cat(self.numbers).unique()) if self.numbers else 0

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
        self, halves: int, *, seed: int, independent: bool, room: int
    ) -> tuple[Tensor, list[tuple[Tensor, int]], Traces, Gains]:
        """Eigenvalues of the covariance by the Gram matrix, those of random halves with their sizes, traces and gains.

        Args:
            halves: Number of halves.
            seed: Of the halves.
            independent: Whether every sample is an image of its own.
            room: Most bytes of a working copy.
        """
        gram = gram_of_rows([batch.flatten(0, 1) for batch in self.batches], piece_bytes=room)
        numbers, positions = torch.cat(self.numbers), self.batches[0].shape[1]
        dealt = None
        if not independent:
            dealt = torch.from_numpy(deal(numbers.numpy(), n_groups=GROUPS, seed=seed)).repeat_interleave(positions)
        eigenvalues, traces, gains, lengths = of_gram(gram, dealt=dealt)
        _, sets = numbers.unique(return_inverse=True)
        count, order = int(sets.max()) + 1, None if lengths is None else sets[lengths.cpu().argsort(stable=True)].numpy()
        if count < MIN_GROUPS:
            return eigenvalues, [], traces, gains
        found = []
        for half in draw_halves(count, draws=halves, seed=seed, order=order):
            chosen = torch.zeros(count, dtype=torch.bool)
            chosen[torch.as_tensor(half)] = True
            members = chosen[sets].repeat_interleave(positions).nonzero()[:, 0].to(gram.device)
            found.append((descending_eigenvalues(sub_gram(gram, members)) / (len(members) - 1), len(members)))
        return eigenvalues, found, traces, gains

    def numbering(self) -> Numbering | None:
        """Of all samples, in whatever order they came; None if there are none."""
        return Numbering().followed_by(torch.cat(self.numbers).sort().values) if self.numbers else None

    def singles(self, room: int) -> Singles | None:
        """What single samples tell beside their spectrum; the samples stay as they are.

        Args:
            room: Bytes that may be taken; None is returned if these are too few.
        """
        width = self.batches[0][0].numel()
        if bytes_of_singles(len(self), width) > room // 2:
            return None
        length = max(1, min(room // 2, PIECE_BYTES) // (32 * width))
        pieces = [piece.flatten(1) for batch in self.batches for piece in batch.split(length)]
        mean = sum(piece.sum(0, dtype=torch.float64) for piece in pieces) / len(self)
        kind = torch.float64 if pieces[0].dtype == torch.float64 else torch.float32
        scale = max(float((piece - mean).abs().max()) for piece in pieces) or 1.0

        def centred(piece: Tensor) -> Tensor:
            part: Tensor = ((piece - mean) / scale).to(kind)
            return part

        def products(vectors: Tensor) -> Tensor:
            parts = vectors.to(kind).split([len(piece) for piece in pieces])
            turned = sum(centred(piece).T @ part for piece, part in zip(pieces, parts, strict=True))
            return torch.cat([centred(piece) @ turned for piece in pieces]).to(vectors)

        lengths = torch.cat([centred(piece).square().sum(1, dtype=torch.float64) for piece in pieces])
        return singles_of(lengths, products)

    def __getstate__(self) -> dict[str, object]:
        """Without the room for rows that have not come."""
        return self.__dict__ | {"batches": [batch.clone() for batch in self.batches], "_block": None}
