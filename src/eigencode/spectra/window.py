"""The window of a fit: which ranks it uses, and how it weights them. Nothing heavy is imported here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from eigencode._arguments import check_fields, checked, shown
from eigencode.errors import SpectrumError

Weights = Literal["equal", "inverse_rank"]

MIN_RANKS = 3
"""A line through two points has no residual, and so no standard error."""

_TWO_RANKS = re.compile(r"\s*[(\[]?\s*(\d{1,18})\s*[-–,:]\s*(\d{1,18})\s*[)\]]?\s*(?:,\s*weights\s+(equal|inverse_rank)\s*)?")


@dataclass(frozen=True)
class Window:
    """Ranks of a fit and their weights.

    Attributes:
        first: First rank, 1-based.
        last: Last rank, inclusive.
        weights: "equal" (the three papers), or "inverse_rank" for 1/n (Stringer et al. 2019).
        source: Where a named window comes from.

    Raises:
        SpectrumError: fewer than three ranks, a first rank below 1, or unknown weights.

    Example:
        >>> Window.of("stringer")
        Window(first=11, last=500, weights='inverse_rank')
        >>> print(Window.of("6-50"), Window.of((6, 50), "inverse_rank"), sep="; ")
        6-50; 6-50, weights inverse_rank
    """

    first: int
    last: int
    weights: Weights = "equal"
    source: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, SpectrumError)
        if self.first < 1 or self.last - self.first + 1 < MIN_RANKS:
            raise SpectrumError(
                f"`ranks` must start at 1 or above and hold at least {MIN_RANKS} ranks; got ({self.first}, {self.last}). "
                "Widen the window, from the lower rank to the higher."
            )

    @classmethod
    @checked(SpectrumError)
    def of(cls, ranks: Ranks, weights: Weights | None = None) -> Window:
        """A window however it was given.

        Args:
            ranks: A window, a name of ``WINDOWS``, a text such as "6-50" or "11-500, weights inverse_rank", or first and last
                rank.
            weights: Weights to use in place of the window's own, which are "equal" where none are told.

        Returns:
            Window.

        Raises:
            SpectrumError: an unknown name or weights, not two whole numbers, or fewer than three ranks.
        """
        window = ranks if isinstance(ranks, Window) else _named(ranks) if isinstance(ranks, str) else cls(*_two(ranks))
        return window if weights is None or weights == window.weights else cls(window.first, window.last, weights)

    @property
    def ranks(self) -> tuple[int, int]:
        """First and last rank."""
        return self.first, self.last

    def __str__(self) -> str:
        """Such as 6-50; with the weights where they are not equal."""
        return f"{self.first}-{self.last}" + ("" if self.weights == "equal" else f", weights {self.weights}")


Ranks: TypeAlias = Window | str | Sequence[float]

WINDOWS = {
    "jiang": Window(1, 10, source="Jiang et al. 2020, section III.B"),
    "gerum": Window(6, 50, source="Gerum et al. 2022, authors' code"),
    "schaeffer": Window(10, 316, source="Schaeffer et al. 2020, section 2.3"),
    "schaeffer_output": Window(10, 100, source="Schaeffer et al. 2020, section 2.3, ImageNet outputs"),
    "alpha_req": Window(11, 100, "inverse_rank", source="Agrawal et al. 2022 (alpha-ReQ), as their package reptrix has it"),
    "stringer": Window(11, 500, "inverse_rank", source="Stringer et al. 2019, authors' MATLAB code"),
}


def as_configured(ranks: str | tuple[int, int]) -> str | tuple[int, int]:
    """How a configuration holds a window, which is part of what names a result: two ranks in a text as two numbers."""
    match = _TWO_RANKS.fullmatch(ranks) if isinstance(ranks, str) else None
    return (int(match[1]), int(match[2])) if match and not match[3] else ranks


def _named(text: str) -> Window:
    if match := _TWO_RANKS.fullmatch(text):
        return Window(int(match[1]), int(match[2]), match[3] or "equal")  # type: ignore[arg-type]
    if text not in WINDOWS:
        raise SpectrumError(
            f"`ranks` must be first and last rank, such as 6-50, or one of {', '.join(WINDOWS)}; got {shown(text)}. "
            "Name one of these."
        )
    return WINDOWS[text]


def _two(ranks: Sequence[float]) -> tuple[int, int]:
    try:
        first, last = (int(rank) for rank in ranks)
        whole = (first, last) == tuple(ranks)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        whole = False
    if not whole:
        raise SpectrumError(
            f"`ranks` must be two whole numbers, first and last rank; got {shown(ranks)}. Pass for example (6, 50)."
        )
    return first, last
