"""Where the numbers of a monitor go: a CSV file, or whatever a user calls."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eigencode.errors import DataError

DEFAULT = "eigencode-monitor.csv"


def free_path() -> Path:
    """The default file, or the first of those with a number that does not exist."""
    path, number = Path(DEFAULT), 1
    while path.exists():
        number += 1
        path = Path(DEFAULT).with_stem(f"{Path(DEFAULT).stem}-{number}")
    return path


class CsvLog:
    """A CSV file with a row for each layer and step, whole after every step.

    Args:
        path: The file, which must not exist.
        go_on: Append to the file if it exists.

    Raises:
        DataError: the file exists, or its folder does not.
    """

    def __init__(self, path: Path, *, go_on: bool) -> None:
        self.path = path
        if path.exists() and not go_on:
            raise DataError(
                f"Monitor: `log`: {path} exists already. Name another file, or pass the step that it ends at as `start` to go on."
            )
        if not path.parent.is_dir():
            raise DataError(f"Monitor: `log`: the folder {path.parent} does not exist. Make it first.")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows, which have the same columns in every call."""
        is_new = not self.path.exists() or not self.path.stat().st_size
        columns = list(rows[0])
        if not is_new:
            with self.path.open(newline="", encoding="utf-8") as file:
                found = next(csv.reader(file), [])
            if found != columns:
                raise DataError(f"Monitor: `log`: {self.path} has other columns than this version writes. Name another file.")
        with self.path.open("a", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            if is_new:
                table.writeheader()
            table.writerows(rows)
