"""What a block of computing leaves as it found it, and how exact its products are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Inside, float32 is float32; on leaving, the random state of the CPU and of the device is as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []), full_float32():
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 with all its bits; the user's choice is back on leaving.

    GPUs compute float32 convolutions in TF32 unless told otherwise, with 10 bits of mantissa: of a spectrum, everything below
    1e-6 of the squared activations would be rounding, far above the numerical floor that belongs to the type. PyTorch has two
    sets of flags, and reading the older fails where the two disagree: so both are set. They are the process's, not a thread's.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    places = [products, torch.backends.mkldnn, *(getattr(cudnn, name, None) for name in ("conv", "rnn"))]
    places += [getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv", "rnn")]
    newer: list[Any] = [place for place in places if hasattr(place, "fp32_precision")]  # from PyTorch 2.9 on
    with ExitStack() as stack:
        for place in newer:
            stack.callback(setattr, place, "fp32_precision", place.fp32_precision)
        with suppress(RuntimeError):  # the user has set the newer ones alone
            stack.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
        with suppress(RuntimeError):
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = False
        for place in newer:
            place.fp32_precision = "ieee"
        yield
