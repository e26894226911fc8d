"""What measuring gives: an Eigenspectrum for each layer, and what to know beside it."""

from __future__ import annotations

import pandas as pd

from eigencode._arguments import checked
from eigencode.errors import ActivationError
from eigencode.measurement.summary import summary_row
from eigencode.spectra import Eigenspectrum
from eigencode.spectra.window import Ranks


class Measurement(dict[str, Eigenspectrum]):
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

    @checked(ActivationError)
    def summary(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> pd.DataFrame:
        """One row for each layer: the numbers one cites (see ``summary_row``)."""
        return pd.DataFrame([summary_row(spectrum, ranks, level=level) for spectrum in self.values()])
