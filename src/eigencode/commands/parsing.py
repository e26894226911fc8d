"""Texts of options: windows, names, numbers. Nothing heavy is imported here."""

from __future__ import annotations

from eigencode._arguments import shown
from eigencode._grammar import MOST_NUMBERS, names_in, numbers_in
from eigencode.errors import SpectrumError, UsageError
from eigencode.spectra.window import Ranks, Window


def parse_ranks(text: Ranks) -> Window:
    """A window by its name, or by two ranks such as ``6-50``.

    Raises:
        UsageError: no such window.
    """
    try:
        return Window.of(text)
    except SpectrumError as error:
        raise UsageError(str(error)) from None


def parse_names(text: str, option: str) -> list[str]:
    """Names that were separated by commas.

    Raises:
        UsageError: none, or one is missing.
    """
    try:
        if names := names_in(text):
            return names
    except ValueError:
        pass
    raise UsageError(f"--{option} must be a name, or several separated by commas; got {text!r}.")


def parse_numbers(given: str | float | list[float], option: str) -> list[float]:
    """Numbers, fractions and ranges that were separated by commas.

    Raises:
        UsageError: something else, a negative number, or more than a thousand.
    """
    try:
        numbers = numbers_in(given)
        if numbers and min(numbers) >= 0:
            return numbers
    except ValueError:
        pass
    raise UsageError(
        f"--{option} must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, "
        f"{MOST_NUMBERS} at most; got {shown(given)}."
    )


def parse_whole(given: int | str | list[int] | None, option: str) -> list[int]:
    """Whole numbers that were separated by commas; none if nothing is given.

    Raises:
        UsageError: something else.
    """
    if given is None:
        return []
    try:
        numbers = numbers_in(given)
        if all(number == int(number) for number in numbers):
            return [int(number) for number in numbers]
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--{option} must be whole numbers, separated by commas; got {shown(given)}.")
