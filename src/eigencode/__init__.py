"""eigencode measures and shapes the eigenspectrum of neural codes.

Names are loaded when they are first used, so that ``eigencode --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader
from eigencode._version import __version__

if TYPE_CHECKING:
    from eigencode import attacks, datasets, models, penalties, perturbations, reports, spectra, studies, training
    from eigencode._allocator import keep_freed_memory
    from eigencode.activations import trace
    from eigencode.datasets import ImageSet
    from eigencode.errors import EigencodeError
    from eigencode.measurement.measuring import collect, measure
    from eigencode.measurement.monitor import Monitor
    from eigencode.measurement.perturbed import PerturbedSpectra, perturbed_spectra
    from eigencode.measurement.result import Measurement
    from eigencode.spectra import (
        WINDOWS,
        Eigenspectrum,
        SpectrumAccumulator,
        Window,
        cvpca,
        fit_power_law,
        load_spectra,
        save_spectra,
        signal_spectrum,
        stimulus_curve,
    )

_HOME = {
    "Eigenspectrum": "eigencode.spectra",
    "EigencodeError": "eigencode.errors",
    "ImageSet": "eigencode.datasets",
    "Measurement": "eigencode.measurement",
    "Monitor": "eigencode.measurement",
    "PerturbedSpectra": "eigencode.measurement",
    "SpectrumAccumulator": "eigencode.spectra",
    "WINDOWS": "eigencode.spectra",
    "Window": "eigencode.spectra",
    "collect": "eigencode.measurement",
    "cvpca": "eigencode.spectra",
    "fit_power_law": "eigencode.spectra",
    "keep_freed_memory": "eigencode._allocator",
    "load_spectra": "eigencode.spectra",
    "measure": "eigencode.measurement",
    "perturbed_spectra": "eigencode.measurement",
    "save_spectra": "eigencode.spectra",
    "signal_spectrum": "eigencode.spectra",
    "stimulus_curve": "eigencode.spectra",
    "trace": "eigencode.activations",
}
_ROOMS = ("attacks", "datasets", "models", "penalties", "perturbations", "reports", "spectra", "studies", "training")

__all__ = [
    "WINDOWS",
    "EigencodeError",
    "Eigenspectrum",
    "ImageSet",
    "Measurement",
    "Monitor",
    "PerturbedSpectra",
    "SpectrumAccumulator",
    "Window",
    "__version__",
    "attacks",
    "collect",
    "cvpca",
    "datasets",
    "fit_power_law",
    "keep_freed_memory",
    "load_spectra",
    "measure",
    "models",
    "penalties",
    "perturbations",
    "perturbed_spectra",
    "reports",
    "save_spectra",
    "signal_spectrum",
    "spectra",
    "stimulus_curve",
    "studies",
    "trace",
    "training",
]

__getattr__ = loader(__name__, _HOME, _ROOMS)


def __dir__() -> list[str]:
    return list(__all__)
