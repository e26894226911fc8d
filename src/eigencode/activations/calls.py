"""Calls of modules in one forward pass, with the tensors that they were given and returned, and what a network gives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eigencode.activations.hooks import hooked, tensors_given, tensors_in

Key = tuple[object, ...]
"""Of a tensor's numbers: where and how they are kept, how often they were changed in place, their sum and norm."""


@dataclass(eq=False)
class Call:
    """One call of a module: tensors with their places and keys, as they were then; and the calls that it made."""

    module: str
    number: int
    given: list[tuple[str, Tensor, Key | None]]
    begun: int
    made: list[tuple[str, Tensor, Key | None]] = field(default_factory=list)
    inner: list[Call] = field(default_factory=list)
    ended: int = 0


def recorded(model: nn.Module, modules: Mapping[str, nn.Module], calls: list[Call]) -> Any:
    """Adds each call of a module when it ends. All tensors stay referenced, so that their addresses are theirs alone."""
    open_calls: list[Call] = []
    clock = itertools.count()

    def before(name: str, number: int, args: Any, kwargs: Any) -> None:
        given = [(place, tensor, key_of(tensor)) for place, tensor in tensors_given(args, kwargs)]
        open_calls.append(Call(name, number, given, next(clock)))

    def after(name: str, number: int, output: Any) -> None:
        while (call := open_calls.pop()).module != name or call.number != number:
            pass  # a call that ended with an error, which the network caught
        call.made = [(place, tensor, key_of(tensor)) for place, tensor in tensors_in(output)]
        call.ended = next(clock)
        calls.append(call)
        if open_calls:
            open_calls[-1].inner.append(call)

    return hooked(model, modules.keys(), before=before, after=after)


@torch.no_grad()
def key_of(tensor: Tensor) -> Key | None:
    """None of what has no memory of its own, or is not floating point: it is like no other."""
    if tensor.layout != torch.strided or tensor.is_nested or not tensor.is_floating_point() or not tensor.ndim:
        return None
    version = -1 if tensor.is_inference() else tensor._version
    sums = tensor.sum(dtype=torch.float64).item(), torch.linalg.vector_norm(tensor, dtype=torch.float64).item()
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel(), len(tensor), version, *sums


def scores_in(output: Any) -> Tensor | None:
    """What a network gives: its logits, if it says which these are, or the first numbers."""
    return next(iter(possible_scores(output)), None)


def possible_scores(output: Any) -> list[Tensor]:
    """All that may be the scores: the logits, if a network says which these are, or all numbers that it returns."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return [logits]
    return [tensor for _, tensor in tensors_in(output) if tensor.is_floating_point()]
