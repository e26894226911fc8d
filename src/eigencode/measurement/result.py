"""What measuring gives: an Eigenspectrum for each layer, and what to know beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from eigencode._arguments import checked
from eigencode._shown import ShownRows
from eigencode.errors import ActivationError, SpectrumError
from eigencode.measurement.summary import summary_row
from eigencode.spectra import Eigenspectrum
from eigencode.spectra.window import Ranks, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


OF_IMAGES = "alpha and dimension are those of the images; summary() has those of the population, with intervals."
"""What the numbers are of that are shown at a glance."""


class Measurement(ShownRows, dict[str, Eigenspectrum]):
    """Layer name -> Eigenspectrum, in the order of the forward pass.

    Attributes:
        skipped: Layer name -> why it could not be measured.
        notes: Layer name -> what to know of where it was read.
        n_passes: How often the images went through the network.
        accuracy: Share of the labelled images whose largest score is that of their class; None without labels, or without one
            score for each class.
        n_labelled: Images with a label.
        without_accuracy: Why there is no accuracy though there are labels; empty otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.n_passes = 0
        self.accuracy: float | None = None
        self.n_labelled = 0
        self.without_accuracy = ""

    def _told(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.3g}"
        return f"Measurement: {len(self)} {'layer' if len(self) == 1 else 'layers'}{skipped}{accuracy}. {OF_IMAGES}"

    def _rows(self) -> list[dict[str, object]]:
        return [at_a_glance(layer, spectrum) for layer, spectrum in self.items()]

    def plot(self, ax: Axes | None = None, *, ranks: Ranks | None = None) -> Axes:
        """Draws the spectra of all layers on log-log axes, coloured by depth.

        Args:
            ax: Axes to draw on; default: a new figure, which a notebook shows at the end of a cell.
            ranks: Window whose fitted lines are drawn, of layers that have these ranks; default: none.

        Returns:
            The axes.

        Raises:
            ActivationError: nothing was measured.
        """
        from eigencode.spectra.plotting import plot_layers

        if not self:
            raise ActivationError("Measurement.plot: there are no layers to draw. Look at `skipped`.")
        return plot_layers(self, ax=ax, ranks=ranks)

    @checked(ActivationError)
    def summary(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> pd.DataFrame:
        """One row for each layer: the numbers one cites (see ``summary_row``)."""
        return pd.DataFrame([summary_row(spectrum, ranks, level=level) for spectrum in self.values()])


def at_a_glance(layer: str, spectrum: Eigenspectrum) -> dict[str, object]:
    """What is shown of a layer without computing an interval; no exponent where it has none over the window."""
    window = Window.of("gerum")
    try:
        alpha: object = spectrum.fit(window).alpha
    except SpectrumError:  # too few ranks, or values below zero among them
        alpha = ""
    found = {"layer": layer, "images": spectrum.n_images, "units": spectrum.n_features, "rank": spectrum.numerical_rank}
    return found | {"dimension": spectrum.dimension if spectrum.numerical_rank else "", f"alpha {window}": alpha}
