"""Inputs batch by batch, from whatever they are given as."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, SequentialSampler

from eigencode import _processes
from eigencode._inputs import Arguments, Inputs, as_tensor, split_batch
from eigencode.activations import TokenAxis, model_device
from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.datasets.tokens import TokenSet
from eigencode.errors import DataError

_MASK = "attention_mask"
_NOT_OF_PADDING = ("global_attention_mask", "cross_attention_mask")
"""Arguments of transformers that say who attends to all, or to whom."""

_SEQUENCE = 3
"""Dimensions of (n, tokens, features)."""

Images = (
    ImageSet | TokenSet | Tensor | np.ndarray | DataLoader | Dataset | Mapping[str, Any] | tuple[Any, ...] | Iterable[Any]  # type: ignore[type-arg]
)
Perturbation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """Some of the inputs.

    Attributes:
        inputs: What the network gets.
        indices: Which inputs they are, shape (n,).
        masks: Name -> which tokens count, truth values, shape (n, tokens).
        labels: Classes, int64, shape (n,), -1 where unknown; None if none are known.
    """

    inputs: Inputs
    indices: Tensor
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None

    def rows(self, chosen: Tensor | slice) -> Batch:
        """Some of these."""
        masks = {name: mask[chosen] for name, mask in self.masks.items()}
        labels = None if self.labels is None else self.labels[chosen]
        return Batch(self.inputs.rows(chosen), self.indices[chosen], masks, labels)


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
        self.masks: tuple[str, ...] | None = None  # of the first inputs, once these were looked at
        self.unnamed = ""  # what looks like their mask, and was not named as it
        self.source: Any = DataLoader(images, reading.batch_size) if isinstance(images, Dataset) else images
        self.whole = self._whole(images)
        self.count = len(self.whole.indices) if self.whole else _length(self.source)
        if self.count is not None and self.count < 2:
            raise DataError(f"measure: at least 2 inputs are needed; got {self.count}. Pass more of them.")
        sampler: Any = getattr(self.source, "sampler", None)
        self.dealt = (sampler.rank, sampler.num_replicas) if hasattr(sampler, "num_replicas") else (0, 1)
        parallel = reading.split and self.dealt[1] == 1  # else a DistributedSampler has split the images already
        self.share = (_processes.rank(), _processes.count()) if parallel else (0, 1)
        if perturbation and self.whole:
            _refuse_to_perturb(self.whole)

    def rows_of(self, axis: TokenAxis | None) -> int | None:
        """Inputs, or the tokens that count where these are the samples; None if their number is not known.

        Args:
            axis: Of a site whose tokens are its samples; None of any other.
        """
        if axis is None:
            return self.count
        mask = self.whole.masks.get(axis.masks[0]) if self.whole and axis.is_second else None
        return None if mask is None else int(mask.sum())

    def few(self) -> Iterator[Batch]:
        """Some of the first inputs, unperturbed; at first so many as no batch has, so that no other axis is taken for theirs."""
        if self.whole:
            batch = self.whole.rows(slice(self.reading.batch_size))
        else:
            with torch.random.fork_rng([]):  # a DataLoader draws a seed whenever it is iterated
                read = (self._read(piece, 0) for piece in self._pieces())
                first = next((each for each in read if len(each.indices)), None)
            if first is None:
                raise DataError("measure: there are no batches of inputs. Pass some.")
            batch = first
        size = len(batch.indices)
        for count in dict.fromkeys((3, 2, 1, size) if size != 3 else (2, 1, 3)):
            yield self._to_device(batch.rows(torch.arange(count) % size))

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
            try:
                yield from self.source
            except RuntimeError as error:
                if "stack expects each tensor" not in str(error):
                    raise
                raise DataError(
                    f"measure: the inputs of a batch must have one size ({str(error).splitlines()[0]}). Pass a DataLoader whose "
                    "collate_fn pads them, or resize them."
                ) from None
            return
        for start in range(0, len(self.whole.indices), self.reading.batch_size):
            yield self.whole.rows(slice(start, start + self.reading.batch_size))

    def _moved(self, batch: Batch) -> Batch:
        moved = self._to_device(batch)
        if not self.perturbation:
            return moved
        _refuse_to_perturb(batch)
        changed = self.perturbation(moved.inputs.main.clone(), batch.indices)  # the images are the caller's
        return replace(moved, inputs=Inputs.of(changed))

    def _to_device(self, batch: Batch) -> Batch:
        masks = {name: mask.to(self.device) for name, mask in batch.masks.items()}
        return replace(batch, inputs=batch.inputs.to(self.device), masks=masks)

    def _without_padding(self, batch: Batch) -> Batch:
        """Without the inputs that a DistributedSampler repeats so that all processes have equally many."""
        indices = batch.indices * self.dealt[1] + self.dealt[0]
        batch = replace(batch, indices=indices)
        return batch if self.count is None else batch.rows(indices < self.count)

    def _whole(self, images: Images) -> Batch | None:
        """All inputs, if they are not read in pieces."""
        if isinstance(images, ImageSet):
            labels = None if bool((images.labels == UNLABELLED).all()) else images.labels
            return Batch(Inputs.of(images.inputs), torch.arange(len(images)), {}, labels)
        if isinstance(images, TokenSet):
            return self._read((images.inputs, images.labels) if images.labels is not None else images.inputs, 0)
        if isinstance(images, (Tensor, np.ndarray)) and not as_tensor(images).ndim:
            raise DataError("measure: inputs must have shape (n, ...); got a single number. Pass a tensor of them.")
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
        if isinstance(self.source, list) and inputs.main.ndim == 1 and inputs.main.is_floating_point():
            raise DataError(
                f"measure: every item of a list is a batch, with a row for each input; got shape {tuple(inputs.main.shape)}. "
                "Stack single inputs with torch.stack."
            )
        masks, given = self._masks_in(piece, inputs)
        if self.masks is None:
            self.masks = given
        elif count and self.masks != given:
            raise DataError(
                f"measure: a batch has the masks {', '.join(given) or 'none'}, and the first had "
                f"{', '.join(self.masks) or 'none'}. Give all batches the same masks."
            )
        return Batch(inputs, torch.arange(start, start + count), masks, _as_labels(labels, count))

    def _masks_in(self, piece: Any, inputs: Inputs) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Masks by name, of a mapping and of arguments by position that the network calls so; and the names of those given.

        Ids without a mask are all tokens that count.
        """
        holder = piece[0] if isinstance(piece, (tuple, list)) and piece else piece
        named = {str(name): value for name, value in holder.items()} if isinstance(holder, Mapping) else {}
        named |= dict(zip(self.takes.order, inputs.args, strict=False))
        wanted = self.reading.mask
        found = masks_in(named, len(inputs), wanted)
        given = tuple(sorted(found))
        if wanted not in found:
            if wanted != Reading.mask:
                raise DataError(f"measure: the inputs hold no `{wanted}`, which is to be their mask. Check the name.")
            ids = inputs.main
            is_ids = ids.ndim == 2 and not ids.is_floating_point()
            if is_ids or ids.ndim == _SEQUENCE:
                self._refuse_unnamed(piece, ids.shape[:2])
            if is_ids and not found:
                found[wanted] = torch.ones_like(ids, dtype=torch.bool)
            self.unnamed = unnamed_mask(named, ids.shape[:2], found)
        return found, given

    def _refuse_unnamed(self, piece: Any, tokens: torch.Size) -> None:
        """Refuses tuples of sequences and something for each token that the network could take and would not get."""
        taken = max(1, self.takes.required)
        is_whole = not isinstance(piece, (tuple, list)) or isinstance(piece[0], (Mapping, tuple, list))
        others = () if is_whole else piece[taken:]
        could_take = self.takes.variadic or len(self.takes.order) > taken
        if could_take and any(getattr(other, "shape", None) == tokens for other in others):
            raise DataError(
                "measure: a batch has two parts with one number of tokens, and the network requires the first alone. Pass a "
                "mapping of its arguments by name, such as input_ids and attention_mask."
            )


def masks_in(named: Mapping[str, Any], count: int, wanted: str) -> dict[str, Tensor]:
    """Which tokens count, of arguments by name that are masks.

    Args:
        named: Arguments of a network.
        count: Inputs.
        wanted: Name of what says which tokens count; what is called an attention mask says so too.

    Raises:
        DataError: one that is no mask of the tokens of all inputs.
    """
    return {
        name: _checked_mask(value, count, name)
        for name, value in named.items()
        if name == wanted or (_MASK in name and name not in _NOT_OF_PADDING and getattr(value, "ndim", 0) == 2)
    }


def unnamed_mask(named: Mapping[str, Any], tokens: tuple[int, ...], found: Collection[str]) -> str:
    """Name of what looks like the mask of the tokens, shape (n, tokens), and was not found to be it; empty if nothing does."""
    alike = [name for name, value in named.items() if "mask" in name and tuple(getattr(value, "shape", ())) == tuple(tokens)]
    return next((name for name in alike if name not in found), "")


def _refuse_to_perturb(batch: Batch) -> None:
    if not batch.inputs.is_tensor:
        raise DataError("measure: a perturbation changes images, and these inputs are not a single tensor. Leave it out.")


def _checked_mask(given: Any, count: int, name: str) -> Tensor:
    mask = as_tensor(given)
    mask = mask.to(torch.int64) if mask.dtype in (torch.uint16, torch.uint32, torch.uint64) else mask  # which cannot be compared
    if mask.ndim != 2 or len(mask) != count:
        raise DataError(
            f"measure: `{name}` must have shape (n, tokens) with a row for each of {count} inputs; got {tuple(mask.shape)}. Pass "
            "the mask of padding."
        )
    is_token = mask != 0
    if mask.dtype != torch.bool and bool((is_token != mask).any()):
        raise DataError(f"measure: `{name}` must hold 1 for tokens and 0 for padding; got other values. Convert it.")
    if not bool(is_token.any(dim=1).all()):
        first = int((~is_token.any(dim=1)).nonzero()[0])
        raise DataError(f"measure: `{name}` leaves no token of input {first} of a batch. Leave that input out.")
    return is_token


def _length(source: Any) -> int | None:
    """Inputs behind a loader, if their number is known."""
    dataset = getattr(source, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None  # type: ignore[arg-type]


def _as_labels(labels: Any, count: int) -> Tensor | None:
    """Labels of a batch that are classes, -1 where they are negative and so of none; None of other kinds."""
    if not isinstance(labels, (Tensor, np.ndarray)):
        return None
    given = as_tensor(labels).cpu()
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (count,) or given.is_floating_point() or given.dtype == torch.bool or given.is_complex():
        return None
    return given.to(torch.int64).clamp_min(UNLABELLED)


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
    try:
        names = np.asarray(groups.cpu() if isinstance(groups, Tensor) else groups)
    except ValueError:  # of lists of other lengths
        names = np.empty((0, 0))
    if batches.count is None:
        raise DataError("measure: `groups` need inputs whose number is known. Pass them whole, or as a Dataset.")
    if names.ndim != 1 or len(names) != batches.count:
        raise DataError(
            f"measure: `groups` must name one set for each of {batches.count} inputs; got shape {names.shape}. Count them."
        )
    if isinstance(batches.source, DataLoader) and not _is_in_order(batches.source):
        raise DataError(
            "measure: `groups` are in the order of the data, and this DataLoader shuffles or chooses. Make it with shuffle=False."
        )
    if bool(pd.isna(names).any()) or (names.dtype.kind == "f" and not bool(np.isfinite(names).all())):
        raise DataError("measure: `groups` must not be missing, NaN or infinite. Name a set for each image.")
    names = names if names.dtype.kind != "O" else np.asarray([str(name) for name in names])
    return torch.as_tensor(np.unique(names, return_inverse=True)[1].astype(np.int64))
