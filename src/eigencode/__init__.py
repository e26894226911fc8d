"""eigencode measures and shapes the eigenspectrum of neural codes.

Names are loaded when they are first used, so that ``eigencode --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

__version__ = "0.1.0"

if TYPE_CHECKING:
    from eigencode import attacks, datasets, models, penalties, perturbations, reports, spectra, studies, training
    from eigencode._allocator import keep_freed_memory
    from eigencode.activations import trace
    from eigencode.datasets import ImageSet
    from eigencode.errors import EigencodeError
    from eigencode.measurement import Measurement, collect, measure
    from eigencode.perturbed import PerturbedSpectra, perturbed_spectra
    from eigencode.spectra import (
        WINDOWS,
        Eigenspectrum,
        SpectrumAccumulator,
        Window,
        cvpca,
        fit_power_law,
        load_spectra,
        save_spectra,
        stimulus_curve,
    )

_HOME = {
    "Eigenspectrum": "spectra",
    "EigencodeError": "errors",
    "ImageSet": "datasets",
    "Measurement": "measurement",
    "PerturbedSpectra": "perturbed",
    "SpectrumAccumulator": "spectra",
    "WINDOWS": "spectra",
    "Window": "spectra",
    "collect": "measurement",
    "cvpca": "spectra",
    "fit_power_law": "spectra",
    "keep_freed_memory": "_allocator",
    "load_spectra": "spectra",
    "measure": "measurement",
    "perturbed_spectra": "perturbed",
    "save_spectra": "spectra",
    "stimulus_curve": "spectra",
    "trace": "activations",
}
_ROOMS = ("attacks", "datasets", "models", "penalties", "perturbations", "reports", "spectra", "studies", "training")

__all__ = [
    "WINDOWS",
    "EigencodeError",
    "Eigenspectrum",
    "ImageSet",
    "Measurement",
    "PerturbedSpectra",
    "SpectrumAccumulator",
    "Window",
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
    "spectra",
    "stimulus_curve",
    "studies",
    "trace",
    "training",
]

__getattr__ = loader(__name__, _HOME, _ROOMS)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
