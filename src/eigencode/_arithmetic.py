"""What a block of computing leaves as it found it, and how exact its products are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Inside, float32 is float32; on leaving, the random state of the CPU and of the device is as before.

    GPUs multiply float32 convolutions in TF32 unless told otherwise, with 10 bits of mantissa: of a spectrum, everything below
    1e-6 of the largest eigenvalue would be rounding, far above the numerical floor that belongs to the type.
    """
    if device.type != "cuda":
        with torch.random.fork_rng([]):
            yield
        return
    with torch.random.fork_rng([device]), full_float32():
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 on GPUs with all its bits; the user's choice is back on leaving.

    PyTorch has two sets of flags for it, and reading the older fails where the two disagree: so both are set.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    newer = [place for place in (products, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)) if place is not None]
    flags: list[tuple[Any, str, bool | str]] = [(place, "allow_tf32", False) for place in (products, cudnn)]
    flags += [(place, "fp32_precision", "ieee") for place in newer if hasattr(place, "fp32_precision")]  # from PyTorch 2.9 on
    found = []
    for place, name, _ in flags:
        with suppress(RuntimeError):  # the user has set the newer ones alone
            found.append((place, name, getattr(place, name)))
    try:
        for place, name, exact in flags:
            setattr(place, name, exact)
        yield
    finally:
        for place, name, before in found:
            setattr(place, name, before)
