"""One folder with everything a measurement found: data, table, figures and a page that holds them all."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from eigencode._text import for_markdown, for_spreadsheet, printable
from eigencode.errors import DataError, DiskError
from eigencode.reports.figures import plot_along_layers, plot_spectra
from eigencode.reports.tables import cells
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, save_spectra

CONTENTS = (
    "spectra.parquet",
    "summary.csv",
    "components.safetensors",
    "images.safetensors",
    "members",
    "history.csv",
    "results.parquet",
    "cells.csv",
    "record.json",
    "report.html",
    "figures",
)
"""Everything that commands leave in their folder."""


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
        blocked = folder if folder.exists() else above
        raise DataError(f"--out: {folder} cannot be written, since {blocked} is no folder that you may write to.") from None
    if not overwrite and any((folder / name).exists() for name in CONTENTS):
        raise DataError(f"--out: {folder} already holds results. Name another folder, or pass --overwrite true.")


def write_report(
    folder: Path,
    *,
    conditions: Mapping[str, Mapping[str, Eigenspectrum]],
    summary: pd.DataFrame,
    record: Mapping[str, Any],
    recording: Eigenspectrum | CrossValidatedSpectrum | None = None,
    figures: Mapping[str, Figure] | None = None,
    write_more: Callable[[Path], None] | None = None,
) -> Path:
    """Writes spectra, table, record, figures and page; the folder gets all of them or none.

    Args:
        folder: Where to write; made if missing.
        conditions: Condition -> layer -> spectrum.
        summary: Rows of ``summary_row`` with a column condition.
        record: Configuration, versions, hardware, seed and results, as JSON values.
        recording: Spectrum of a recording drawn beside the network.
        figures: Name -> figure. Default: all spectra, and exponent and dimension along the layers.
        write_more: Called with a folder into which it writes further files of ``CONTENTS``.

    Returns:
        Path of the page.
    """
    if figures is None:
        ranks = (int(summary["first_rank"].iloc[0]), int(summary["last_rank"].iloc[0]))
        figures = {
            "eigenspectra": plot_spectra(conditions, ranks=ranks, recording=recording),
            "layers": plot_along_layers(summary),
        }
    several = summary["condition"].nunique() > 1
    rows = [
        (str(row["condition"]), cells(row), (f"{row['condition']}: " if several else "") + row["note"] if row["note"] else "")
        for _, row in summary.iterrows()
    ]
    page = render_page("measurement", record=record, rows=rows, several=several, figures=figures)
    spectra = {
        (f"{condition}/{layer}" if len(conditions) > 1 else layer): spectrum
        for condition, layers in conditions.items()
        for layer, spectrum in layers.items()
    }
    if recording is not None:
        spectra[recording.name] = recording if isinstance(recording, Eigenspectrum) else recording.as_eigenspectrum()

    def write_data(partial: Path) -> None:
        save_spectra(spectra, partial / "spectra.parquet")
        for_spreadsheet(summary).to_csv(partial / "summary.csv", index=False)
        if write_more:
            write_more(partial)

    return write_folder(folder, write_data=write_data, record=record, page=page, figures=figures)


def write_folder(
    folder: Path,
    *,
    write_data: Callable[[Path], None],
    record: Mapping[str, Any],
    page: str,
    figures: Mapping[str, Figure],
) -> Path:
    """Writes data, record, page and figures; the folder gets all of them or none.

    Args:
        folder: Where to write; made if missing.
        write_data: Called with a folder into which it writes the data's files.
        record: Becomes record.json.
        page: Becomes report.html.
        figures: Become PNG and SVG files in figures/.

    Returns:
        Path of the page.

    Raises:
        DiskError: they cannot be written; the folder is as it was.
    """
    try:
        return _write_folder(folder, write_data, record, page, figures)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise DiskError(f"the report cannot be written to {folder} ({reason}). Make room, or name another folder.") from None


def _write_folder(
    folder: Path, write_data: Callable[[Path], None], record: Mapping[str, Any], page: str, figures: Mapping[str, Figure]
) -> Path:
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        write_data(partial)
        (partial / "record.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (partial / "figures").mkdir()
        for name, figure in figures.items():
            figure.savefig(partial / "figures" / f"{name}.png", dpi=150)
            figure.savefig(partial / "figures" / f"{name}.svg")
        (partial / "report.html").write_text(page, encoding="utf-8")
        mask = os.umask(0o022)
        os.umask(mask)
        is_new = False
        for path in partial.iterdir():
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            if path.is_file():
                path.chmod(0o666 & ~mask)  # safetensors writes files that others cannot read
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            shutil.rmtree(folder)
    return folder / "report.html"


def render_page(template: str, *, figures: Mapping[str, Figure], **content: Any) -> str:
    """A page as one HTML text with its figures inside.

    Args:
        template: Name of the template.
        figures: Name -> figure.
        content: What the template shows.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("eigencode.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    sources = {name: _svg(figure) for name, figure in figures.items()}
    return environment.get_template(f"{template}.html.j2").render(figures=sources, **content)


def render_markdown(template: str, **content: Any) -> str:
    """Tables as Markdown, to be pasted elsewhere.

    Args:
        template: Name of the template.
        content: What the template shows.

    Returns:
        Markdown.
    """
    environment = Environment(
        loader=PackageLoader("eigencode.reports"), autoescape=False, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["cell"] = for_markdown
    return environment.get_template(f"{template}.md.j2").render(**content)


def _shown(value: Any) -> Any:
    """Texts of a page with characters that would not be seen written out; markup, numbers and what is not there as they are."""
    return printable(value) if type(value) is str else value


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
