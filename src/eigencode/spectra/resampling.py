"""Random half-samples of images: which images belong together, and which halves are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

GROUPS = 20
"""Images are dealt into at most this many groups; a half-sample is half of the groups."""

MIN_GROUPS = 4
"""With fewer there are too few different halves to speak of a spread."""


@dataclass(frozen=True)
class Numbering:
    """Whether samples are known to be images of their own: each has a number that no other has.

    Attributes:
        first: Smallest number so far.
        last: Largest number so far.
        apart: Whether numbers rose from sample to sample, or came in ranges that do not overlap.
    """

    first: int = 0
    last: int = -1
    apart: bool = True

    def followed_by(self, numbers: Tensor) -> Numbering:
        """With the numbers of a further batch."""
        if not len(numbers):
            return self
        first, last = int(numbers.min()), int(numbers.max())
        rising = len(numbers) == 1 or bool((numbers[1:] > numbers[:-1]).all())
        return Numbering.joined([self, Numbering(first, last, rising)])

    def moved(self, by: int) -> Numbering:
        """All numbers larger by so much."""
        return Numbering(self.first + by, self.last + by, self.apart)

    @classmethod
    def stacked(cls, parts: Sequence[Numbering], counts: Sequence[int]) -> Numbering:
        """Of parts that each began at 0, one after the other; counts are 0 where numbers are those of all parts together."""
        return cls.joined(part.moved(sum(counts[:place])) for place, part in enumerate(parts))

    @classmethod
    def joined(cls, parts: Iterable[Numbering]) -> Numbering:
        """Of all parts together."""
        filled = sorted((part for part in parts if part.last >= part.first), key=lambda part: part.first)
        if not filled:
            return cls()
        separate = all(left.last < right.first for left, right in pairwise(filled))
        return cls(filled[0].first, max(part.last for part in filled), separate and all(part.apart for part in filled))


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


def degrees_of_freedom(halves: int, groups: int) -> float:
    """Of a variance between random halves: few groups of images, and few halves drawn from them, both make it uncertain.

    Given the groups, halves are drawn independently; their expected variance is itself that of the groups.

    Args:
        halves: Halves that were drawn.
        groups: Images, or groups of images, from which they were drawn.
    """
    drawn, groups = halves - 1, max(1, groups - 1)
    return 1 / (1 / drawn + 1 / groups + 2 / (drawn * groups))


def draw_halves(population: int, *, draws: int, seed: int, order: np.ndarray | None = None) -> list[np.ndarray]:
    """Random halves of 0..population - 1, without replacement, each sorted, shape (population // 2,).

    Args:
        population: Members.
        draws: Halves.
        seed: Of the halves.
        order: All members; each half has one of every two neighbours. Default: halves have any members.
    """
    generator = np.random.default_rng(seed)
    if order is not None:
        pairs = order[: population // 2 * 2].reshape(-1, 2)
        return [np.sort(pairs[np.arange(len(pairs)), generator.integers(0, 2, len(pairs))]) for _ in range(draws)]
    return [np.sort(generator.permutation(population)[: population // 2]) for _ in range(draws)]
