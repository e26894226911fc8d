"""Tables on a terminal. Nothing heavy is imported here."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eigencode._text import printable

if TYPE_CHECKING:
    import pandas as pd


def print_rows(table: pd.DataFrame | Sequence[Mapping[str, str]], *, title: str) -> None:
    """Prints a table of text on stdout.

    Args:
        table: Table, or its rows, which have the same columns.
        title: Line above it.
    """
    rows: list[Any] = list(table) if isinstance(table, Sequence) else table.astype(object).to_dict("records")
    printed = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in rows[0] if rows else table:
        words = any(re.search(r"[^\W\d_]{3}", str(row[name])) for row in rows)
        printed.add_column(printable(name), justify="left" if words else "right", overflow="fold")
    for row in rows:
        printed.add_row(*map(printable, row.values()))
    print_plain(printed)


def print_plain(table: Table) -> None:
    """Prints a table as plain text, as wide as the terminal, or as wide as it needs where stdout is none."""
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
