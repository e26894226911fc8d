"""What jsonargparse says of a wrong value, without Python's words."""

from __future__ import annotations

import difflib
import re

_LONGEST, _LONGEST_VALUE = 500, 100

_EXPECTED = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'tuple'>": "a list",
    "<class 'str'>": "a text",
    "<class 'bool'>": "true or false",
}

_KINDS = {
    **_EXPECTED,
    "number": "a number",
    "str": "a text",
    "null": "null",
    "<class 'NoneType'>": "null",
    "list[str]": "a list of texts",
    "list[float]": "a list of numbers",
    "collections.abc.Mapping[str, float]": "layers and their numbers",
    "tuple[int, int]": "two whole numbers",
}
"""Types as jsonargparse writes them -> in words."""


def plain_message(error: str) -> tuple[str, str]:
    """The field that is wrong, empty if it is not told; and what was expected and what was given."""
    text = re.sub(r"Problem with given class_path '[^']*':", "", " ".join(error.split()))
    place = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    text = re.sub(r'Parser key "[^"]+":\s*', "", text).strip().removeprefix(": ")
    if text.startswith("Unexpected config:"):
        return "config", f"expected options, such as seed: 1; got{text.partition(':')[2] or ' an empty file'}"
    if unknown := re.search(r"Group '([^']+)' does not accept option '([^']+)'", text):
        return f"{place}.{unknown[1]}.{unknown[2]}", "a study has no such field. See its fields with: eigencode study show demo"
    if re.search(r"does not accept option '(blocks|sources|title)\b", text):
        return (
            "config",
            "expected options of the command; got a study. Give its file in place of a name: eigencode study run FILE",
        )
    if union := re.search(
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors:.*Given value: (.*)$", text
    ):
        kinds = re.split(r", (?![^\[]*\])", union[1])
        expected = sorted({_kind_in_words(kind) for kind in kinds}, key=lambda kind: (kind == "null", kind))  # versions differ
        return place, f"expected {' or '.join(expected)}; got {_given(union[2])}"[:_LONGEST]
    if single := re.search(r"Expected an? (typing.Literal\[[^\]]*\]|<class '\w+'>)\. Got value: (.*)$", text):
        return place, f"expected {_kind_in_words(single[1])}; got {_given(single[2])}{_meant(single[2], single[1])}"
    for python, words in _EXPECTED.items():
        text = text.replace(f"a {python}", words).replace(python, words.removeprefix("a "))
    return place, text[:_LONGEST]


def _kind_in_words(kind: str) -> str:
    if choices := _choices(kind):
        return f"one of {', '.join(choices)}"
    return _KINDS.get(kind, kind)


def _given(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _choices(kind: str) -> list[str]:
    return re.findall(r"'([^']*)'", kind) if kind.startswith("typing.Literal") else []


def _meant(given: str, kind: str) -> str:
    close = difflib.get_close_matches(given.lower(), _choices(kind), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""
