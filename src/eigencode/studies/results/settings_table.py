"""The settings of a study beside those of its paper, with their sources."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Any

from eigencode.studies.cell import CellConfig, default_of, field_of, with_field
from eigencode.studies.definition import Study
from eigencode.studies.results.table import flat

_MANY = 8
"""Values of a field that are told one by one."""

_FEW = 4
"""Kinds of a setting that are all told in the table of settings."""

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


def settings_of(study: Study) -> list[dict[str, str]]:
    """Fields whose source the study names, and those that are not as a paper's study has them: field, here, source.

    Of a study that names no sources, the fields that decide most, and all that have not their default.
    """
    plans = study.cells()
    if not study.sources:
        own = list(dict.fromkeys([*_TELLING, *_differing(plans, [CellConfig()])]))
        return [{"field": name, "here": _values(name, plans), "source": "as the study has it"} for name in own]
    shipped: list[list[CellConfig]] = []
    if study.paper and study.scale == "own":
        shipped = [each.cells() for each in study.paper.shipped_versions(study)]
    if study.paper and study.scale == "smoke":
        shipped = [study.paper.study(study.figure, "cpu").cells()]
    how = "shrunk" if study.scale == "smoke" else "changed"
    differing = min((_differing(plans, others) for others in shipped), key=len, default=[])
    covered = {name: [own for own in differing if f"{own}.".startswith(f"{name}.")] for name in study.sources}
    rows = [
        {
            "field": name,
            "here": _values(name, plans),
            "source": f"{how} here; as the study comes: {source}" if covered[name] else source,
        }
        for name, source in study.sources.items()
    ]
    others = [name for name in differing if not any(name in names for names in covered.values())]
    return rows + [{"field": name, "here": _values(name, plans), "source": f"{how} here"} for name in others]


def _differing(plans: list[CellConfig], others: list[CellConfig]) -> list[str]:
    """Dotted names of fields that have other values in these cells than in those; "seeds" for their number."""

    def values(cells: list[CellConfig]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for plan in cells:
            for name, value in flat(asdict(plan)).items():
                found.setdefault(name, set()).add(repr(value))
        return found

    here, there = values(plans), values(others)
    names = [name for name in {**there, **here} if name != "member.seed" and here.get(name) != there.get(name)]
    return names + (["seeds"] if _seeds(plans) != _seeds(others) else [])


def _seeds(plans: list[CellConfig]) -> set[int]:
    """Networks of each kind, which differ in their seed alone."""
    kinds: dict[str, set[int]] = {}
    for plan in plans:
        kinds.setdefault(with_field(plan, "member.seed", 0).network_identity, set()).add(plan.member.seed)
    return {len(seeds) for seeds in kinds.values()}


def _values(name: str, plans: list[CellConfig]) -> str:
    if name == "seeds":
        return " or ".join(map(str, sorted(_seeds(plans), reverse=True)))
    trained = [plan for plan in plans if not plan.network.weights] if name.startswith(("training", "member")) else plans
    every = [field_of(plan, name) for plan in trained]
    if name == "reading.perturbations":
        every = [spec for perturbations in every for spec in perturbations]
    if every and all(isinstance(value, (int, float)) for value in every):
        every.sort()
    texts = list(dict.fromkeys(in_few_characters(value) for value in every)) or ["–"]
    nested = bool(every) and is_dataclass(every[0])
    if name != "reading.perturbations" and len(texts) > (_FEW if nested else _MANY):
        return f"{len(texts)}, told under Cells" if nested else f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    return ("; " if any(" " in text for text in texts) else ", ").join(texts)


def in_few_characters(value: Any, outer: str = "") -> str:
    """A value in a few characters; of a dataclass, its kind, and its fields that are not the default."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {item.name: getattr(value, item.name) for item in fields(value)}
        changed = [item.name for item in fields(value) if item.name == "kind" or own[item.name] != default_of(item)]
        inner = [in_few_characters(own[name], "" if name == "kind" else name) for name in changed]
        return (f"{outer} (" + ", ".join(inner) + ")") if outer else ", ".join(inner) or "all by default"
    if isinstance(value, tuple) and value:
        if is_dataclass(value[0]):
            text = "; ".join(in_few_characters(each) for each in value)
        elif len(value) > _MANY:
            text = f"{in_few_characters(value[0])} to {in_few_characters(value[-1])} ({len(value)} values)"
        elif len(value) == 2 and isinstance(value[0], int):
            text = "-".join(map(in_few_characters, value))
        else:
            text = " ".join(map(in_few_characters, value))
    else:
        text = f"{value:.4g}" if isinstance(value, float) else str(value) if value not in (None, (), {}) else "–"
    return f"{outer} {text}" if outer else text
