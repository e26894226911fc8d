"""Sizes of memory as they are written."""

from __future__ import annotations

import re

from eigencode._arguments import shown
from eigencode.errors import EigencodeError

_LEAST_MEMORY, _LONGEST_NUMBER = 2**20, 20


def parse_bytes(size: int | str) -> int:
    """Number of bytes in ``"4GiB"``, ``"500 MB"`` or ``1000``.

    Raises:
        EigencodeError: not a size, or less than 1 MiB.

    Example:
        >>> parse_bytes("2GiB")
        2147483648
    """
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(size), flags=re.IGNORECASE)
    if not match or len(match[1]) > _LONGEST_NUMBER:
        raise EigencodeError(f"`memory_limit` must be a number of bytes such as 4GiB or 500MB; got {shown(size)}.")
    number = int(float(match[1]) * units[(match[2] or "").lower()])
    if number < _LEAST_MEMORY:
        raise EigencodeError(f"`memory_limit` must be at least 1MiB; got {shown(size)}. Raise it.")
    return number
