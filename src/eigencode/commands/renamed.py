"""Options that have another name now: the old one is read for one version more, with a note. Nothing heavy is imported here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eigencode._arguments import shown
from eigencode.commands.progress import tell
from eigencode.errors import ReliabilityWarning, RenamedWarning, UsageError

_NOW: dict[str, dict[str, str]] = {
    "train": {
        "penalty.target": "target",
        "penalty.strength": "beta",
        **{f"penalty.{name}": f"spectral.{name}" for name in ("layers", "ranks", "form", "solver", "degenerate")},
        "covariance.strength": "covariance",
        "covariance.kind": "covariance_kind",
        "jacobian.strength": "jacobian",
        **{f"jacobian.{name}": f"jacobian_{name}" for name in ("kind", "projections", "squared")},
    }
}


def present_words(words: Sequence[str]) -> list[str]:
    """A command line with the names that options have now."""
    now = next((_NOW[word] for word in words if word in _NOW), {})
    present = []
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in now:
            _note(f"--{name}", f"--{now[name]}")
            word = f"--{now[name]}{equals}{value}"
        present.append(word)
    return present


def present_values(command: str, given: Any) -> Any:
    """The values of a file of options under the names that options have now.

    Raises:
        UsageError: one is there under its old and its new name.
    """
    now = _NOW.get(command, {})
    if not isinstance(given, dict):
        return given
    groups = {old.partition(".")[0] for old in now}
    values = {name: value for name, value in given.items() if not (name in groups and isinstance(value, Mapping))}
    for group in groups & (given.keys() - values.keys()):
        for name, value in given[group].items():
            old = f"{group}.{name}"
            new = now.get(old, old)
            if old != new:
                _note(old, new)
            *owners, last = new.split(".")
            own = values
            for owner in owners:
                if not isinstance(own.get(owner, {}), Mapping):
                    raise UsageError(f"--config: {owner} stands for several options; got {shown(own[owner])}. Name them.")
                own[owner] = dict(own.get(owner, {}))
                own = own[owner]
            if last in own:
                raise UsageError(f"--config: {old} is now {new}, which is there too. Leave out {old}.")
            own[last] = value
    return values


@contextmanager
def told_as_notes() -> Iterator[None]:
    """Says what eigencode warns of in one line, once, and not as Python shows warnings."""
    usual, said, own = warnings.showwarning, set[str](), (RenamedWarning, ReliabilityWarning)

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, own):
            usual(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            tell(f"Note: {message}")

    with warnings.catch_warnings():
        for category in own:
            warnings.simplefilter("always", category)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _note(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name will be removed in the next version.", RenamedWarning, stacklevel=3)
