"""The processes of torch.distributed: the one place that asks for a process group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from eigencode.errors import ProcessError

T = TypeVar("T")


def together() -> bool:
    """Whether this process is one of a group, perhaps of one."""
    return dist.is_available() and dist.is_initialized()


def count() -> int:
    """Processes of the group; 1 without one."""
    return dist.get_world_size() if together() else 1


def rank() -> int:
    """Number of this process within the group, from 0."""
    return dist.get_rank() if together() else 0


_PATIENCE = timedelta(minutes=5)
"""How long the others are waited for: they may still be reading their images."""


def meet(what: str) -> None:
    """Waits until all processes of the group are here; collective.

    Args:
        what: What they are to do together, as an error message calls it.

    Raises:
        ProcessError: some do not come.
    """
    if count() == 1:
        return
    try:
        work = dist.all_reduce(torch.zeros(1, device=_device()), async_op=True)
        arrived, said = work.wait(_PATIENCE), ""
    except RuntimeError as error:
        arrived, said = False, f" ({str(error).splitlines()[0][:200]})"
    if not arrived:
        raise ProcessError(
            f"{what}: not all of the {count()} processes called it within {int(_PATIENCE.total_seconds())} seconds{said}. Call "
            "it on all of them, or pass distributed=False to measure on this one alone."
        )


def largest(values: Tensor) -> Tensor:
    """Largest value of each entry over all processes, on the values' own device; collective."""
    return _reduced(values, dist.ReduceOp.MAX)


def total(values: Tensor) -> Tensor:
    """Sum of each entry over all processes, on the values' own device; collective."""
    return _reduced(values, dist.ReduceOp.SUM)


def from_each(own: T) -> list[T]:
    """What each process has, in the order of ranks, pickled: for what is small; collective."""
    found: list[Any] = [None] * count()
    if not together():
        return [own]
    dist.all_gather_object(found, own)
    return found


def tensors_of(other: int, own: Sequence[Tensor], outlines: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> list[Tensor]:
    """Tensors of one process, whose shapes and types all know; on the processor or, under NCCL, on the GPU; collective.

    Args:
        other: That process.
        own: This process's tensors, which are sent if it is that one.
        outlines: Shape and type of each of that process's tensors.

    Returns:
        That process's tensors.
    """
    device, found = _device(), list[Tensor]()
    for number, (shape, dtype) in enumerate(outlines):
        tensor = own[number].to(device).contiguous() if other == rank() else torch.empty(shape, dtype=dtype, device=device)
        if tensor.numel() and together():
            dist.broadcast(tensor.view(-1).view(torch.uint8), src=other)  # whatever the type: gloo does not know them all
        found.append(tensor)
    return found


def _device() -> torch.device:
    return torch.device("cuda" if together() and dist.get_backend() == "nccl" else "cpu")


def _reduced(values: Tensor, operation: Any) -> Tensor:
    if count() == 1:
        return values
    device = _device() if dist.get_backend() == "nccl" else values.device
    joined = values.to(device).contiguous().clone()
    dist.all_reduce(joined, operation)
    return joined.to(values.device)
