"""What drawings of studies share."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode._text import for_figure
from eigencode.spectra.plotting import new_figure
from eigencode.spectra.window import Window
from eigencode.studies.results.recorded import RecordedSpectrum
from eigencode.studies.results.refitting import fit_of
from eigencode.studies.results.table import StudyResults

_LEGEND_WIDTH = 36
"""Characters in a line of a legend."""

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


def fitted_line(panel: Axes, row: Any, window: Window | None, *, scale: float = 1.0, **style: Any) -> float | None:
    """Draws the power law fitted to a kept spectrum over a window.

    Args:
        panel: Where.
        row: The spectrum, as of ``StudyResults.spectra``.
        window: Window of the fit.
        scale: By which the spectrum is multiplied, such as one over its sum.
        style: Of the line.

    Returns:
        The exponent; None where no line can be fitted.
    """
    fit = fit_of(row, window) if window else None
    if fit is None:
        return None
    shown = np.arange(fit.ranks[0], fit.ranks[1] + 1)
    panel.loglog(shown, [scale * fit.predict(float(rank)) for rank in shown], **style)
    return fit.alpha


def beside(panel: Axes, recording: RecordedSpectrum) -> None:
    """Draws the shares of variance of a recording, and the power law of its exponent."""
    panel.set(xscale="log", yscale="log")
    if np.isnan(recording.shares).all():
        panel.set_title(for_figure(f"{recording.name}: no variance that repeats"), fontsize=9)
        return
    marks: dict[str, Any] = {"marker": "o", "ms": 2.5, "lw": 0, "color": "black"}
    line: dict[str, Any] = {"lw": 1, "color": "tab:red"}
    for shares, style, label in ((recording.shares, marks, recording.name), (recording.law, line, recording.exponent)):
        if shares is not None:
            panel.plot(np.arange(1, len(shares) + 1), shares, label=textwrap.fill(for_figure(label), _LEGEND_WIDTH), **style)


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
