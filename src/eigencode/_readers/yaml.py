"""YAML text -> plain values, of bounded size and depth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from eigencode._grammar import FRACTION, fraction_in
from eigencode._readers.files import read_text

_WORD = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_TEXTS = {"yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML takes for something else than text."""

_LONGEST = 2**20
"""Bytes of a file: a thousand times those of a shipped study."""

_DEEPEST = 40
_MOST_VALUES = 200_000


def read_yaml(path: Path) -> Any:
    """Values of a YAML file of at most 1 MiB (see ``load_yaml``).

    Args:
        path: The file.

    Returns:
        Numbers, texts, lists and dicts.

    Raises:
        FileError: no such file, no text, or too long.
        yaml.YAMLError: as of ``load_yaml``.
    """
    return load_yaml(read_text(path, most=_LONGEST))


def load_yaml(text: str) -> Any:
    """Values of a YAML document, a fraction such as 8/255 as the number that it is.

    A key that is there twice, of which YAML would take the last, is refused.

    Args:
        text: The document.

    Returns:
        Numbers, texts, lists and dicts.

    Raises:
        yaml.YAMLError: no YAML, a tag, a key twice, or values that contain themselves, are nested deeper than 40 levels, or
            become more than 200 000 when they are written out.
    """
    if _WORD.fullmatch(text) and text.lower() not in _NO_TEXTS:  # most values of a command line and a study: at once
        return text
    _check(text)
    try:
        return yaml.load(text, Loader=_EachOnce)
    except (ValueError, LookupError, AttributeError, OverflowError) as error:  # a date or a number that is none
        raise yaml.YAMLError(str(error)) from None


def dump_yaml(values: Any) -> str:
    """YAML that ``load_yaml`` reads.

    Args:
        values: Numbers, texts, lists and dicts.

    Returns:
        The document, keys in the order in which they are.
    """
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def has_tag(text: str) -> bool:
    """Whether a text that is YAML names the kind of a value, such as ``!!int ""``, which readers of YAML fall over."""
    try:
        return "!" in text and any(getattr(event, "tag", None) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return False


def _check(text: str) -> None:
    """Refuses a document whose values would have no end.

    Args:
        text: The document.

    Raises:
        yaml.YAMLError: as of ``load_yaml``.
    """
    sizes: dict[str, int] = {}
    nested: list[tuple[str | None, int]] = []  # anchors of what is open, and the values before them
    total = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        anchor = getattr(event, "anchor", None)
        if tag := getattr(event, "tag", None):
            raise _error(f"the tag {tag} is not read; write the value alone", event)
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, _ in nested):
                raise _error(f"*{anchor} contains itself", event)
            total += sizes.get(anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if anchor:
                sizes[anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            nested.append((anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            name, before = nested.pop()
            if name:
                sizes[name] = total - before
        if len(nested) > _DEEPEST:
            raise _error(f"values are nested deeper than {_DEEPEST} levels", event)
        if total > _MOST_VALUES:
            raise _error(f"aliases make more than {_MOST_VALUES} values of it", event)


def _error(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


class _EachOnce(yaml.SafeLoader):
    """Refuses a key that is there twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """See ``yaml.SafeLoader``."""
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


class _Dumper(yaml.SafeDumper):
    """Puts texts in quotes that would be read as fractions."""


_WHOLE, _NUMBER = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

for _kind in (_EachOnce, _Dumper):  # numbers are decimal: YAML 1.1 takes 1:30 for 90 and 010 for 8
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_WHOLE, _NUMBER)]
        for first, resolvers in _kind.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver("!fraction", FRACTION, list("+-0123456789"))
    _kind.add_implicit_resolver(_WHOLE, re.compile(r"[+-]?(0|[1-9][0-9_]*)$"), list("+-0123456789"))
    _kind.add_implicit_resolver(
        _NUMBER,
        re.compile(
            r"[+-]?((0|[1-9][0-9_]*)?\.[0-9_]+|(0|[1-9][0-9_]*)\.?)([eE][+-]?[0-9]+)?$|[+-]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
        ),
        list("+-.0123456789"),
    )
_EachOnce.add_constructor("!fraction", lambda _, node: fraction_in(node.value))
