"""What is done to inputs without labels: noise, projection on principal components, whitening.

A perturbation of one strength is a callable of inputs (n, ...) and the images' indices (n,), as ``eigencode.measure`` takes it. A
family, as ``eigencode.perturbed_spectra`` takes it, is a callable of the strength that returns one: ``GaussianNoise``,
``PureNoise``, ``PrincipalComponents.projection`` or ``PrincipalComponents.whitening``.

Names are loaded when they are first used: what there is, is said without torch in ``specification``.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.perturbations.components import PrincipalComponents, Projection, Whitening
    from eigencode.perturbations.noise import GaussianNoise, PureNoise, standard_normal, uniform
    from eigencode.perturbations.specification import PerturbationSpec

_HOME = {
    "GaussianNoise": "eigencode.perturbations.noise",
    "PerturbationSpec": "eigencode.perturbations.specification",
    "PrincipalComponents": "eigencode.perturbations.components",
    "Projection": "eigencode.perturbations.components",
    "PureNoise": "eigencode.perturbations.noise",
    "Whitening": "eigencode.perturbations.components",
    "standard_normal": "eigencode.perturbations.noise",
    "uniform": "eigencode.perturbations.noise",
}

__all__ = [
    "GaussianNoise",
    "PerturbationSpec",
    "PrincipalComponents",
    "Projection",
    "PureNoise",
    "Whitening",
    "standard_normal",
    "uniform",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
