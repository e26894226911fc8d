"""What happens to memory that was freed: the one place that speaks to the C library's allocator."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Numbers of mallopt's parameters, from glibc's malloc.h."""

_LARGEST = 2**29
"""Bytes. Larger blocks are still given back: too much memory would be held by those that are not used again."""

_GIVEN_BACK = 2**17
"""Bytes. Inside ``freed_memory_given_back`` larger blocks come from the system itself, and return to it."""

_OWN_RULE = 2**25
"""Bytes. Blocks up to this size are kept by glibc's own rule, once one of them was freed; of these, twice as many at the end."""

_MANY = 2**16
"""Blocks that may come from the system at a time: glibc's own rule."""

_keeping = {"freed_memory": False}

_TOLD = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
"""Environment variables by which the user may have decided already."""


def keep_freed_memory() -> bool:
    """Lets this process keep the blocks of memory that it frees, up to 512 MiB each, for the next tensors.

    By default glibc asks the system for each block of more than some megabytes and gives it back when it is freed; the system
    clears every page of the next one anew, which takes longer than a convolution over the same memory. The process then holds its
    peak memory until it ends. The peak is higher, too: by a third in trainings of convolutional networks, by up to ten blocks
    where the same size is asked for again and again, since glibc before 2.38 does not always find the free block. What other
    threads than the first allocate is given back as before, and memory of a GPU is not concerned.

    Every command of ``eigencode`` does this, unless an environment variable tells glibc something else already (such as
    MALLOC_TRIM_THRESHOLD_=131072, its default). In a process of your own it is for you to decide, before the first large tensor.

    Returns:
        Whether freed memory is kept: glibc (Linux) can be told so, other C libraries are left as they are.

    Source: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.

    Example:
        >>> import eigencode as ec
        >>> kept = ec.keep_freed_memory()
    """
    library = _c_library()
    if library is None or any(name in os.environ for name in _TOLD):
        return False
    # older versions of glibc have a limit to the threshold, but not to the number of blocks
    from_heap = library.mallopt(_MMAP_THRESHOLD, _LARGEST) or library.mallopt(_MMAP_MAX, 0)
    kept = bool(library.mallopt(_TRIM_THRESHOLD, -1) and from_heap)
    _keeping.update(freed_memory=kept)
    return kept


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Inside, large blocks are given back to the system as they are freed; what was freed before is given back at both ends.

    For steps of few large blocks, each of another size: kept, or left to glibc's rule, which keeps blocks below 32 MiB once some
    were freed, they fill the memory with holes that nothing fits into. Afterwards a process that does not keep freed memory has
    that rule again as it is at its end, with 32 MiB. What the user has told glibc holds inside, too.

    Yields:
        Nothing.

    Source: mallopt(3), malloc_trim(3).
    """
    library = _c_library()
    is_set = any(name in os.environ for name in _TOLD)
    if library is not None:
        library.malloc_trim(0)
        if not is_set:
            library.mallopt(_MMAP_MAX, _MANY)
            library.mallopt(_MMAP_THRESHOLD, _GIVEN_BACK)
    try:
        yield
    finally:
        if library is not None:
            if _keeping["freed_memory"]:
                keep_freed_memory()
            elif not is_set:
                library.mallopt(_MMAP_THRESHOLD, _OWN_RULE)
                library.mallopt(_TRIM_THRESHOLD, 2 * _OWN_RULE)
            library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    """glibc, if that is the C library."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
