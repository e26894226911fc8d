"""Names of a package that are loaded when they are first used: ``eigencode --help`` does not wait for torch."""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``, from what it imports for type checkers alone.

    Args:
        package: Name of the package, whose source has ``if TYPE_CHECKING:`` with the imports.

    Returns:
        The two.
    """
    blocks = [node for node in ast.parse(inspect.getsource(sys.modules[package])).body if isinstance(node, ast.If)]
    lines = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {each.name: str(line.module) for line in lines for each in line.names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(homes[name]), name)

    return load, lambda: list(sys.modules[package].__all__)
