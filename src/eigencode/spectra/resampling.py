"""Random half-samples of images: which images belong together, and which halves are drawn."""

from __future__ import annotations

import numpy as np

GROUPS = 20
"""Images are dealt into at most this many groups; a half-sample is half of the groups."""

MIN_GROUPS = 4
"""With fewer there are too few different halves to speak of a spread."""


def deal(numbers: np.ndarray, *, n_groups: int, seed: int) -> np.ndarray:
    """Group of each image, or of each set of images that belong together, by its number.

    Every n_groups consecutive numbers go to all groups once, in an order drawn from the seed and their place: groups of
    consecutive numbers differ by one at most, no periodic order of the data can match them, and batches may be cut anywhere
    and come in any order.

    Args:
        numbers: Numbers from 0, shape (count,).
        n_groups: Number of groups.
        seed: Any non-negative integer.

    Returns:
        Integers in 0..n_groups - 1, shape (count,).
    """
    if n_groups == 1 or len(numbers) == 0:
        return np.zeros(len(numbers), dtype=np.int64)
    rounds, of_round = np.unique(numbers // n_groups, return_inverse=True)
    dealt = np.stack([np.random.default_rng([seed, int(number)]).permutation(n_groups) for number in rounds])
    found: np.ndarray = dealt[of_round, numbers % n_groups]
    return found


def draw_halves(population: int, *, draws: int, seed: int) -> list[np.ndarray]:
    """Random halves of 0..population - 1, without replacement, each sorted, shape (population // 2,)."""
    generator = np.random.default_rng(seed)
    return [np.sort(generator.permutation(population)[: population // 2]) for _ in range(draws)]
