"""A model and its inputs -> a spectrum for each layer, as the inputs are and under every perturbation.

Names are loaded when they are first used: the command line reads the options without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.measurement.measuring import collect, measure
    from eigencode.measurement.monitor import Monitor
    from eigencode.measurement.perturbed import PerturbedSpectra, perturbed_spectra
    from eigencode.measurement.result import Measurement

_HOME = {
    "Measurement": "eigencode.measurement.result",
    "Monitor": "eigencode.measurement.monitor",
    "PerturbedSpectra": "eigencode.measurement.perturbed",
    "collect": "eigencode.measurement.measuring",
    "measure": "eigencode.measurement.measuring",
    "perturbed_spectra": "eigencode.measurement.perturbed",
}

__all__ = ["Measurement", "Monitor", "PerturbedSpectra", "collect", "measure", "perturbed_spectra"]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
