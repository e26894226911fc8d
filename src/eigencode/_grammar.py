"""How names and numbers are written: one grammar for options, studies and Python. Nothing heavy is imported here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

MOST_NUMBERS = 1000
"""More are refused before they are listed."""

FRACTION = re.compile(r"[+-]?\d{1,18}/\d{1,18}$")


def names_in(text: str) -> list[str]:
    """Names separated by commas, each once, without the blanks around them; none of an empty text.

    Raises:
        ValueError: a comma without a name before or after it.

    Example:
        >>> names_in("conv1, fc*")
        ['conv1', 'fc*']
    """
    if not text.strip():
        return []
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ValueError("a name is missing next to a comma")
    return list(dict.fromkeys(names))


def number_in(text: str) -> float:
    """A number or a fraction, such as 0.05 or 8/255.

    Raises:
        ValueError: neither, or one that no float can hold.
    """
    return _float(_exact(text))


def numbers_in(given: str | float | Iterable[str | float]) -> list[float]:
    """Numbers from one, from several, or from a text: numbers and fractions separated by commas, and first:last:step.

    Returns:
        Floats in the order in which they were given. A range holds both of its ends, if the step leads there.

    Raises:
        ValueError: something else, or more than a thousand.

    Example:
        >>> numbers_in("0, 1/2, 1:2:0.5")
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    parts = [given] if isinstance(given, (str, float, int)) else list(given)
    found: list[Fraction] = []
    for part in (word for each in parts for word in str(each).split(",")):
        found += _range(part) if ":" in part else [_exact(part)]
        if len(found) > MOST_NUMBERS:
            raise ValueError(f"more than {MOST_NUMBERS} numbers")
    return [_float(number) for number in found]


def is_range(text: str) -> bool:
    """Whether a text is meant for a range of numbers, first:last:step."""
    return text.count(":") == 2 and not re.search(r"[^\d\s:/.eE+-]", text)


def fraction_in(text: str) -> str | float:
    """The number that a fraction such as 8/255 is; of all else, the text itself."""
    try:
        return number_in(text) if FRACTION.fullmatch(text) else text
    except ValueError:  # over zero
        return text


def _range(text: str) -> list[Fraction]:
    first, last, step = (_exact(part) for part in text.split(":"))
    if step <= 0 or last < first or (last - first) / step >= MOST_NUMBERS:
        raise ValueError(text)
    return [first + step * number for number in range(int((last - first) / step) + 1)]


def _exact(text: str) -> Fraction:
    """As it is written, so that a range ends where its text says."""
    if re.search(r"e[+-]?0*\d{4}", text.replace("_", ""), flags=re.IGNORECASE):
        raise ValueError(text)  # it would fill the memory with digits
    try:
        return Fraction(text.strip())
    except ZeroDivisionError:
        raise ValueError(f"{text} is a fraction over zero") from None


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError("a number that no float can hold") from None
