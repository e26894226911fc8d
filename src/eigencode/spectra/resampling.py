"""Random half-samples of images: which images belong together, and which halves are drawn."""

from __future__ import annotations

import numpy as np

GROUPS = 20
"""Images are dealt into at most this many groups; a half-sample is half of the groups."""

MIN_GROUPS = 4
"""With fewer there are too few different halves to speak of a spread."""


def deal(first_image: int, count: int, *, n_groups: int, seed: int) -> np.ndarray:
    """Group of each of ``count`` images that follow each other in the data.

    The group is a hash of the image's index and the seed (the finaliser of SplitMix64), so that no periodic order of the
    data can match it and batches may be cut anywhere.

    Args:
        first_image: Index of the first image.
        count: Number of images.
        n_groups: Number of groups.
        seed: Any non-negative integer.

    Returns:
        Integers in 0..n_groups - 1, shape (count,).
    """
    mixed = np.arange(first_image, first_image + count, dtype=np.uint64)
    mixed = (mixed + np.uint64(1 + seed % 2**31)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(n_groups)).astype(np.int64)


def draw_halves(population: int, *, draws: int, seed: int) -> list[np.ndarray]:
    """Random halves of 0..population - 1, without replacement, each sorted, shape (population // 2,)."""
    generator = np.random.default_rng(seed)
    return [np.sort(generator.permutation(population)[: population // 2]) for _ in range(draws)]
