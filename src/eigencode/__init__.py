"""eigencode measures and shapes the eigenspectrum of neural codes.

Names are loaded when they are first used, so that ``eigencode --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names
from eigencode._version import __version__ as __version__

if TYPE_CHECKING:
    from eigencode import (
        attacks as attacks,
        datasets as datasets,
        models as models,
        penalties as penalties,
        perturbations as perturbations,
        reports as reports,
        spectra as spectra,
        studies as studies,
        training as training,
    )
    from eigencode._allocator import keep_freed_memory as keep_freed_memory
    from eigencode.activations import trace as trace
    from eigencode.datasets import ImageSet as ImageSet
    from eigencode.errors import EigencodeError as EigencodeError
    from eigencode.measurement.measuring import Measurement as Measurement, collect as collect, measure as measure
    from eigencode.measurement.perturbed import PerturbedSpectra as PerturbedSpectra, perturbed_spectra as perturbed_spectra
    from eigencode.spectra import (
        WINDOWS as WINDOWS,
        Eigenspectrum as Eigenspectrum,
        SpectrumAccumulator as SpectrumAccumulator,
        Window as Window,
        cvpca as cvpca,
        fit_power_law as fit_power_law,
        load_spectra as load_spectra,
        save_spectra as save_spectra,
        stimulus_curve as stimulus_curve,
    )

__all__, __getattr__, __dir__ = public_names(__name__)
