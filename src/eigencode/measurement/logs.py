"""Where the numbers of a monitor go that has no function to call: a CSV file."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigencode.errors import DataError

DEFAULT = Path("eigencode-monitor.csv")


class CsvLog:
    """A CSV file with a row for each layer and step, whole after every step; the file is there from the beginning.

    Args:
        path: The file, which must not exist. Default: ``DEFAULT``, with the first number that is free if it exists.
        columns: Its columns.
        go_on: Append to the file if it exists.

    Raises:
        DataError: the file exists and is not to be appended to, has other columns, or cannot be written.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], *, go_on: bool) -> None:
        self.columns = list(columns)
        self.path = _new_default() if path is None else path
        try:
            if path is not None and not go_on:
                path.open("x").close()
            with self.path.open("a+", newline="", encoding="utf-8") as file:
                file.seek(0)
                found = next(csv.reader(file), None)
                if found is None:
                    csv.writer(file).writerow(self.columns)
        except FileExistsError:
            raise DataError(
                f"Monitor: `log`: {path} exists already. Name another file, or pass the step that it ends at as `start` to go on."
            ) from None
        except OSError as error:
            raise DataError(f"Monitor: `log`: {path} cannot be written ({error.strerror}). Name another file.") from None
        if found not in (None, self.columns):
            raise DataError(f"Monitor: `log`: {path} has other columns than this version writes. Name another file.")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows, which have all the columns."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerows(rows)


def _new_default() -> Path:
    """The default file, or the first of those with a number that did not exist; made, so that nobody else takes it."""
    for number in itertools.count(1):
        path = DEFAULT if number == 1 else DEFAULT.with_stem(f"{DEFAULT.stem}-{number}")
        with suppress(FileExistsError):
            path.open("x").close()
            break
    return path.absolute()
