"""What jsonargparse says of a wrong value, without Python's words."""

from __future__ import annotations

import re

_LONGEST = 500

_KINDS = {
    "<class 'float'>": "a number",
    "<class 'int'>": "a whole number",
    "<class 'str'>": "a text",
    "number": "a number",
    "str": "a text",
    "null": "null",
    "<class 'NoneType'>": "null",
    "collections.abc.Mapping[str, float]": "layers and their numbers",
    "tuple[int, int]": "two whole numbers",
}
"""Types as jsonargparse writes them -> in words."""


def in_words(error: str) -> tuple[str, str]:
    """The field that is wrong, empty if it is not told; and what was expected and what was given."""
    text = re.sub(r"Problem with given class_path '[^']*':", "", " ".join(error.split()))
    place = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    text = re.sub(r'Parser key "[^"]+":\s*', "", text).strip().removeprefix(": ")
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
        return place, f"expected {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}; got {union[2]}"[:_LONGEST]
    for python, word in (
        ("<class 'int'>", "whole number"),
        ("<class 'float'>", "number"),
        ("<class 'tuple'>", "list"),
        ("<class 'str'>", "text"),
        ("a <class 'bool'>", "true or false"),
    ):
        text = text.replace(python, word)
    text = re.sub(r"typing.Literal\[([^\]]*)\]", r"value among \1", text)
    return place, text[:_LONGEST]
