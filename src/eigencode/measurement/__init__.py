"""A model and its inputs -> a spectrum for each layer, as the inputs are and under every perturbation."""

from eigencode.measurement.measuring import Measurement, collect, measure
from eigencode.measurement.perturbed import PerturbedSpectra, perturbed_spectra

__all__ = ["Measurement", "PerturbedSpectra", "collect", "measure", "perturbed_spectra"]
