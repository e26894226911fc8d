"""A study's finished cells -> its record: every claim judged, what was run on what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from eigencode.errors import StudyError
from eigencode.records import circumstances
from eigencode.spectra.power_law import Ranks
from eigencode.studies.claims import Claim, Finding, Published
from eigencode.studies.evidence import Evidence
from eigencode.studies.papers import PAPERS, paper
from eigencode.studies.refitting import window_name
from eigencode.studies.study import Study


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


def study_record(
    study: Study, evidence: Evidence, *, configuration: dict[str, Any], windows: Sequence[Ranks] = ()
) -> dict[str, Any]:
    """Record of a study as JSON values.

    Args:
        study: Study.
        evidence: Results of its finished cells.
        configuration: What the command was told.
        windows: Windows of ranks over which claims are judged too.

    Returns:
        Record with keys title, created, configuration, versions, hardware, study, scale, cells, missing, ranks (where spectra
        were fitted again), hours, machines,
        revisions, claims (claim, figure, statement, found, test, verdict), published (quantity, figure, paper, here,
        difference), windows (claim, ranks, found, verdict), sources.
    """
    judged = [
        {"claim": claim.name, "figure": claim.figure, "statement": claim.statement, **vars(claim.judged(evidence))}
        for claim in claims_of(study)
    ]
    cells = evidence.cells
    return {
        "title": study.title,
        **circumstances(configuration),
        "study": study.name,
        "scale": study.scale,
        "cells": len(cells),
        "missing": evidence.missing,
        "ranks": evidence.window,
        "hours": float(cells["seconds"].sum()) / 3600,
        "machines": sorted({_machine(each) for each in cells["hardware"]}),
        "revisions": sorted(set(cells["code_revision"])),
        "claims": judged,
        "windows": _over_windows(study, evidence, windows),
        "published": [each.compared(evidence) for each in published_of(study)],
        "sources": dict(study.sources),
    }


def _over_windows(study: Study, evidence: Evidence, windows: Sequence[Ranks]) -> list[dict[str, str]]:
    """Rows for each claim that exponents of any ranks can answer: what came out here, and over each of the other windows."""
    others: list[tuple[str, Evidence | StudyError]] = [(evidence.window or f"{evidence.studied}, the study's", evidence)]
    for ranks in windows:
        try:
            other = evidence.over(ranks)
            others.append((other.window or window_name(ranks), other))
        except StudyError as error:
            others.append((window_name(ranks), error))
    rows = []
    for claim in claims_of(study) if windows else ():
        if claim.window == "any":
            for name, other_or_error in others:
                if isinstance(other_or_error, StudyError):
                    finding = Finding("not tested", str(other_or_error), "")
                else:
                    finding = claim.judged(other_or_error)
                rows.append({"claim": claim.name, "ranks": name, "found": finding.found, "verdict": finding.verdict})
    return rows


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


def _machine(hardware: dict[str, Any]) -> str:
    return ", ".join([*hardware["gpus"], f"{hardware['processor']}, {hardware['threads']} threads"])
