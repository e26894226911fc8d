"""Whether tensors in a file are those that were written: bytes change on disks and on the way."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

CHECKSUM = "crc32"
"""Name under which a file holds its checksum."""


def checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """CRC-32 of named tensors and texts, whatever their order.

    Args:
        tensors: Name to tensor.
        texts: Name to text.

    Returns:
        Eight hexadecimal digits.
    """
    value = 0
    for name in sorted(texts):
        value = zlib.crc32(f"{name}\0{texts[name]}\0".encode(), value)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        value = zlib.crc32(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(), value)
        if tensor.numel():
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
