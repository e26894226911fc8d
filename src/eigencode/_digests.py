"""What names texts and tensors, and whether those in a file are what was written: bytes change on disks and on the way."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "crc32"
"""Name under which a file holds its checksum."""


_SHORT = 20


def short_digest(text: str | bytes) -> str:
    """The first 20 hexadecimal digits of a SHA-256: what names cells, groups and files."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:_SHORT]


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors, whatever their order: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


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
        tensor = tensors[name]
        value = zlib.crc32(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(), value)
        value = zlib.crc32(_bytes_of(tensor), value)
    return f"{value:08x}"


def _bytes_of(tensor: Tensor) -> memoryview | bytes:
    import torch  # not above: studies are listed and planned without it

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""
