"""Names of a package that are loaded when they are first used: ``eigencode --help`` does not wait for torch."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def loader(package: str, homes: Mapping[str, str], rooms: Sequence[str] = ()) -> Callable[[str], Any]:
    """What a package uses as its ``__getattr__``.

    Args:
        package: Name of the package.
        homes: Public name -> module where it is defined.
        rooms: Modules that are public themselves.
    """

    def load(name: str) -> Any:
        if name in rooms:
            return importlib.import_module(f"{package}.{name}")
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
