"""The plain plot of a spectrum. Nothing is computed here but positions on paper."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eigencode._text import for_figure
from eigencode.spectra.eigenvalues import positive_run
from eigencode.spectra.window import Ranks, Window

if TYPE_CHECKING:
    from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, PowerLawFit

_SIGNED = "cross-validated"

_DPI = 100
"""Of a figure in a notebook."""

DEPTH_COLOURS = "turbo"
"""Colours of depth, first layer to last."""

_LEGEND_ROWS = 20

_POINTS = 300
"""Points drawn for each spectrum, evenly spaced on the logarithmic axis."""


def new_figure(width: float = 6.4, height: float = 4.4) -> Figure:
    """Figure that needs no display and belongs to no global state, size in inches; notebooks show it at the end of a cell."""
    figure = _Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Figure(Figure):
    """A figure that notebooks show also where pyplot, which tells them how, is never imported."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png", dpi=_DPI)
        return written.getvalue()


def _new_axes() -> Axes:
    """Axes of a new figure, for which a notebook shows the figure."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes._repr_png_ = figure._repr_png_  # type: ignore[attr-defined]
    return axes


def layer_colours(layers: Sequence[str]) -> dict[str, np.ndarray]:
    """A colour for each layer, by depth."""
    return dict(zip(layers, colormaps[DEPTH_COLOURS](np.linspace(0, 1, len(layers))), strict=True))


def plot_layers(spectra: Mapping[str, Eigenspectrum], *, ax: Axes | None = None, ranks: Ranks | None = None) -> Axes:
    """Spectra of layers on one pair of log-log axes, coloured by depth, with a legend that has their exponents.

    Args:
        spectra: Layer -> spectrum.
        ax: Axes to draw on; default: a new figure.
        ranks: Window whose fitted lines are drawn, of layers that have these ranks; default: none.

    Returns:
        The axes.
    """
    ax = ax or _new_axes()
    window = None if ranks is None else Window.of(ranks)
    for layer, colour in layer_colours(list(spectra)).items():
        spectrum = spectra[layer]
        fit = spectrum.fit(window) if window and window.last <= spectrum.numerical_rank else None
        plot_spectrum(spectrum, ax=ax, label=f"{layer}, α = {fit.alpha:.2f}" if fit else layer, colour=colour)
        if fit:
            _draw_line(ax, fit, colour)
    ax.legend(fontsize=7, title="α of these images" if window else None, title_fontsize=7, ncols=1 + len(spectra) // _LEGEND_ROWS)
    return ax


def _drawn(count: int) -> np.ndarray:
    if count == 0:
        return np.arange(0)
    return np.unique(np.geomspace(1, count, min(count, _POINTS)).round().astype(int))


def plot_spectrum(
    spectrum: Eigenspectrum | CrossValidatedSpectrum,
    *,
    ax: Axes | None = None,
    ranks: Ranks | None = None,
    label: str | None = None,
    colour: object = None,
    style: str = "-",
) -> Axes:
    """Eigenvalues against rank on log-log axes.

    Args:
        spectrum: What to draw; eigenvalues at or below the numerical floor are left out, and of cross-validated ones those beyond
            the run above zero with the largest sum.
        ax: Axes to draw on; default: a new figure.
        ranks: Window whose fitted line is drawn; default: none.
        label: Legend entry; default: the layer's name.
        colour: Any matplotlib colour.
        style: Line style.

    Returns:
        The axes.
    """
    if ax is None:
        ax = _new_axes()
    values = spectrum.eigenvalues.numpy()
    first, last = positive_run(spectrum.eigenvalues)
    if getattr(spectrum, "method", _SIGNED) != _SIGNED:
        last = min(last, getattr(spectrum, "numerical_rank", last))
    shown = _drawn(last)
    shown = shown[shown >= first]
    (line,) = ax.loglog(
        shown,
        values[shown - 1],
        style,
        lw=1.3,
        color=colour,
        label=for_figure(label or spectrum.name),
    )
    if ranks is not None:
        draw_fit(ax, spectrum.fit(ranks), colour=line.get_color())
    ax.set_xlabel("rank n")
    ax.set_ylabel("eigenvalue (squared activation units)")
    return ax


def draw_fit(ax: Axes, fit: PowerLawFit, *, colour: object = "black") -> None:
    """The fitted line over its window, with its exponent."""
    _draw_line(ax, fit, colour)
    last = fit.ranks[1]
    ax.annotate(
        f"α = {fit.alpha:.2f}",
        (last, fit.predict(last)),
        xytext=(4, 4),
        textcoords="offset points",
        fontsize=8,
        color=colour,
    )


def _draw_line(ax: Axes, fit: PowerLawFit, colour: object) -> None:
    ax.loglog(fit.ranks, [fit.predict(rank) for rank in fit.ranks], "-", color=colour, lw=3.5, alpha=0.35, solid_capstyle="butt")
