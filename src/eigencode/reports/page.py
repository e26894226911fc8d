"""One folder with everything a measurement found: data, table, figures and a page that holds them all."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from eigencode.errors import DataError
from eigencode.reports.figures import plot_along_layers, plot_spectra
from eigencode.reports.tables import cells
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, save_spectra

CONTENTS = ("spectra.parquet", "summary.csv", "record.json", "report.html", "figures")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that cannot be written to or that holds earlier results.

    Args:
        folder: Where results are to go; need not exist.
        overwrite: Whether earlier results may be replaced.

    Raises:
        DataError: the path is a file, or results are there already.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out: {folder} is a file. Name a folder.")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        tempfile.TemporaryDirectory(dir=folder if folder.exists() else above).cleanup()
    except OSError:
        raise DataError(f"--out: {folder} cannot be written, since {above} is no folder that you may write to.") from None
    if not overwrite and any((folder / name).exists() for name in CONTENTS):
        raise DataError(f"--out: {folder} already holds results. Name another folder, or pass --overwrite true.")


def write_report(
    folder: Path,
    *,
    conditions: Mapping[str, Mapping[str, Eigenspectrum]],
    summary: pd.DataFrame,
    record: Mapping[str, Any],
    recording: Eigenspectrum | CrossValidatedSpectrum | None = None,
) -> Path:
    """Writes spectra, table, record, figures and page; the folder gets all of them or none.

    Args:
        folder: Where to write; made if missing.
        conditions: Condition -> layer -> spectrum.
        summary: Rows of ``summary_row`` with a column condition.
        record: Configuration, versions, hardware, seed and results, as JSON values.
        recording: Spectrum of a recording drawn beside the network.

    Returns:
        Path of the page.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        spectra = {
            (f"{condition}/{layer}" if len(conditions) > 1 else layer): spectrum
            for condition, layers in conditions.items()
            for layer, spectrum in layers.items()
        }
        if recording is not None:
            spectra[recording.name] = recording if isinstance(recording, Eigenspectrum) else recording.as_eigenspectrum()
        save_spectra(spectra, partial / "spectra.parquet")
        summary.to_csv(partial / "summary.csv", index=False)
        (partial / "record.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        ranks = (int(summary["first_rank"].iloc[0]), int(summary["last_rank"].iloc[0]))
        figures = {
            "eigenspectra": plot_spectra(conditions, ranks=ranks, recording=recording),
            "layers": plot_along_layers(summary),
        }
        (partial / "figures").mkdir()
        for name, figure in figures.items():
            figure.savefig(partial / "figures" / f"{name}.png", dpi=150)
            figure.savefig(partial / "figures" / f"{name}.svg")
        page = render_page(summary, record, figures)
        (partial / "report.html").write_text(page, encoding="utf-8")
        _move_into(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "report.html"


def _move_into(partial: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in CONTENTS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
        (partial / name).replace(folder / name)


def render_page(summary: pd.DataFrame, record: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page as one HTML text with its figures inside.

    Args:
        summary: Rows of ``summary_row`` with a column condition.
        record: What the page says about configuration, versions and hardware.
        figures: Name -> figure.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("eigencode.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    several = summary["condition"].nunique() > 1
    rows = [
        (str(row["condition"]), cells(row), (f"{row['condition']}: " if several else "") + row["note"] if row["note"] else "")
        for _, row in summary.iterrows()
    ]
    return environment.get_template("measurement.html.j2").render(
        record=record,
        rows=rows,
        several=several,
        figures={name: _svg(figure) for name, figure in figures.items()},
    )


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
