"""``eigencode measure``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from eigencode import models
from eigencode._running import usable_device
from eigencode.commands.common import measuring_settings, network_title, results_folder
from eigencode.commands.inputs import load_inputs, load_model, number_as
from eigencode.commands.options import MeasureConfig
from eigencode.commands.parsing import parse_ranks
from eigencode.commands.progress import progress_bar, tell
from eigencode.commands.recording import measured_recording
from eigencode.errors import SpectrumError
from eigencode.measurement.measuring import measure
from eigencode.measurement.result import Measurement
from eigencode.measurement.summary import summary_row
from eigencode.reports import print_table, write_report
from eigencode.reports.records import MeasurementRecord
from eigencode.spectra.window import Window


def run(config: MeasureConfig) -> None:
    """Measures a network, a recording or both; prints the table or the record, and writes the report."""
    ranks = parse_ranks(config.ranks)
    with results_folder(config) as folder:
        _run(config, ranks, folder)


def _run(config: MeasureConfig, ranks: Window, folder: Path | None) -> None:
    recording = measured_recording(config, half_samples=config.half_samples, seed=config.seed) if config.recording else None
    conditions = dict(_measurements(config)) if config.model else {}
    rows = [
        {"condition": condition, **summary_row(spectrum, ranks)}
        for condition, spectra in conditions.items()
        for spectrum in spectra.values()
    ]
    if recording is not None:
        rows += [{"condition": "recording", **row} for row in recording.rows(ranks)]
    summary = pd.DataFrame(rows)
    skipped, notes = (
        {
            (f"{spec}/{layer}" if len(conditions) > 1 else layer): text
            for spec, spectra in conditions.items()
            for layer, text in getattr(spectra, kind).items()
        }
        for kind in ("skipped", "notes")
    )
    record = MeasurementRecord(
        summary=summary,
        title=_title(config, conditions),
        configuration=asdict(config),
        ranks=ranks,
        seed=config.seed,
        skipped=skipped,
        notes=notes,
        accuracy={spec: spectra.accuracy for spec, spectra in conditions.items() if spectra.accuracy is not None},
        recording=recording.described() if recording else None,
    ).as_dict()
    page, spectrum, signal = None, None, None
    if recording is not None:
        spectrum, signal = recording.spectrum, recording.signal
    if folder:
        page = write_report(folder, conditions=conditions, summary=summary, record=record, recording=spectrum, signal=signal)
    _print_results(config, summary, record)
    if page:
        tell(f"Report: {page}")
    if summary["alpha"].isna().all():
        raise SpectrumError(f"no exponent could be fitted: {summary['note'].iloc[0]}")


def _title(config: MeasureConfig, conditions: dict[str, Measurement]) -> str:
    what = "texts" if config.data.startswith("tokens:") else "images"
    parts = [network_title(config), config.data] if config.model else []
    parts += [f"{spectrum.n_images} {what}" for spectra in conditions.values() for spectrum in spectra.values()][:1]
    return " · ".join([*(part for part in parts if part), *([config.recording] if config.recording else [])])


def _measurements(config: MeasureConfig) -> Iterator[tuple[str, Measurement]]:
    device = usable_device(config.device)
    assert config.model is not None
    for spec in models.expand(config.model):
        images = load_inputs(spec, config)
        model = load_model(spec, config, images)
        number_as(model, images, config)
        with progress_bar(spec) as progress:
            spectra = measure(
                model,
                images,
                device=device,
                progress=progress,
                **measuring_settings(config),
            )
        if spectra.without_accuracy:
            tell(f"note: no accuracy of {spec}: {spectra.without_accuracy}.")
        yield spec, spectra


def _print_results(config: MeasureConfig, summary: Any, record: dict[str, Any]) -> None:
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        window = f"ranks {record['ranks'][0]}-{record['ranks'][1]}, weights {record['weights']}"
        print_table(summary, title=f"{record['title']} ({window})")
        for spec, accuracy in record["accuracy"].items():
            print(f"accuracy{f' of {spec}' if len(record['accuracy']) > 1 else ''}: {accuracy:.4g}")
    for note in dict.fromkeys(note for note in summary["note"] if note and not summary["alpha"].isna().all()):
        tell(f"note: {note}")
    for note in record["notes"].values():
        tell(f"note: {note}.")
    for note in (record["recording"] or {}).get("notes", ()):
        tell(f"note: {record['recording']['name']}: {note}.")
    for layer, reason in record["skipped"].items():
        tell(f"skipped {layer}: {reason}.")
