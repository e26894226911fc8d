"""A study's finished cells -> its record: every claim judged, what was run on what."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from eigencode._digests import short_digest
from eigencode.errors import StudyError
from eigencode.records import circumstances
from eigencode.spectra.window import Window
from eigencode.studies.claims import Claim, Finding, Published
from eigencode.studies.doubts import doubts
from eigencode.studies.evidence import Evidence
from eigencode.studies.papers import PAPERS, as_they_come, paper
from eigencode.studies.study import Study
from eigencode.studies.tables import settings_of


def claims_of(study: Study) -> tuple[Claim, ...]:
    """Claims of the paper that a study is of, or of its one figure; none for a user's own."""
    name, _, figure = study.name.partition(".")
    if name not in PAPERS:
        return ()
    claims: Sequence[Claim] = import_module(f"eigencode.studies.papers.{name}_claims").CLAIMS
    return tuple(claim for claim in claims if not figure or figure in (claim.figure, *claim.also))


def published_of(study: Study) -> tuple[Published, ...]:
    """Numbers stated by the paper that a study is of, or for its one figure."""
    name, _, figure = study.name.partition(".")
    if name not in PAPERS:
        return ()
    stated: Sequence[Published] = getattr(import_module(f"eigencode.studies.papers.{name}_claims"), "PUBLISHED", ())
    return tuple(each for each in stated if not figure or each.figure == figure)


def figures_of(study: Study) -> list[str]:
    """Names of the figures that a study has, such as jiang2020.fig5; of a user's own, spectra."""
    name, _, figure = study.name.partition(".")
    if name not in PAPERS:
        return ["spectra"]
    return [f"{name}.{each}" for each in ([figure] if figure else paper(name).figures)]


def cells_identity(study: Study) -> str:
    """Hash of the identities of a study's cells."""
    return short_digest(" ".join(sorted(plan.identity for plan in study.cells())))


def study_record(
    study: Study, evidence: Evidence, *, configuration: dict[str, Any], windows: Sequence[Window] = ()
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
        revisions, claims (claim, figure, statement, found, test, verdict), doubts (attack, flag, networks, meaning, remedy),
        published (quantity, figure, paper, here, difference), windows (claim, ranks, found, verdict), settings (field, here,
        source).
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
        "doubts": doubts(evidence, study.cells()),
        "windows": _over_windows(study, evidence, windows),
        "published": [_compared(each, study, evidence) for each in published_of(study)],
        "settings": settings_of(study),
    }


def _changes(study: Study, configuration: dict[str, Any]) -> str:
    """What makes a study the user's own, in words; nothing where no paper's has its name."""
    from_file = str(configuration.get("name")).endswith((".yaml", ".yml"))
    told = []
    if from_file and study.scale == "own" and as_they_come(study):
        told.append(f"not {study.name} as it comes")
    if changed := configuration.get("set"):
        told += [f"changed: {changed}"] if from_file else [configuration["scale"], f"changed: {changed}"]
    return ", ".join(told)


def part(study: Study, evidence: Evidence, *figures: str) -> Evidence:
    """Results of the cells for these figures alone: others may have networks that differ in nothing but how they are trained."""
    labelled = any(figures) and any(block.figures for block in study.blocks)
    return evidence.of(study.cells_of(*figures)) if labelled else evidence


def _judged(claim: Claim, study: Study, evidence: Evidence) -> Finding:
    """The finding from the cells for the claim's figures."""
    own = part(study, evidence, claim.figure, *claim.also)
    mixed = mixture(study, own)
    return Finding("not tested", f"needs {mixed}", "") if mixed else claim.judged(own)


def _compared(published: Published, study: Study, evidence: Evidence) -> dict[str, str]:
    own = part(study, evidence, published.figure)
    return published.not_measured if mixture(study, own) else published.compared(own)


def mixture(study: Study, evidence: Evidence) -> str:
    """What a paper's claims and figures need where networks differ in more than the paper's do; empty where they do not.

    They average over all networks that differ in nothing that the paper varies, and compare those that do.
    """
    name = study.name.partition(".")[0]
    if name not in PAPERS or evidence.cells.empty:
        return ""
    told = paper(name)
    differing = evidence.differing(told.axes, told.kinds)
    if not differing:
        return ""
    return f"networks that differ in {', '.join((*told.axes, 'seed'))} alone; these differ in {', '.join(differing)}"


def _over_windows(study: Study, evidence: Evidence, windows: Sequence[Window]) -> list[dict[str, str]]:
    """Rows for each claim that exponents of any ranks can answer: what came out here, and over each of the other windows."""
    others: list[tuple[str, Evidence | StudyError]] = [(evidence.window or f"{evidence.studied}, the study's", evidence)]
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
