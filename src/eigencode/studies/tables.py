"""A study, or its finished cells, as tables for people."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd

from eigencode.studies.evidence import Evidence
from eigencode.studies.study import Plan, Study

_MANY = 8
"""Values of a field that are told one by one."""


def settings_of(study: Study) -> list[dict[str, str]]:
    """Fields whose source the study names: field, here (the values that its cells have), source."""
    plans = study.cells()
    shown = {name: _values(name, study, plans) for name in study.sources}
    return [{"field": name, "here": shown[name], "source": source} for name, source in study.sources.items()]


def _values(name: str, study: Study, plans: list[Plan]) -> str:
    if name == "seeds":
        return " or ".join(dict.fromkeys(str(len(block.seeds)) for block in study.blocks))
    found: dict[Any, None] = {}
    for plan in plans:
        value: Any = plan
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else getattr(value, step, None)
        found |= dict.fromkeys(value if name == "reading.perturbations" else (value,))
    every = list(found)
    if all(isinstance(value, (int, float)) for value in every):
        every.sort()
    texts = list(dict.fromkeys(_told(value) for value in every))
    separator = "; " if any(" " in text for text in texts) else ", "
    return (
        separator.join(texts) if len(texts) <= _MANY or separator == "; " else f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    )


def _told(value: Any) -> str:
    """A value in a few characters; of a dataclass, its kind, and its fields that are not the default."""
    if is_dataclass(value) and not isinstance(value, type):
        told = [(item.name, getattr(value, item.name)) for item in fields(value)]
        default = {item.name: item.default for item in fields(value)}
        return ", ".join(
            _told(own) if name == "kind" else f"{name} {_told(own)}"
            for name, own in told
            if name == "kind" or own != default[name]
        )
    if isinstance(value, tuple) and value:
        if len(value) > _MANY:
            return f"{_told(value[0])} to {_told(value[-1])} ({len(value)} values)"
        return "-".join(map(_told, value)) if len(value) == 2 and isinstance(value[0], int) else " ".join(map(_told, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value) if value not in (None, ()) else "–"


def cells_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each kind of cell: what it varies, how many seeds, and how long they took."""
    cells, varied = evidence.cells, _varied(evidence.cells)
    if cells.empty:
        return pd.DataFrame(columns=[*varied, "seeds", "seconds each"])
    cells = cells.assign(target=cells["target"].where(cells["beta"] > 0))
    grouped = cells.groupby(varied, dropna=False)
    table = grouped.agg(seeds=("seed", "count"), seconds=("seconds", "mean")).reset_index()
    return table.rename(columns={"seconds": "seconds each"}).map(_shown)


def results_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each kind of cell and layer: accuracy, exponent and dimension on test images, mean ± standard deviation."""
    told = {"accuracy": ("held_out", "accuracy"), "α": ("unperturbed", "alpha"), "dimension": ("unperturbed", "dimension")}
    varied = [name for name in _varied(evidence.cells) if name not in ("model", "data", "epochs")]
    parts = []
    for column, (perturbation, quantity) in told.items():
        rows = evidence.select(quantity, perturbation=perturbation)
        rows = rows.assign(target=rows["target"].where(rows["beta"] > 0))
        over = rows.groupby([*varied, "layer"], dropna=False)["value"]
        parts.append(
            (over.mean().map("{:.3f}".format) + over.std().map(lambda sd: "" if math.isnan(sd) else f" ± {sd:.3f}")).rename(
                column
            )
        )
    return pd.concat(parts, axis=1).fillna("–").reset_index().map(_shown)


def _varied(cells: pd.DataFrame) -> list[str]:
    """Columns that tell kinds of cells apart, and those that every table names."""
    left_out = ("cell", "network", "finished", "code_revision", "hardware", "seed", "seconds")
    names = [str(name) for name in cells if name not in left_out]
    return [name for name in names if cells[name].nunique() > 1 or name in ("model", "data", "epochs")]


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.4g}"
