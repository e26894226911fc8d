"""How far verdicts hang on what a paper leaves open: claims judged over each setting of a grid."""

from __future__ import annotations

from typing import Any

from eigencode.studies.cell import CellConfig, field_of
from eigencode.studies.definition import SETTINGS, Study
from eigencode.studies.results.claim import Judged
from eigencode.studies.results.judging import judged_on
from eigencode.studies.results.table import StudyResults


def over_settings(study: Study, evidence: StudyResults) -> list[dict[str, Any]]:
    """Verdicts of all parts of a paper's claims over each setting.

    Args:
        study: Study whose paper has a figure "settings"; of others there are none.
        evidence: Results of its finished cells.

    Returns:
        Rows with setting (field -> value), networks, asked (networks that were to be run), parts (part, found, verdict).
    """
    blocks = [block for block in study.blocks if SETTINGS in block.figures]
    if study.paper is None or not blocks:
        return []
    names = list(dict.fromkeys(name for block in blocks for name in block.grid))
    groups: dict[tuple[Any, ...], list[CellConfig]] = {}
    for block in blocks:
        for plan in block.cells():
            groups.setdefault(tuple(field_of(plan, name) for name in names), []).append(plan)
    rows = []
    for values, plans in groups.items():
        own = evidence.of(plans)
        judged = [judged_on(study, claim, own) for claim in study.paper.claims()]
        rows.append(
            {
                "setting": dict(zip(names, values, strict=True)),
                "networks": len(own.cells),
                "asked": len(plans),
                "parts": [row for each in judged for row in _parts(each)],
            }
        )
    return rows


def _parts(judged: Judged) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("part", "found", "verdict")} for row in judged.as_dict()["parts"]]
