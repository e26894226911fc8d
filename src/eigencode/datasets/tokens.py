"""Texts as the ids of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode._inputs import LABELS
from eigencode._readers.arrays import read_arrays
from eigencode.datasets.images import random_subset, whole_labels
from eigencode.errors import DataError, FileError

IDS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True, repr=False)
class TokenSet:
    """Texts as the ids of their tokens, padded to one length.

    Attributes:
        inputs: What the network gets by name: ``input_ids``, shape (n, tokens), int64; ``attention_mask`` of that shape, 1 where
            there is a token and 0 where there is padding; and what else it takes.
        labels: Classes, shape (n,), int64, or None.
        name: Where they come from.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor | None = None
    name: str = "tokens"

    def __post_init__(self) -> None:
        """Checks shapes and types.

        Raises:
            DataError: one of them is off; the message says how to fix it.
        """
        if IDS not in self.inputs:
            raise DataError(f"{self.name}: there must be an array `{IDS}`; got {', '.join(self.inputs) or 'none'}. Rename it.")
        ids = self.inputs[IDS]
        if ids.ndim != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            kind = str(ids.dtype).removeprefix("torch.")
            raise DataError(
                f"{self.name}: `{IDS}` must be whole numbers of shape (n, tokens); got {kind} of shape {tuple(ids.shape)}. Pad "
                "texts to one length."
            )
        if 0 in ids.shape:
            raise DataError(f"{self.name}: there are no tokens; `{IDS}` has shape {tuple(ids.shape)}. Pass some.")
        for name, tensor in self.inputs.items():
            if tensor.shape[:1] != ids.shape[:1]:
                raise DataError(
                    f"{self.name}: `{name}` must have a row for each of {len(ids)} texts; got shape {tuple(tensor.shape)}."
                )
        if MASK in self.inputs:
            self._check_mask(self.inputs[MASK], ids)
        if self.labels is not None:
            whole_labels(self.labels, len(ids), name=self.name)

    def _check_mask(self, mask: Tensor, ids: Tensor) -> None:
        if mask.shape != ids.shape or not bool(((mask == 0) | (mask == 1)).all()):
            raise DataError(
                f"{self.name}: `{MASK}` must hold 1 for tokens and 0 for padding, in the shape of `{IDS}`, {tuple(ids.shape)}; "
                f"got shape {tuple(mask.shape)} and values from {float(mask.min()):g} to {float(mask.max()):g}."
            )
        if bool((empty := (mask == 0).all(dim=1)).any()):
            raise DataError(f"{self.name}: text {int(empty.nonzero()[0])} has no tokens according to `{MASK}`. Leave it out.")

    def __len__(self) -> int:
        return len(self.inputs[IDS])

    def __repr__(self) -> str:
        return f"TokenSet of {len(self)} texts of up to {self.inputs[IDS].shape[1]} tokens from {self.name}"

    @checked(DataError)
    def subset(self, count: int | None, *, seed: int = 0) -> TokenSet:
        """Some of the texts; see ``ImageSet.subset``."""
        if count is None:
            return self
        chosen = random_subset(len(self), count, seed=seed, name=self.name)
        labels = None if self.labels is None else self.labels[chosen]
        return TokenSet({name: tensor[chosen] for name, tensor in self.inputs.items()}, labels, self.name)


def load_tokens(path: Path) -> TokenSet:
    """Texts in an .npz, .safetensors or .pt file.

    Raises:
        DataError: no such file, or other arrays in it.
    """
    try:
        arrays = read_arrays(path)
    except FileError as error:
        raise DataError(f"tokens: {error}") from None
    labels = next((arrays[name] for name in LABELS if name in arrays), None)
    inputs = {
        name: tensor if tensor.is_floating_point() else tensor.to(torch.int64)
        for name, tensor in arrays.items()
        if name not in LABELS
    }
    name = f"tokens:{path}"
    if labels is not None and IDS in inputs:
        labels = whole_labels(labels.flatten() if 1 in labels.shape else labels, len(inputs[IDS]), name=name)
    return TokenSet(inputs, labels, name)
