"""Activations to eigenvalues to exponent and dimension: pure mathematics, no networks.

Names are loaded when they are first used: the command line and the studies read windows without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import lazy

if TYPE_CHECKING:
    from eigencode.spectra.accumulator import SpectrumAccumulator
    from eigencode.spectra.cross_validated import CrossValidatedSpectrum, cvpca
    from eigencode.spectra.dimension import (
        participation_ratio,
        power_law_dimension,
        smoothness_bound,
    )
    from eigencode.spectra.eigenspectrum import Eigenspectrum
    from eigencode.spectra.files import load_spectra, save_spectra
    from eigencode.spectra.finite_sample import (
        expected_exponent,
        population_eigenvalues,
        population_exponent,
    )
    from eigencode.spectra.power_law import (
        PowerLawFit,
        fit_power_law,
        power_law_line,
        window_sensitivity,
    )
    from eigencode.spectra.uncertainty import (
        AlphaInterval,
        alpha_interval,
        stimulus_curve,
    )
    from eigencode.spectra.window import WINDOWS, Window

__all__ = [
    "WINDOWS",
    "AlphaInterval",
    "CrossValidatedSpectrum",
    "Eigenspectrum",
    "PowerLawFit",
    "SpectrumAccumulator",
    "Window",
    "alpha_interval",
    "cvpca",
    "expected_exponent",
    "fit_power_law",
    "load_spectra",
    "participation_ratio",
    "population_eigenvalues",
    "population_exponent",
    "power_law_dimension",
    "power_law_line",
    "save_spectra",
    "smoothness_bound",
    "stimulus_curve",
    "window_sensitivity",
]

__getattr__, __dir__ = lazy(__name__)
