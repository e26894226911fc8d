"""A study's finished cells -> its record: every claim judged, what was run on what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigencode._digests import short_digest
from eigencode.errors import StudyError
from eigencode.provenance import circumstances
from eigencode.spectra.window import Window
from eigencode.studies.definition import Study
from eigencode.studies.results.attack_warnings import attack_warnings
from eigencode.studies.results.claim import Claim, Finding, StatedNumber
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
    """Figures of its paper that a study has; none of a user's own."""
    if not study.paper:
        return ()
    return (study.figure,) if study.figure else tuple(study.paper.figures)


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
        revisions, claims (claim, figure, statement, found, test, verdict), attack_warnings (attack, flag, networks, meaning,
        remedy), published (quantity, figure, paper, here, difference), windows (claim, ranks, found, verdict), settings (field,
        here, source).
    """
    claims = [
        {"claim": claim.name, "figure": claim.figure, "statement": claim.statement, **vars(_judged(claim, study, evidence))}
        for claim in claims_of(study)
    ]
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
        "settings": settings_of(study),
    }


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


def _judged(claim: Claim, study: Study, evidence: StudyResults) -> Finding:
    """The finding from the cells for the claim's figures."""
    own = part(study, evidence, claim.figure, *claim.also)
    mixed = confounders(study, own)
    return Finding("not tested", f"needs {mixed}", "") if mixed else claim.judged(own)


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
                    finding = Finding("not tested", str(other_or_error), "")
                else:
                    finding = _judged(claim, study, other_or_error)
                rows.append({"claim": claim.name, "ranks": name, "found": finding.found, "verdict": finding.verdict})
    return rows


def _machine(hardware: dict[str, Any]) -> str:
    threads = hardware.get("threads", "?")
    return ", ".join(
        [
            *map(str, hardware.get("gpus") or ()),
            f"{hardware.get('processor', 'unknown machine')}, {threads} {'thread' if threads == 1 else 'threads'}",
        ]
    )
