"""The parser of options and of studies: jsonargparse, which reads values as ``load_yaml`` does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_loader

from eigencode._readers.yaml import load_yaml

_MODE = "decimal"
_MISREAD = re.compile(r"\s*[+-]?(\d[\d_]*(:[\d_.]+)+|0[xob][\da-fA-F_]+)\s*")

set_loader(_MODE, load_yaml, exceptions=(yaml.YAMLError,))


class Parser(ArgumentParser):  # type: ignore[misc]
    """A parser for which 1:30 is not 90, and 8/255 is a number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"parser_mode": _MODE, **kwargs})


def misread(kind: type, values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Texts in place of a number that jsonargparse reads as other numbers than a reader would: 1:30 as 90, 0x10 as 16.

    Args:
        kind: Dataclass of settings.
        values: What was given for it, as ``load_yaml`` reads it.
        prefix: Of its dotted names.

    Yields:
        Dotted name and text.
    """
    for name, hint in get_type_hints(kind).items() if isinstance(values, Mapping) else ():
        value, parts = values.get(name), get_args(hint) or (hint,)
        if dataclasses.is_dataclass(hint):
            yield from misread(hint, value, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif isinstance(value, str) and _MISREAD.fullmatch(value) and not {int, float}.isdisjoint(parts) and str not in parts:
            yield f"{prefix}{name}", value
