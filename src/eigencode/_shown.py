"""What results say of themselves where they are printed, and at the end of a notebook's cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from eigencode._text import printable

if TYPE_CHECKING:
    import pandas as pd


_WHOLE, _LONG = 1000, 1e6
"""Numbers between these are shown as whole ones."""


def short(value: Any) -> str:
    """A number in three significant digits, an interval of them, ranks, or a text, in a few characters."""
    if isinstance(value, float):
        return f"{value:.0f}" if _WHOLE <= abs(value) < _LONG else f"{value:.3g}"
    if isinstance(value, tuple):
        return "-".join(map(short, value))
    ends = (getattr(value, "low", None), getattr(value, "high", None))
    if hasattr(value, "value") and None not in ends:
        return f"{short(value.value)} [{short(ends[0])}, {short(ends[1])}]"
    return printable(str(value))


class Shown:
    """A result that shows what one looks at first, in one line: not each of its eigenvalues."""

    def _shown(self) -> Mapping[str, object]:
        """Names and values, of which those that are empty or None are left out; default: all."""
        return vars(self)

    def _said(self) -> dict[str, str]:
        return {name: short(value) for name, value in self._shown().items() if value not in (None, "", ())}

    def __repr__(self) -> str:
        """Name of the class, and what it shows."""
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self._said().items())})"

    def _repr_html_(self) -> str:
        row = '<tr><th scope="row">{}</th><td>{}</td></tr>'
        cells = "".join(row.format(escape(name), escape(text)) for name, text in self._said().items())
        return f"<table><caption>{type(self).__name__}</caption>{cells}</table>"


class ShownRows(ABC):
    """A result of several parts: a line, and a row for each of them."""

    @abstractmethod
    def _told(self) -> str:
        """The line above the rows."""

    @abstractmethod
    def _rows(self) -> list[dict[str, object]]:
        """A row for each part, all with the same names."""

    def _table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([{name: short(value) for name, value in row.items()} for row in self._rows()])

    def __repr__(self) -> str:
        """The line and the rows."""
        table = self._table()
        return printable(self._told()) if table.empty else f"{printable(self._told())}\n{table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        table = self._table()
        return f"<p>{escape(printable(self._told()))}</p>" + ("" if table.empty else table.to_html(index=False, border=0))
