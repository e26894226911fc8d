"""Figures of studies, drawn from results alone: a paper's own, or the spectra of a user's study."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from eigencode.reports.study_drawing import colours, finish, panels_of, spectrum
from eigencode.studies.definition import Study
from eigencode.studies.results.table import NotTestedError, StudyResults
from eigencode.training.settings import WEIGHTS

_MOST_SPECTRA = 12

_TOLD = ("model", "width", "data", "form", "epochs", "trained", "target", *WEIGHTS, "jacobian_kind")


def draw(study: Study, figure: str | None, results: StudyResults) -> Figure | None:
    """A figure of a study: of its paper, or the spectra of its networks; None where results for it are missing.

    Args:
        study: Study.
        figure: One of its paper's figures; None for a study of a user's own.
        results: Results.

    Returns:
        Figure.

    Raises:
        Exception: whatever a drawing raises but ``NotTestedError``, with a note that names the figure.
    """
    maker = study.paper.drawings().get(figure, spectra_of_networks) if study.paper and figure else spectra_of_networks
    try:
        return None if results.rows.empty else maker(results)
    except NotTestedError:  # an unfinished study, or one's own, lacks what the paper's has
        return None
    except Exception as error:
        error.add_note(f"Raised by the drawing of {study.name}" + (f", {figure}." if figure else "."))
        raise


def caption(study: Study, figure: str | None, results: StudyResults) -> str:
    """What a figure of a study shows: its title, the networks, their data, and how many there are.

    Args:
        study: Study.
        figure: One of its paper's figures; None for a study of a user's own.
        results: Results that were drawn.
    """
    title = study.paper.figures[figure] if study.paper and figure else "Eigenspectra of the first networks"
    number = f"Fig. {figure.removeprefix('fig').partition('_')[0]}. " if figure and figure.startswith("fig") else ""
    pairs = results.cells[["model", "data"]].drop_duplicates().itertuples(index=False)
    which = ", ".join(f"{model} on {data.partition(':')[0]}" for model, data in pairs)
    count = results.cells["network"].nunique()
    recorded = results.recording if study.paper and figure in study.paper.beside_recordings else None
    beside = f" The recording is {recorded.name}: {recorded.exponent}." if recorded else ""
    several = study.paper is not None and figure in study.paper.spectra_of_one and results.cells["seed"].nunique() > 1
    one = " Spectra are those of one network of each setting." if several else ""
    return f"{number}{title}. {count} {'network' if count == 1 else 'networks'}: {which}.{one}{beside}"


def spectra_of_networks(evidence: StudyResults) -> Figure | None:
    """Spectra of the last layer read from the first networks of any study, of one seed."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["seed"] == spectra["seed"].min())]
    if spectra.empty:
        return None
    layer = spectra["layer"].iloc[-1]
    spectra = spectra[spectra["layer"] == layer]
    varied = [name for name in (*_TOLD, *(name for name in spectra if "." in name)) if spectra[name].nunique(dropna=False) > 1]
    spectra = _in_order(spectra, ["beta", "target", "adversarial", *(name for name in varied if "." in name)])[:_MOST_SPECTRA]
    figure, (panel,) = panels_of(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panel, row, _label(row, varied), color=colour)
    finish(panel, f"{layer}, one seed", evidence.fitted)
    return figure


def _in_order(spectra: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Sorted by columns: numbers by size, others as they are written."""

    def comparable(column: pd.Series) -> pd.Series:
        numbers = pd.to_numeric(column, errors="coerce")
        return column.astype(str) if numbers.isna().all() else numbers

    return spectra.sort_values(list(dict.fromkeys(columns)), key=comparable, kind="stable")


def _label(row: pd.Series, varied: list[str]) -> str:
    """What tells a network from the others; at beta 0 the target plays no part."""
    shown = [name for name in varied if name != "target" or row["beta"]]
    return (
        ", ".join(f"{name} {row[name]:g}" if isinstance(row[name], float) else f"{name} {row[name]}" for name in shown)
        or row["model"]
    )
