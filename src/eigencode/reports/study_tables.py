"""Finished cells as tables for people."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from eigencode.perturbations.specification import MADE
from eigencode.studies.results.settings_table import in_few_characters
from eigencode.studies.results.table import StudyResults

_STRENGTHS = 10
"""Strengths of a perturbation that are told in a table of results."""

VERDICTS = ("holds", "undecided", "does not hold", "not tested")

_WITHOUT_STRENGTH = ("training", "held_out", "unperturbed", "stimuli")


def cells_table(evidence: StudyResults) -> pd.DataFrame:
    """One row for each kind of cell: what it varies, how many seeds, and how long they took."""
    cells, varied = evidence.cells, varied_columns(evidence.cells, ("model", "data", "epochs"))
    if cells.empty:
        return pd.DataFrame(columns=[*varied, "seeds", "seconds each"])
    cells = cells.assign(target=cells["target"].where(cells["beta"] > 0))
    grouped = cells.groupby(varied, dropna=False)
    table = grouped.agg(seeds=("network", "nunique"), seconds=("seconds", "mean")).reset_index()
    return table.rename(columns={"seconds": "seconds each"}).map(_shown)


def sensitivity_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for each part of a claim: what the paper says, and over how many settings it has each verdict."""
    counts: dict[str, dict[str, Any]] = {}
    for row in rows:
        for part in row["parts"]:
            own = counts.setdefault(part["part"], {"the paper says": part["says"], **dict.fromkeys(VERDICTS, 0)})
            own[part["verdict"]] += 1
    return pd.DataFrame([{"part": part, **own} for part, own in counts.items()], columns=["part", "the paper says", *VERDICTS])


def settings_one_by_one(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for each setting and part: networks, what came out, and the verdict."""
    return pd.DataFrame(
        [{**row["setting"], "networks": row["networks"], "asked": row["asked"], **part} for row in rows for part in row["parts"]]
    )


def results_table(evidence: StudyResults) -> pd.DataFrame:
    """One row for each kind of cell and layer: accuracy, exponent and dimension on test images, mean ± standard deviation."""
    shown = {"accuracy": ("held_out", "accuracy"), "α": ("unperturbed", "alpha"), "dimension": ("unperturbed", "dimension")}
    rows = {column: evidence.select(quantity, perturbation=condition) for column, (condition, quantity) in shown.items()}
    return _by_kind(evidence, rows)


def perturbed_tables(evidence: StudyResults) -> dict[str, pd.DataFrame]:
    """Accuracy and exponent under each perturbation, like ``results_table``; of more than ten strengths ten."""
    found = {}
    for title, quantity in (("Accuracy", "accuracy"), ("Exponent α", "alpha")):
        rows = evidence.select(quantity)
        rows = rows[~rows["perturbation"].isin(_WITHOUT_STRENGTH) & ((rows["strength"] > 0) | rows["perturbation"].isin(MADE))]
        if quantity == "accuracy":  # of the network, whatever the layer, unless it was the layer that was perturbed
            rows = rows.assign(layer=rows["layer"].where(rows["perturbation"].str.startswith("layer_"), ""))
            rows = rows.drop_duplicates(["cell", "layer", "perturbation", "strength"])
        columns = {
            f"{kind} {strength:g}": own[own["strength"] == strength]
            for kind, own in rows.groupby("perturbation", sort=False)
            for strength in _few(own)
        }
        if columns:
            table = _by_kind(evidence, columns)
            found[title] = table if table["layer"].any() else table.drop(columns="layer")
    return found


def _few(rows: pd.DataFrame) -> list[float]:
    """Strengths that all networks have, if they have some in common; of many, ten from the first to the last."""
    each = [set(own) for _, own in rows.groupby("network")["strength"]]
    strengths = sorted(set.intersection(*each) or set.union(*each))
    places = np.linspace(0, len(strengths) - 1, min(len(strengths), _STRENGTHS)).round().astype(int)
    return [strengths[place] for place in places]


def _by_kind(evidence: StudyResults, columns: dict[str, pd.DataFrame]) -> pd.DataFrame:
    varied = varied_columns(evidence.cells)
    parts = []
    for column, rows in columns.items():
        rows = rows.assign(target=rows["target"].where(rows["beta"] > 0))
        over = rows.groupby([*varied, "layer"], dropna=False)["value"]
        parts.append(
            (over.mean().map("{:.3f}".format) + over.std().map(lambda sd: "" if math.isnan(sd) else f" ± {sd:.3f}")).rename(
                column
            )
        )
    table = pd.concat(parts, axis=1).astype(object).fillna("–").reset_index()
    read = evidence.rows.loc[evidence.rows["perturbation"] == "unperturbed", "layer"]
    places = table["layer"].map({layer: place for place, layer in enumerate(dict.fromkeys(read))})  # along the network
    kinds = table.groupby(varied, dropna=False, sort=False).ngroup() if varied else np.zeros(len(table))
    empty = [name for name in varied if table[name].isna().all()]
    return table.iloc[np.lexsort((places, kinds))].drop(columns=empty).reset_index(drop=True).map(_shown)


def varied_columns(cells: pd.DataFrame, always: tuple[str, ...] = ()) -> list[str]:
    """Columns that tell kinds of cells apart, and those that are always told.

    Other fields by their dotted names are left out where they follow from these, such as a batch size of each model.
    """
    left_out = ("cell", "network", "finished", "code_revision", "hardware", "seed", "seconds")
    names = [str(name) for name in cells if name not in left_out]
    cells = cells.assign(target=cells["target"].where(cells["beta"] > 0))  # of a network without the penalty it says nothing
    shown = [name for name in names if cells[name].nunique(dropna=False) > 1 or name in always]
    plain = [name for name in shown if "." not in name]
    kinds = cells.groupby(plain, dropna=False) if plain else None
    return [name for name in shown if name in plain or kinds is None or (kinds[name].nunique(dropna=False) > 1).any()]


def _shown(value: Any) -> str:
    return "–" if isinstance(value, float) and math.isnan(value) else in_few_characters(value)
