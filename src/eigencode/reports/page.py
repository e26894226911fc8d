"""A page that holds everything a measurement found, and the folder with its data, table and figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from eigencode._text import for_markdown, for_spreadsheet, printable
from eigencode.reports.drawing import Drawing, drawn
from eigencode.reports.figures import plot_along_layers, plot_spectra
from eigencode.reports.folder import write_folder
from eigencode.reports.tables import cells
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, SignalSpectrum, save_spectra
from eigencode.spectra.window import Window

_CODE = re.compile(r"`([^`]+)`")


def write_report(
    folder: Path,
    *,
    conditions: Mapping[str, Mapping[str, Eigenspectrum]],
    summary: pd.DataFrame,
    record: Mapping[str, Any],
    recording: Eigenspectrum | CrossValidatedSpectrum | None = None,
    signal: SignalSpectrum | None = None,
    figures: Mapping[str, Figure] | None = None,
    write_more: Callable[[Path], None] | None = None,
    finish: Callable[[], None] | None = None,
) -> Path:
    """Writes spectra, table, record, figures and page; the folder gets all of them or none.

    Args:
        folder: Where to write; made if missing.
        conditions: Condition -> layer -> spectrum.
        summary: Rows of ``summary_row`` with a column condition.
        record: Configuration, versions, hardware, seed and results, as JSON values.
        recording: Spectrum of a recording drawn beside the network.
        signal: Of the recording, drawn as the power law that has its moments.
        figures: Name -> figure. Default: all spectra, and exponent and dimension along the layers.
        write_more: Called with a folder into which it writes further files of ``CONTENTS``.
        finish: See ``write_folder``.

    Returns:
        Path of the page.
    """
    if figures is None:
        first = summary.iloc[0]
        ranks = Window(int(first["first_rank"]), int(first["last_rank"]), first["weights"])
        figures = {
            "eigenspectra": plot_spectra(conditions, ranks=ranks, recording=recording, signal=signal),
            "layers": plot_along_layers(summary),
        }
    drawings = drawn(figures)
    several = summary["condition"].nunique() > 1
    rows = [
        (str(row["condition"]), cells(row), (f"{row['condition']}: " if several else "") + row["note"] if row["note"] else "")
        for _, row in summary.iterrows()
    ]
    page = render_page("measurement", record=record, rows=rows, several=several, figures=drawings)
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

    return write_folder(folder, write_data=write_data, record=record, page=page, figures=drawings, finish=finish)


def render_page(template: str, *, figures: Mapping[str, Drawing], **content: Any) -> str:
    """A page as one HTML text with its figures inside.

    Args:
        template: Name of the template.
        figures: Name -> what was drawn.
        content: What the template shows.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("eigencode.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    environment.filters["code"] = _with_code
    return environment.get_template(f"{template}.html.j2").render(figures=figures, **content)


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


def _with_code(text: str) -> Markup:
    """A text whose parts between backticks are set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(printable(text)))))


def _shown(value: Any) -> Any:
    """Texts of a page with characters that would not be seen written out; markup, numbers and what is not there as they are."""
    return printable(value) if type(value) is str else value
