"""Activations to eigenvalues to exponent and dimension: pure mathematics, no networks.

Names are loaded when they are first used: the command line and the studies read windows without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names

if TYPE_CHECKING:
    from eigencode.spectra.accumulator import SpectrumAccumulator as SpectrumAccumulator
    from eigencode.spectra.cross_validated import CrossValidatedSpectrum as CrossValidatedSpectrum, cvpca as cvpca
    from eigencode.spectra.dimension import (
        participation_ratio as participation_ratio,
        power_law_dimension as power_law_dimension,
        smoothness_bound as smoothness_bound,
    )
    from eigencode.spectra.eigenspectrum import Eigenspectrum as Eigenspectrum
    from eigencode.spectra.files import load_spectra as load_spectra, save_spectra as save_spectra
    from eigencode.spectra.finite_sample import (
        expected_exponent as expected_exponent,
        population_eigenvalues as population_eigenvalues,
        population_exponent as population_exponent,
    )
    from eigencode.spectra.power_law import (
        PowerLawFit as PowerLawFit,
        fit_power_law as fit_power_law,
        power_law_line as power_law_line,
        window_sensitivity as window_sensitivity,
    )
    from eigencode.spectra.uncertainty import (
        AlphaInterval as AlphaInterval,
        alpha_interval as alpha_interval,
        stimulus_curve as stimulus_curve,
    )
    from eigencode.spectra.window import WINDOWS as WINDOWS, Window as Window

__all__, __getattr__, __dir__ = public_names(__name__)
