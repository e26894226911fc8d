"""A study, or its finished cells, as tables for people."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from eigencode.studies.evidence import Evidence, flat
from eigencode.studies.papers import as_they_come, load
from eigencode.studies.study import MADE, Plan, Study, default_of, field_of, with_field

_MANY = 8
"""Values of a field that are told one by one."""

_FEW = 4
"""Kinds of a setting that are all told in the table of settings."""

_STRENGTHS = 10
"""Strengths of a perturbation that are told in a table of results."""

_TELLING = (
    "network.model",
    "images.data",
    "training.epochs",
    "training.batch_size",
    "training.optimizer",
    "member.learning_rate",
    "reading.layers",
    "reading.ranks",
    "reading.count",
)

_WITHOUT_STRENGTH = ("training", "held_out", "unperturbed", "stimuli")


def settings_of(study: Study) -> list[dict[str, str]]:
    """Fields whose source the study names, and those that are not as a paper's study has them: field, here, source.

    Of a study that names no sources, the fields that decide most, and all that have not their default.
    """
    plans = study.cells()
    if not study.sources:
        own = list(dict.fromkeys([*_TELLING, *_differing(plans, [Plan()])]))
        return [{"field": name, "here": _values(name, plans), "source": "as the study has it"} for name in own]
    shipped = [each.cells() for each in as_they_come(study)] if study.scale == "own" else []
    if study.scale == "smoke" and as_they_come(study):
        shipped = [load(study.name).cells()]
    how = "shrunk" if study.scale == "smoke" else "changed"
    differing = min((_differing(plans, others) for others in shipped), key=len, default=[])
    told = {name: [own for own in differing if f"{own}.".startswith(f"{name}.")] for name in study.sources}
    rows = [
        {
            "field": name,
            "here": _values(name, plans),
            "source": f"{how} here; as the study comes: {source}" if told[name] else source,
        }
        for name, source in study.sources.items()
    ]
    others = [name for name in differing if not any(name in names for names in told.values())]
    return rows + [{"field": name, "here": _values(name, plans), "source": f"{how} here"} for name in others]


def _differing(plans: list[Plan], others: list[Plan]) -> list[str]:
    """Dotted names of fields that have other values in these cells than in those; "seeds" for their number."""

    def values(cells: list[Plan]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for plan in cells:
            for name, value in flat(asdict(plan)).items():
                found.setdefault(name, set()).add(repr(value))
        return found

    here, there = values(plans), values(others)
    names = [name for name in {**there, **here} if name != "member.seed" and here.get(name) != there.get(name)]
    return names + (["seeds"] if _seeds(plans) != _seeds(others) else [])


def _seeds(plans: list[Plan]) -> set[int]:
    """Networks of each kind, which differ in their seed alone."""
    kinds: dict[str, set[int]] = {}
    for plan in plans:
        kinds.setdefault(with_field(plan, "member.seed", 0).network_identity, set()).add(plan.member.seed)
    return {len(seeds) for seeds in kinds.values()}


def _values(name: str, plans: list[Plan]) -> str:
    if name == "seeds":
        return " or ".join(map(str, sorted(_seeds(plans), reverse=True)))
    trained = [plan for plan in plans if not plan.network.weights] if name.startswith(("training", "member")) else plans
    every = [field_of(plan, name) for plan in trained]
    if name == "reading.perturbations":
        every = [told for perturbations in every for told in perturbations]
    if every and all(isinstance(value, (int, float)) for value in every):
        every.sort()
    texts = list(dict.fromkeys(_told(value) for value in every)) or ["–"]
    nested = bool(every) and is_dataclass(every[0])
    if name != "reading.perturbations" and len(texts) > (_FEW if nested else _MANY):
        return f"{len(texts)}, told under Cells" if nested else f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    return ("; " if any(" " in text for text in texts) else ", ").join(texts)


def _told(value: Any, outer: str = "") -> str:
    """A value in a few characters; of a dataclass, its kind, and its fields that are not the default."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {item.name: getattr(value, item.name) for item in fields(value)}
        changed = [item.name for item in fields(value) if item.name == "kind" or own[item.name] != default_of(item)]
        inner = [_told(own[name], "" if name == "kind" else name) for name in changed]
        return (f"{outer} (" + ", ".join(inner) + ")") if outer else ", ".join(inner) or "all by default"
    if isinstance(value, tuple) and value:
        if is_dataclass(value[0]):
            text = "; ".join(_told(each) for each in value)
        elif len(value) > _MANY:
            text = f"{_told(value[0])} to {_told(value[-1])} ({len(value)} values)"
        elif len(value) == 2 and isinstance(value[0], int):
            text = "-".join(map(_told, value))
        else:
            text = " ".join(map(_told, value))
    else:
        text = f"{value:.4g}" if isinstance(value, float) else str(value) if value not in (None, (), {}) else "–"
    return f"{outer} {text}" if outer else text


def cells_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each kind of cell: what it varies, how many seeds, and how long they took."""
    cells, varied = evidence.cells, varied_columns(evidence.cells, ("model", "data", "epochs"))
    if cells.empty:
        return pd.DataFrame(columns=[*varied, "seeds", "seconds each"])
    cells = cells.assign(target=cells["target"].where(cells["beta"] > 0))
    grouped = cells.groupby(varied, dropna=False)
    table = grouped.agg(seeds=("network", "nunique"), seconds=("seconds", "mean")).reset_index()
    return table.rename(columns={"seconds": "seconds each"}).map(_shown)


def results_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each kind of cell and layer: accuracy, exponent and dimension on test images, mean ± standard deviation."""
    told = {"accuracy": ("held_out", "accuracy"), "α": ("unperturbed", "alpha"), "dimension": ("unperturbed", "dimension")}
    rows = {column: evidence.select(quantity, perturbation=condition) for column, (condition, quantity) in told.items()}
    return _by_kind(evidence, rows)


def perturbed_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
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


def _by_kind(evidence: Evidence, columns: dict[str, pd.DataFrame]) -> pd.DataFrame:
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
    table = pd.concat(parts, axis=1).fillna("–").reset_index()
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
    told = [name for name in names if cells[name].nunique(dropna=False) > 1 or name in always]
    plain = [name for name in told if "." not in name]
    kinds = cells.groupby(plain, dropna=False) if plain else None
    return [name for name in told if name in plain or kinds is None or (kinds[name].nunique(dropna=False) > 1).any()]


def _shown(value: Any) -> str:
    return "–" if isinstance(value, float) and math.isnan(value) else _told(value)
