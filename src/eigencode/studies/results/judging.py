"""A study's finished cells -> its record: every claim judged, what was run on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eigencode._digests import short_digest
from eigencode.errors import StudyError
from eigencode.provenance import circumstances
from eigencode.spectra.window import Window
from eigencode.studies.cell import CellConfig, field_of
from eigencode.studies.definition import SETTINGS, Study
from eigencode.studies.results.attack_warnings import attack_warnings
from eigencode.studies.results.claim import HOW_JUDGED, Claim, Judged, StatedNumber
from eigencode.studies.results.settings_table import settings_of
from eigencode.studies.results.table import StudyResults


def claims_of(study: Study) -> tuple[Claim, ...]:
    """Claims of the paper that a study is of, or of its one figure; none for a user's own."""
    claims = study.paper.claims() if study.paper else ()
    return tuple(claim for claim in claims if not study.figure or study.figure in (claim.figure, *claim.also))


def stated_numbers_of(study: Study) -> tuple[StatedNumber, ...]:
    """Numbers stated by the paper that a study is of, or for its one figure."""
    stated = study.paper.stated() if study.paper else ()
    return tuple(each for each in stated if not study.figure or each.figure == study.figure)


def figures_of(study: Study) -> tuple[str, ...]:
    """Figures of its paper that a study has; none of a user's own. The whole paper's leaves out its grid of settings."""
    if not study.paper:
        return ()
    return (study.figure,) if study.figure else tuple(name for name in study.paper.figures if name != SETTINGS)


def cells_identity(study: Study) -> str:
    """Hash of the identities of a study's cells."""
    return short_digest(" ".join(sorted(plan.identity for plan in study.cells())))


def study_record(
    study: Study, evidence: StudyResults, *, configuration: dict[str, Any], windows: Sequence[Window] = ()
) -> dict[str, Any]:
    """Record of a study as JSON values.

    Args:
        study: Study.
        evidence: Results of its finished cells.
        configuration: What the command was told.
        windows: Windows of ranks over which claims are judged too.

    Returns:
        Record with keys title, created, configuration, versions, hardware, study, scale, changes (what makes it the user's own,
        in words), identity (of all cells together), cells, missing, ranks (where spectra were fitted again), hours, machines,
        revisions, claims (as ``Judged.as_dict``), attack_warnings (attack, flag, networks, meaning, remedy), published (quantity,
        figure, paper, here, difference), windows (part, ranks, found, verdict), curves (rows that lay published curves beside
        what came out), sensitivity (as ``over_settings``), how_judged (what verdicts mean), undecided (how many claims are, and
        about how many networks would decide them; empty if none is), recording (None; reports with one describe it),
        settings (field, here, source).
    """
    claims = study_claims(study, evidence)
    cells = evidence.cells
    return {
        "title": study.title,
        **circumstances(configuration),
        "study": study.name,
        "scale": study.scale,
        "changes": _changes(study, configuration),
        "identity": cells_identity(study),
        "cells": len(cells),
        "missing": evidence.missing,
        "ranks": evidence.window,
        "hours": float(cells["seconds"].sum()) / 3600,
        "machines": sorted({_machine(each) for each in cells["hardware"]}),
        "revisions": sorted(set(cells["code_revision"])),
        "claims": claims,
        "attack_warnings": attack_warnings(evidence, study.cells()),
        "windows": _over_windows(study, evidence, windows),
        "published": [_compared(each, study, evidence) for each in stated_numbers_of(study)],
        "curves": _curves(study, evidence),
        "sensitivity": over_settings(study, evidence),
        "how_judged": HOW_JUDGED,
        "undecided": _undecided(claims),
        "recording": None,
        "settings": settings_of(study),
    }


def _curves(study: Study, evidence: StudyResults) -> list[dict[str, Any]]:
    """The paper's published curves beside the networks here; none where networks differ in more than the paper's do."""
    beside = study.paper.curves() if study.paper else None
    own = part(study, evidence, study.figure) if study.figure else evidence
    return [] if beside is None or evidence.cells.empty or confounders(study, own) else beside(own)


def study_claims(study: Study, evidence: StudyResults) -> list[dict[str, Any]]:
    """Every claim of a study judged, as ``Judged.as_dict``."""
    return [_judged(claim, study, evidence).as_dict() for claim in claims_of(study)]


def _undecided(claims: list[dict[str, Any]]) -> str:
    """How many claims are undecided, and about how many networks would decide their parts; empty if none is."""
    count = sum(claim["verdict"] == "undecided" for claim in claims)
    every = [part for claim in claims for part in claim["parts"]]
    parts = [part for part in every if part["verdict"] == "undecided"]
    if not parts:
        return ""
    needed = ", ".join(f"{part['part']} ({part['networks'] or 'not known how many'})" for part in parts)
    return (
        f"{count} of {len(claims)} claims and {len(parts)} of {len(every)} parts are undecided. About so many networks of each "
        f"setting would decide these parts, if means and spreads stay as they are: {needed}."
    )


def _changes(study: Study, configuration: dict[str, Any]) -> str:
    """What makes a study the user's own, in words; nothing where no paper's has its name."""
    from_file = str(configuration.get("name")).endswith((".yaml", ".yml"))
    changes = []
    if from_file and study.scale == "own" and study.paper:
        changes.append(f"not {study.name} as it comes")
    if changed := configuration.get("set"):
        changes += [f"changed: {changed}"] if from_file else [configuration["scale"], f"changed: {changed}"]
    return ", ".join(changes)


def part(study: Study, evidence: StudyResults, *figures: str) -> StudyResults:
    """Results of the cells for these figures alone: others may have networks that differ in nothing but how they are trained."""
    labelled = any(figures) and any(block.figures for block in study.blocks)
    return evidence.of(study.cells_of(*figures)) if labelled else evidence


def _judged(claim: Claim, study: Study, evidence: StudyResults) -> Judged:
    """What came out of the cells for the claim's figures."""
    return judged_on(study, claim, part(study, evidence, claim.figure, *claim.also))


def judged_on(study: Study, claim: Claim, own: StudyResults) -> Judged:
    """What came out of some cells, whatever figure they are for."""
    if mixed := confounders(study, own):
        return claim.not_tested(f"needs {mixed}")
    judged = claim.judged(own)
    if (stand_in := substitute(study, claim, own)) is None:
        return judged
    return replace(judged, findings=tuple(each.of_a_substitute(*stand_in) for each in judged.findings))


def substitute(study: Study, claim: Claim, evidence: StudyResults) -> tuple[str, str] | None:
    """What the paper used for a claim, and what was used here in its place; None where networks and data are the paper's.

    These are the networks and data of the paper's own cells for the claim's figures.
    """
    if study.paper is None or evidence.cells.empty:
        return None
    figures = (claim.figure, *claim.also)
    blocks = [block for figure in figures if figure in study.paper.figures for block in study.paper.blocks(figure, "paper")]
    papers = {(block.plan.network.model, _named(block.plan.images.data)) for block in blocks}
    papers |= {(model, _named(block.plan.images.data)) for block in blocks for model in block.grid.get("network.model", ())}
    here = {(model, _named(data)) for model, data in evidence.cells[["model", "data"]].itertuples(index=False)}
    if here & papers:  # checks choose the networks that they are about
        return None
    alike = [len({pair[place] for pair in papers | here}) == 1 for place in (0, 1)]

    def told(pairs: set[tuple[str, str]]) -> str:
        words = (pair[1] if alike[0] else pair[0] if alike[1] else " on ".join(pair) for pair in pairs)
        return " and ".join(sorted(set(words)))

    return told(papers), told(here)


def _named(data: str) -> str:
    """The name of a data set, without the folder of a user's machine."""
    return data.partition(":")[0]


def _compared(published: StatedNumber, study: Study, evidence: StudyResults) -> dict[str, str]:
    own = part(study, evidence, published.figure)
    return published.not_measured if confounders(study, own) else published.compared(own)


def confounders(study: Study, evidence: StudyResults) -> str:
    """What a paper's claims and figures need where networks differ in more than the paper's do; empty where they do not.

    They average over all networks that differ in nothing that the paper varies, and compare those that do.
    """
    if study.paper is None or evidence.cells.empty:
        return ""
    differing = evidence.differing(study.paper.axes, study.paper.kinds)
    if not differing:
        return ""
    return f"networks that differ in {', '.join((*study.paper.axes, 'seed'))} alone; these differ in {', '.join(differing)}"


def _over_windows(study: Study, evidence: StudyResults, windows: Sequence[Window]) -> list[dict[str, str]]:
    """Rows for each claim that exponents of any ranks can answer: what came out here, and over each of the other windows."""
    others: list[tuple[str, StudyResults | StudyError]] = [(evidence.window or f"{evidence.studied}, the study's", evidence)]
    for window in windows:
        try:
            other = evidence.over(window)
            others.append((other.window or str(window), other))
        except StudyError as error:
            others.append((str(window), error))
    rows = []
    for claim in claims_of(study) if windows else ():
        if claim.window == "any":
            for name, other_or_error in others:
                if isinstance(other_or_error, StudyError):
                    judged = claim.not_tested(str(other_or_error))
                else:
                    judged = _judged(claim, study, other_or_error)
                rows += [
                    {"part": row["part"], "ranks": name, "found": row["found"], "verdict": row["verdict"]}
                    for row in judged.as_dict()["parts"]
                ]
    return rows


def over_settings(study: Study, evidence: StudyResults) -> list[dict[str, Any]]:
    """Verdicts of all parts of a paper's claims over each setting.

    Args:
        study: Study whose paper has a figure "settings"; of others there are none.
        evidence: Results of its finished cells.

    Returns:
        Rows with setting (field -> value), networks, asked (networks that were to be run), parts (part, says, found, verdict).
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
        judged = [judged_on(study, claim, own).as_dict()["parts"] for claim in study.paper.claims()]
        rows.append(
            {
                "setting": dict(zip(names, values, strict=True)),
                "networks": len(own.cells),
                "asked": len(plans),
                "parts": [
                    {name: row[name] for name in ("part", "says", "found", "verdict")} for parts in judged for row in parts
                ],
            }
        )
    return rows


def _machine(hardware: dict[str, Any]) -> str:
    threads = hardware.get("threads", "?")
    return ", ".join(
        [
            *map(str, hardware.get("gpus") or ()),
            f"{hardware.get('processor', 'unknown machine')}, {threads} {'thread' if threads == 1 else 'threads'}",
        ]
    )
