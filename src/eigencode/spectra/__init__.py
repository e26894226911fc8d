"""Activations to eigenvalues to exponent and dimension: pure mathematics, no networks.

Names are loaded when they are first used: the command line and the studies read windows without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.spectra.accumulator import SpectrumAccumulator
    from eigencode.spectra.bent import PowerLawTest, power_law_test
    from eigencode.spectra.cross_validated import CrossValidatedSpectrum, cvpca
    from eigencode.spectra.dimension import (
        DimensionInterval,
        dimension_interval,
        participation_ratio,
        power_law_dimension,
        smoothness_bound,
    )
    from eigencode.spectra.eigenspectrum import Eigenspectrum
    from eigencode.spectra.entropy import effective_rank, rankme, spectral_entropy, stable_rank
    from eigencode.spectra.files import load_spectra, save_spectra
    from eigencode.spectra.finite_sample import expected_exponent
    from eigencode.spectra.gains import Gains
    from eigencode.spectra.population import PopulationSpectrum, population_spectrum
    from eigencode.spectra.power_law import PowerLawFit, fit_power_law, power_law_line, window_sensitivity
    from eigencode.spectra.sampled_units import dimension_of_all_units
    from eigencode.spectra.signal import SignalSpectrum, signal_spectrum
    from eigencode.spectra.uncertainty import AlphaInterval, alpha_interval, stimulus_curve
    from eigencode.spectra.window import WINDOWS, Window

_HOME = {
    "WINDOWS": "eigencode.spectra.window",
    "AlphaInterval": "eigencode.spectra.uncertainty",
    "CrossValidatedSpectrum": "eigencode.spectra.cross_validated",
    "DimensionInterval": "eigencode.spectra.dimension",
    "Eigenspectrum": "eigencode.spectra.eigenspectrum",
    "Gains": "eigencode.spectra.gains",
    "PopulationSpectrum": "eigencode.spectra.population",
    "PowerLawFit": "eigencode.spectra.power_law",
    "PowerLawTest": "eigencode.spectra.bent",
    "SignalSpectrum": "eigencode.spectra.signal",
    "SpectrumAccumulator": "eigencode.spectra.accumulator",
    "Window": "eigencode.spectra.window",
    "alpha_interval": "eigencode.spectra.uncertainty",
    "cvpca": "eigencode.spectra.cross_validated",
    "dimension_interval": "eigencode.spectra.dimension",
    "dimension_of_all_units": "eigencode.spectra.sampled_units",
    "effective_rank": "eigencode.spectra.entropy",
    "expected_exponent": "eigencode.spectra.finite_sample",
    "fit_power_law": "eigencode.spectra.power_law",
    "load_spectra": "eigencode.spectra.files",
    "participation_ratio": "eigencode.spectra.dimension",
    "population_spectrum": "eigencode.spectra.population",
    "power_law_dimension": "eigencode.spectra.dimension",
    "power_law_line": "eigencode.spectra.power_law",
    "power_law_test": "eigencode.spectra.bent",
    "rankme": "eigencode.spectra.entropy",
    "save_spectra": "eigencode.spectra.files",
    "signal_spectrum": "eigencode.spectra.signal",
    "spectral_entropy": "eigencode.spectra.entropy",
    "stable_rank": "eigencode.spectra.entropy",
    "smoothness_bound": "eigencode.spectra.dimension",
    "stimulus_curve": "eigencode.spectra.uncertainty",
    "window_sensitivity": "eigencode.spectra.power_law",
}

__all__ = [
    "WINDOWS",
    "AlphaInterval",
    "CrossValidatedSpectrum",
    "DimensionInterval",
    "Eigenspectrum",
    "Gains",
    "PopulationSpectrum",
    "PowerLawFit",
    "PowerLawTest",
    "SignalSpectrum",
    "SpectrumAccumulator",
    "Window",
    "alpha_interval",
    "cvpca",
    "dimension_interval",
    "dimension_of_all_units",
    "effective_rank",
    "expected_exponent",
    "fit_power_law",
    "load_spectra",
    "participation_ratio",
    "population_spectrum",
    "power_law_dimension",
    "power_law_line",
    "power_law_test",
    "rankme",
    "save_spectra",
    "signal_spectrum",
    "smoothness_bound",
    "spectral_entropy",
    "stable_rank",
    "stimulus_curve",
    "window_sensitivity",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
