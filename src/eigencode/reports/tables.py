"""Tables for terminals and pages."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from eigencode._text import printable
from eigencode.reports.terminal import print_plain
from eigencode.spectra.metrics import METRICS, Metric
from eigencode.training.settings import WEIGHTS


def cells(row: pd.Series) -> dict[str, str]:
    """A summary row as a reader wants it: the few numbers that matter, rounded to what is known."""
    return {
        "layer": str(row["layer"]),
        **({"accuracy": _formatted(row["accuracy"])} if "accuracy" in row else {}),
        "units": f"{row['units']:d}",
        "rank": f"{row['rank']:d}",
        "α": _formatted(row["alpha"]),
        "population α": _interval(row, "alpha", "{:.2f}"),
        "R²": _formatted(row["r2"]),
        "bend": _bend(row),
        **{name: text for metric in METRICS if metric.heading for name, text in _columns(metric, row)},
        "how": str(row["method"]) + (f" ± {100 * row['error_bound']:.0f} %" if row["error_bound"] else ""),
    }


def _columns(metric: Metric, row: pd.Series) -> Iterator[tuple[str, str]]:
    """Headings and cells of one number: its own and that of the population, where there is one."""
    assert metric.heading is not None
    yield metric.heading, _formatted(row[metric.name], metric.format)
    if f"{metric.name}_low" in row:
        yield f"population {metric.heading}", _interval(row, metric.name, metric.format)


def _interval(row: pd.Series, name: str, layout: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if math.isinf(low) and math.isinf(high):
        return "not determined"
    return "–" if math.isnan(low) else f"{layout.format(low)} – {'∞' if math.isinf(high) else layout.format(high)}"


def _bend(row: pd.Series) -> str:
    """Exponents before and after the rank from which the decay changes, where it does: of both halves if it may be any rank."""
    if row["power_law"] != "bends":
        return {"no bend": "none", "cannot tell": "cannot tell"}.get(row["power_law"], "–")
    if row["break_low"] <= row["first_rank"] and row["break_high"] >= row["last_rank"]:
        return f"{row['alpha_first']:.2f} to {row['alpha_second']:.2f}"
    rank, low, high = (f"{row[name]:.0f}" for name in ("break_rank", "break_low", "break_high"))
    return f"{row['alpha_before']:.2f} to {row['alpha_after']:.2f} at {rank} ({low} – {high})"


def _formatted(value: float, layout: str = "{:.3f}") -> str:
    return "–" if math.isnan(value) else layout.format(value).replace("%", " %")


def print_table(summary: pd.DataFrame, *, title: str) -> None:
    """Prints a summary on stdout, as wide as the terminal, or as wide as it needs where stdout is none.

    Args:
        summary: Rows of ``summary_row`` with a column condition, which is shown where there are several.
        title: Line above the table.
    """
    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    several = summary["condition"].nunique() > 1
    rows = [cells(row) for _, row in summary.iterrows()]
    if several:
        table.add_column("condition", no_wrap=True)
    for name in rows[0]:
        text = name in ("layer", "how")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for (_, row), shown in zip(summary.iterrows(), rows, strict=True):
        table.add_row(*map(printable, ([row["condition"]] if several else [])), *map(printable, shown.values()))
    print_plain(table)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text: numbers rounded, missing ones as a dash; empty columns and those of unused penalties are left out."""
    shown = {}
    for name in table:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            exact = ("target", *WEIGHTS)
            if column.isna().all() or (name in exact and not (column.fillna(0) != 0).any()):
                continue
            shown[name] = ["–" if math.isnan(value) else (f"{value:g}" if name in exact else f"{value:.3f}") for value in column]
        else:
            shown[name] = [str(value) for value in column]
    return pd.DataFrame(shown)
