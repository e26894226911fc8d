"""Random half-samples of images: which images belong together, and which halves are drawn."""

from __future__ import annotations

import numpy as np

GROUPS = 20
"""Images are dealt into at most this many groups; a half-sample is half of the groups."""

MIN_GROUPS = 4
"""With fewer there are too few different halves to speak of a spread."""


def deal(first_image: int, count: int, *, n_groups: int, seed: int) -> np.ndarray:
    """Group of each of ``count`` images that follow each other in the data.

    Every n_groups images in a row go to all groups once, in an order drawn from the seed and their place: groups differ by one
    image at most, no periodic order of the data can match them, and batches may be cut anywhere.

    Args:
        first_image: Index of the first image.
        count: Number of images.
        n_groups: Number of groups.
        seed: Any non-negative integer.

    Returns:
        Integers in 0..n_groups - 1, shape (count,).
    """
    if n_groups == 1 or count == 0:
        return np.zeros(count, dtype=np.int64)
    rounds = range(first_image // n_groups, (first_image + count - 1) // n_groups + 1)
    dealt = np.concatenate([np.random.default_rng([seed, number]).permutation(n_groups) for number in rounds])
    start = first_image % n_groups
    return dealt[start : start + count]


def draw_halves(population: int, *, draws: int, seed: int) -> list[np.ndarray]:
    """Random halves of 0..population - 1, without replacement, each sorted, shape (population // 2,)."""
    generator = np.random.default_rng(seed)
    return [np.sort(generator.permutation(population)[: population // 2]) for _ in range(draws)]
