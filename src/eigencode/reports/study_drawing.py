"""What drawings of studies share."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode._text import for_figure
from eigencode.errors import SpectrumError
from eigencode.spectra.plotting import new_figure
from eigencode.spectra.power_law import fit_power_law
from eigencode.studies.results.recorded import RecordedSpectrum
from eigencode.studies.results.table import StudyResults

Draw = Callable[[StudyResults], Figure | None]


def colours(count: int) -> Any:
    """As many colours, from dark to light."""
    return colormaps["viridis"](np.linspace(0, 0.92, count))


def panels_of(columns: int, *, rows: int = 1, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, lettered if there are several, row after row; the height of a row in inches."""
    figure = new_figure(4.2 * columns, height * rows)
    panels: list[Axes] = list(np.ravel(figure.subplots(rows, columns)))
    for panel, letter in zip(panels if len(panels) > 1 else (), string.ascii_lowercase, strict=False):
        panel.annotate(
            letter, (0, 1), xycoords="axes fraction", xytext=(-34, 8), textcoords="offset points", weight="bold", size=12
        )
    return figure, panels


def spectrum(panel: Axes, row: Any, label: str, **style: Any) -> None:
    """One spectrum down to its numerical floor."""
    values = row["eigenvalues"]
    values = values[values > row["floor"]]
    panel.loglog(np.arange(1, len(values) + 1), values, lw=1, label=for_figure(label), **style)


def fitted_line(panel: Axes, values: np.ndarray, ranks: tuple[int, int] | None, **style: Any) -> float | None:
    """Draws the power law fitted to eigenvalues over a window.

    Args:
        panel: Where.
        values: Eigenvalues, or shares, by rank.
        ranks: First and last rank.
        style: Of the line.

    Returns:
        The exponent; None where no line can be fitted.
    """
    try:
        fit = fit_power_law(values, ranks=ranks) if ranks else None
    except SpectrumError:
        return None
    if fit is None:
        return None
    shown = np.arange(fit.ranks[0], fit.ranks[1] + 1)
    panel.loglog(shown, [fit.predict(float(rank)) for rank in shown], **style)
    return fit.alpha


def beside(panel: Axes, recording: RecordedSpectrum) -> None:
    """Draws the shares of variance of a recording, and the power law of its exponent."""
    ranks = np.arange(1, len(recording.eigenvalues) + 1)
    panel.loglog(ranks, recording.shares, "o", ms=2.5, color="black", label=for_figure(recording.told))
    if recording.law is not None:
        panel.loglog(ranks, recording.law, "-", lw=1, color="tab:red", label=f"power law {recording.estimator}")


def legend(panel: Axes, **style: Any) -> None:
    """A legend without a frame, where there is something to name."""
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, **style)


def finish(panel: Axes, title: str, ranks: tuple[int, int] | None) -> None:
    """Labels a panel of spectra and marks the ranks of the fit, if it is one."""
    if ranks:
        panel.axvspan(*ranks, color="grey", alpha=0.1, lw=0)
    panel.set(xlabel="rank", ylabel="eigenvalue (squared activation)")
    panel.set_title(for_figure(title), fontsize=9)
    legend(panel, fontsize=7)
