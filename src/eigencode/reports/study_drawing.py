"""What drawings of studies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode._text import for_figure
from eigencode.spectra.plotting import new_figure
from eigencode.studies.results.table import StudyResults

Draw = Callable[[StudyResults], Figure | None]


def colours(count: int) -> Any:
    """As many colours, from dark to light."""
    return colormaps["viridis"](np.linspace(0, 0.92, count))


def panels_of(columns: int, *, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; the height in inches."""
    figure = new_figure(4.2 * columns, height)
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def spectrum(panel: Axes, row: Any, label: str, **style: Any) -> None:
    """One spectrum down to its numerical floor."""
    values = row["eigenvalues"]
    values = values[values > row["floor"]]
    panel.loglog(np.arange(1, len(values) + 1), values, lw=1, label=for_figure(label), **style)


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
