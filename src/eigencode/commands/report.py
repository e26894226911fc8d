"""``eigencode report``, and the report of ``reproduce``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from eigencode._text import for_spreadsheet
from eigencode.commands.choosing import chosen_study, refuse_none, say_failed, say_outdated
from eigencode.commands.options import ReportConfig
from eigencode.commands.parsing import parse_ranks
from eigencode.commands.progress import tell
from eigencode.commands.recording import MeasuredRecording, measured_recording
from eigencode.errors import DataError, UsageError
from eigencode.papers.registry import PAPERS
from eigencode.reports import claimed, drawn, print_rows, record_of, render_markdown, render_page, write_folder
from eigencode.reports.drawing import Drawing
from eigencode.reports.study_figures import caption, draw
from eigencode.reports.study_tables import cells_table, perturbed_tables, results_table, sensitivity_table, settings_one_by_one
from eigencode.spectra.window import Window
from eigencode.studies import Store, Study, StudyResults, to_yaml
from eigencode.studies.definition import SETTINGS
from eigencode.studies.execution.scheduling import outdated
from eigencode.studies.results.judging import cells_identity, claims_of, confounders, figures_of, part, study_record


def run(config: ReportConfig) -> None:
    """Writes the report of what is finished."""
    study, store = chosen_study(config), Store(config.store, make=False)
    write(config, study, store, recording_of(config, study), about_cells=True)


def recording_of(config: ReportConfig, study: Study) -> MeasuredRecording | None:
    """The recording that is drawn beside the networks, if one is named.

    Raises:
        EigencodeError: a file that cannot be read, or a study without a figure that draws one.
    """
    if not config.recording:
        return None
    if not set(figures_of(study)) & set(study.paper.beside_recordings if study.paper else ()):
        known = ", ".join(f"{paper.name}.{name}" for paper in PAPERS.values() for name in paper.beside_recordings)
        raise UsageError(f"--recording is drawn in {known} and in their papers' studies; {study.name} has no such figure.")
    return measured_recording(config, half_samples=0, seed=0)


def write(
    config: ReportConfig, study: Study, store: Store, recording: MeasuredRecording | None, *, about_cells: bool = False
) -> None:
    """Writes figures, claims, results and page; prints the claims.

    Args:
        config: What the command was told.
        study: Study.
        store: Where its finished cells are.
        recording: Drawn beside the networks.
        about_cells: Say which cells have failed, and which were made with what has changed since.

    Raises:
        StudyError: no cell is finished.
    """
    folder = check(config, study)
    with claimed(folder, overwrite=True, wait=True):
        _write(config, study, store, folder, recording)
        if about_cells:  # while the folder is held: an interruption says that the report is in it
            say_failed(study, store)
            say_outdated(outdated(study.cells(), store.stamps()))


def _write(config: ReportConfig, study: Study, store: Store, folder: Path, recording: MeasuredRecording | None) -> None:
    evidence = StudyResults(store, study.cells(), recording=recording.beside_networks() if recording else None)
    refuse_none(evidence, config, study, store)
    if ranks := _ranks(config):
        evidence = evidence.over(ranks)
    record = study_record(
        study, evidence, configuration=asdict(config) | {"store": store.address}, windows=_windows(config, study)
    )
    record["recording"] = recording.described() | {"told": recording.beside_networks().exponent} if recording else None
    drawings, undrawn = _drawings(study, evidence)
    cells, results = cells_table(evidence), results_table(evidence)
    sensitivity = sensitivity_table(record["sensitivity"])
    tables = {"results": results, "perturbed": perturbed_tables(evidence), "sensitivity": sensitivity}
    page = render_page("study", record=record, figures=drawings, rows=cells, **tables)

    def write_data(partial: Path) -> None:
        evidence.rows.to_parquet(partial / "results.parquet", index=False)
        for_spreadsheet(cells).to_csv(partial / "cells.csv", index=False)
        if record["sensitivity"]:
            for_spreadsheet(settings_one_by_one(record["sensitivity"])).to_csv(partial / "sensitivity.csv", index=False)
        (partial / "study.yaml").write_text(to_yaml(study), encoding="utf-8")
        (partial / "report.md").write_text(render_markdown("study", record=record, rows=cells, **tables), encoding="utf-8")

    written = write_folder(folder, write_data=write_data, record=record, page=page, figures=drawings)
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    elif record["claims"] or record["sensitivity"]:
        _print_verdicts(
            record, sensitivity, f"{study.name} ({study.scale}): {record['cells']} cells, {record['missing']} missing"
        )
    else:
        print_rows(results, title=f"{study.name} ({study.scale}): {record['cells']} cells, {record['missing']} missing")
    for each in undrawn:
        tell(f"Not drawn: {each}.")
    for row in record["attack_warnings"]:
        tell(f"{row['attack']}, {row['networks']} networks: {row['meaning']} {row['remedy']}")
    tell(f"Report: {written}")


def _print_verdicts(record: dict[str, Any], sensitivity: pd.DataFrame, title: str) -> None:
    """The verdicts as tables on stdout."""
    if record["claims"]:
        parts = pd.DataFrame([part for claim in record["claims"] for part in claim["parts"]])
        print_rows(parts[["part", "verdict", "says", "found"]], title=title)
        for claim in record["claims"]:
            print(f"{claim['claim']} {claim['verdict']}: {claim['statement']}")
    if record["sensitivity"]:
        print_rows(sensitivity, title=f"Verdicts over {len(record['sensitivity'])} settings that the paper leaves open")
    if record["windows"]:
        print_rows(pd.DataFrame(record["windows"]), title="Would another window say the same?")
    if record["published"]:
        print_rows(pd.DataFrame(record["published"]), title="Numbers that the paper states")


def _drawings(study: Study, evidence: StudyResults) -> tuple[dict[str, Drawing], list[str]]:
    """Figures, and why others cannot be drawn of these cells."""
    figures, captions, undrawn = {}, dict[str, str](), []
    for figure in figures_of(study) or (None,):
        own = part(study, evidence, figure) if figure else evidence
        mixed = "" if figure == SETTINGS else confounders(study, own)
        name = f"{study.paper.name}.{figure}" if study.paper else "spectra"
        if (made := None if mixed else draw(study, figure, own)) is not None:
            figures[name] = made
            captions[name] = caption(study, figure, own)
        else:
            undrawn.append(f"{name} needs {mixed or 'what these cells lack'}")
    return {name: replace(each, caption=captions[name]) for name, each in drawn(figures).items()}, undrawn


def _ranks(config: ReportConfig) -> Window | None:
    return parse_ranks(config.ranks) if config.ranks else None


def _windows(config: ReportConfig, study: Study) -> list[Window]:
    try:
        windows = [parse_ranks(text) for text in re.split(r",(?!\s*weights\b)", config.windows) if text.strip()]
    except UsageError as error:
        raise UsageError(f"--windows takes windows such as 3-30,10-50; got {config.windows!r} ({error})") from None
    if windows and not claims_of(study):
        raise UsageError(f"--windows judges the claims of a paper; {study.name} has none. Leave it out.")
    if windows and all(claim.window != "any" for claim in claims_of(study)):
        raise UsageError(
            f"--windows: the claims of {study.name} need no exponents, or those over the study's own ranks. Leave it out."
        )
    return windows


def check(config: ReportConfig, study: Study) -> Path:
    """The report's folder, in which an earlier report of the same study is renewed.

    Raises:
        UsageError: windows that are none, or for a study without claims.
        DataError: a folder that cannot be written, or that holds results of something else.
    """
    _windows(config, study)
    ranks = _name_of(config.ranks)
    words = [study.name, study.scale, *(["ranks", *re.findall(r"[\w-]+", ranks)] if ranks else [])]
    folder = Path(config.out or f"reproductions/{'-'.join(words)}")
    earlier = record_of(folder) or {}
    try:
        is_mine = (earlier["study"], earlier["scale"]) == (study.name, study.scale)
        differs = [
            name
            for name, same in (
                ("over other ranks", _name_of(earlier["configuration"].get("ranks")) == ranks),
                ("of other cells", earlier["identity"] == cells_identity(study)),
            )
            if not same
        ]
    except (KeyError, TypeError, AttributeError):
        is_mine, differs = False, []
    if is_mine and differs:
        raise DataError(f"--out: {folder} holds the report {differs[0]}. Name another folder.")
    if not is_mine and earlier:
        raise DataError(f"--out: {folder} holds results of something else. Name another folder.")
    with claimed(folder, overwrite=is_mine or None, wait=True):  # told before hours of training
        pass
    return folder


def _name_of(ranks: str | None) -> str | None:
    return str(parse_ranks(ranks)) if ranks else None
