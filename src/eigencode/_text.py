"""Names that others chose, as text: no terminal, page, figure or spreadsheet takes them for commands."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Categories of characters that are not seen, and may change how what follows is shown."""

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+\-]?[\d.,]+([eE][+\-]?\d+)?")


def printable(text: object) -> str:
    r"""A text in one line, in which characters that would not be seen are written out.

    Example:
        >>> printable("a\x1b[31mred\nnext")
        'a\\x1b[31mred\\nnext'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _HIDDEN else char for char in shown
    )


def for_figure(text: object) -> str:
    r"""A text that matplotlib draws as it is: dollars are no mathematics, and a leading underscore hides nothing from a legend.

    Example:
        >>> for_figure("$x$")
        '\\$x\\$'
    """
    shown = printable(text).replace("$", r"\$")
    return f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown


def for_markdown(text: object) -> str:
    r"""A text that Markdown shows as it is: no column ends, and nothing becomes a tag, a link, code or a formula.

    Example:
        >>> for_markdown("a|b <i> [x](y)")
        'a\\|b &lt;i> [x]\\(y)'
    """
    return re.sub(r"([|`*$\\])", r"\\\1", printable(text)).replace("<", "&lt;").replace("](", r"]\(")


def for_spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """A table of which no spreadsheet takes a text for a formula: such texts begin with an apostrophe.

    Example:
        >>> import pandas as pd
        >>> for_spreadsheet(pd.DataFrame({"layer": ["=1+1", "conv1", "-0.5"]}))["layer"].tolist()
        ["'=1+1", 'conv1', '-0.5']
    """
    return table.rename(columns=_harmless).map(_harmless)


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
