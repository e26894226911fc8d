"""Inputs batch by batch, from whatever they are given as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, SequentialSampler

from eigencode import _processes
from eigencode._codes import CodeOptions
from eigencode._inputs import Arguments, Inputs, as_tensor, split_batch
from eigencode.activations import Site, model_device
from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.datasets.tokens import TokenSet
from eigencode.errors import DataError

Images = (
    ImageSet | TokenSet | Tensor | np.ndarray | DataLoader | Dataset | Mapping[str, Any] | tuple[Any, ...] | Iterable[Any]  # type: ignore[type-arg]
)
Perturbation = Callable[[Tensor, Tensor], Tensor]

_SEQUENCE = 3
"""Dimensions of (n, tokens, features)."""


@dataclass(frozen=True)
class Batch:
    """Some of the inputs.

    Attributes:
        inputs: What the network gets.
        indices: Which inputs they are, shape (n,).
        mask: Which tokens count, truth values, shape (n, tokens); None where there are none to leave out.
        labels: Classes, int64, shape (n,), -1 where unknown; None if none are known.
    """

    inputs: Inputs
    indices: Tensor
    mask: Tensor | None = None
    labels: Tensor | None = None

    def rows(self, chosen: Tensor | slice) -> Batch:
        """Some of these."""
        mask = None if self.mask is None else self.mask[chosen]
        labels = None if self.labels is None else self.labels[chosen]
        return Batch(self.inputs.rows(chosen), self.indices[chosen], mask, labels)


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        batch_size: Inputs for each forward pass, where they do not come in batches.
        mask: Name of the mask in mappings.
        device: Where they go; default: where the network is.
        split: Under torch.distributed, take this process's share alone.
    """

    batch_size: int = 128
    mask: str = "attention_mask"
    device: torch.device | None = None
    split: bool = True


class Batches:
    """Inputs batch by batch, on the device, perturbed; this process's share of them under torch.distributed."""

    def __init__(self, model: nn.Module, images: Images, reading: Reading, perturbation: Perturbation | None = None) -> None:
        self.reading, self.perturbation = reading, perturbation
        self.device = reading.device or model_device(model)
        self.takes = Arguments.of(model)
        self.whole = self._whole(images)
        self.source: Any = DataLoader(images, reading.batch_size) if isinstance(images, Dataset) else images
        self.count = len(self.whole.indices) if self.whole else _length(self.source)
        if self.count is not None and self.count < 2:
            raise DataError(f"measure: at least 2 images are needed; got {self.count}. Pass more images.")
        self.tokens: int | None = None  # of the mask of the first inputs, once these were looked at
        sampler: Any = getattr(self.source, "sampler", None)
        self.dealt = (sampler.rank, sampler.num_replicas) if hasattr(sampler, "num_replicas") else (0, 1)
        parallel = reading.split and self.dealt[1] == 1  # else a DistributedSampler has split the images already
        self.share = (_processes.rank(), _processes.count()) if parallel else (0, 1)
        if perturbation and self.whole and not self.whole.inputs.is_tensor:
            raise DataError("measure: a perturbation changes images, and these inputs are no single tensor. Leave it out.")

    def masked_at(self, site: Site, options: CodeOptions) -> bool:
        """Whether the samples at a site are the tokens that count, and not inputs with all their positions."""
        is_sequence = len(site.shape) == _SEQUENCE and site.shape[1] == self.tokens
        return options.units == "channels" and is_sequence and options.channels != "first"

    def rows_at(self, site: Site, options: CodeOptions) -> int | None:
        """Inputs, or the tokens that count where these are the samples; None if their number is not known."""
        if not self.masked_at(site, options):
            return self.count
        return int(self.whole.mask.sum()) if self.whole and self.whole.mask is not None else None

    def few(self) -> Iterator[Inputs]:
        """Some of the first inputs, unperturbed; at first so many as no batch has, so that no other axis is taken for theirs."""
        if self.whole:
            batch = self.whole.rows(slice(self.reading.batch_size))
        else:
            with torch.random.fork_rng([]):  # a DataLoader draws a seed whenever it is iterated
                first = next(iter(self.source), None)
            if first is None:
                raise DataError("measure: there are no batches of inputs. Pass some.")
            batch = self._read(first, 0)
        self.tokens = None if batch.mask is None else batch.mask.shape[1]
        size = len(batch.inputs)
        for count in dict.fromkeys((3, 2, 1, size) if size != 3 else (2, 1, 3)):
            yield batch.inputs.rows(torch.arange(count) % size).to(self.device)

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        rank, world = self.share
        for number, piece in enumerate(self._pieces()):
            batch = piece if isinstance(piece, Batch) else self._read(piece, start)
            start += len(batch.indices)
            if self.dealt[1] > 1:
                batch = self._without_padding(batch)
            if number % world == rank and len(batch.indices):
                yield self._moved(batch)

    def _pieces(self) -> Iterator[Any]:
        if self.whole is None:
            yield from self.source
            return
        for start in range(0, len(self.whole.indices), self.reading.batch_size):
            yield self.whole.rows(slice(start, start + self.reading.batch_size))

    def _moved(self, batch: Batch) -> Batch:
        inputs = batch.inputs.to(self.device)
        if self.perturbation:
            changed = self.perturbation(inputs.main.clone(), batch.indices)  # the images are the caller's
            inputs = Inputs.of(changed)
        mask = None if batch.mask is None else batch.mask.to(self.device)
        return Batch(inputs, batch.indices, mask, batch.labels)

    def _without_padding(self, batch: Batch) -> Batch:
        """Without the inputs that a DistributedSampler repeats so that all processes have equally many."""
        indices = batch.indices * self.dealt[1] + self.dealt[0]
        batch = Batch(batch.inputs, indices, batch.mask, batch.labels)
        return batch if self.count is None else batch.rows(indices < self.count)

    def _whole(self, images: Images) -> Batch | None:
        """All inputs, if they are not read in pieces."""
        if isinstance(images, ImageSet):
            labels = None if bool((images.labels == UNLABELLED).all()) else images.labels
            return Batch(Inputs.of(images.inputs), torch.arange(len(images)), None, labels)
        if isinstance(images, TokenSet):
            return self._read((images.inputs, images.labels) if images.labels is not None else images.inputs, 0)
        if isinstance(images, (Tensor, np.ndarray)) and not as_tensor(images).ndim:
            raise DataError("measure: images must have shape (n, ...); got a single number. Pass a tensor of images.")
        if isinstance(images, (Tensor, np.ndarray, Mapping, tuple)):
            return self._read(images, 0)
        if isinstance(images, Iterator):
            raise DataError(
                f"measure: a {type(images).__name__} can be read only once, and inputs are read several times. Pass a list of "
                "batches or a DataLoader."
            )
        return None

    def _read(self, piece: Any, start: int) -> Batch:
        """A batch of whatever kind."""
        inputs, labels = split_batch(piece, self.takes)
        count = len(inputs)
        return Batch(inputs, torch.arange(start, start + count), self._mask_in(piece, inputs), _as_labels(labels, count))

    def _mask_in(self, piece: Any, inputs: Inputs) -> Tensor | None:
        holder = piece[0] if isinstance(piece, (tuple, list)) and piece else piece
        given = holder.get(self.reading.mask) if isinstance(holder, Mapping) else None
        if given is None:
            if self.reading.mask != Reading.mask:
                raise DataError(f"measure: the inputs hold no `{self.reading.mask}`, which is to be their mask. Check the name.")
            ids = inputs.main
            return torch.ones_like(ids, dtype=torch.bool) if ids.ndim == 2 and not ids.is_floating_point() else None
        mask = as_tensor(given) != 0
        if mask.ndim != 2 or len(mask) != len(inputs):
            raise DataError(
                f"measure: `{self.reading.mask}` must have shape (n, tokens) with a row for each of {len(inputs)} inputs; got "
                f"{tuple(mask.shape)}. Pass the mask of padding."
            )
        if not bool(mask.any(dim=1).all()):
            first = int((~mask.any(dim=1)).nonzero()[0])
            raise DataError(f"measure: `{self.reading.mask}` leaves no token of input {first} of a batch. Leave that input out.")
        return mask


def _length(source: Any) -> int | None:
    """Inputs behind a loader, if their number is known."""
    dataset = getattr(source, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None  # type: ignore[arg-type]


def _as_labels(labels: Any, count: int) -> Tensor | None:
    """Labels of a batch that are classes; None of other kinds."""
    if not isinstance(labels, (Tensor, np.ndarray)):
        return None
    given = as_tensor(labels).cpu()
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (count,) or given.is_floating_point() or given.dtype == torch.bool or int(given.min()) < UNLABELLED:
        return None
    return given.to(torch.int64)


def _is_in_order(loader: DataLoader[Any]) -> bool:
    """Whether a loader gives all of its data in their own order, or a process its share of that."""
    sampler: Any = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        return not sampler.shuffle
    return type(loader.batch_sampler) is BatchSampler and isinstance(sampler, SequentialSampler)


def sets_of(groups: Any, batches: Batches) -> Tensor | None:
    """Numbers, without gaps, of the sets that inputs belong to.

    Raises:
        DataError: not one for each input.
    """
    if groups is None:
        return None
    names = np.asarray(groups.cpu() if isinstance(groups, Tensor) else groups)
    if names.ndim != 1 or len(names) != batches.count:
        known = "an unknown number of" if batches.count is None else batches.count
        raise DataError(f"measure: `groups` must name one set for each of {known} images; got shape {names.shape}. Count them.")
    if isinstance(batches.source, DataLoader) and not _is_in_order(batches.source):
        raise DataError(
            "measure: `groups` are in the order of the data, and this DataLoader shuffles or chooses. Make it with shuffle=False."
        )
    if names.dtype.kind == "f" and not bool(np.isfinite(names).all()):
        raise DataError("measure: `groups` must not be NaN or infinite. Name a set for each image.")
    return torch.as_tensor(np.unique(names, return_inverse=True)[1].astype(np.int64))
