"""What is done to inputs without labels: noise, projection on principal components, whitening.

A perturbation of one strength is a callable of inputs (n, ...) and the images' indices (n,), as ``eigencode.measure`` takes it. A
family, as ``eigencode.perturbed_spectra`` takes it, is a callable of the strength that returns one: ``GaussianNoise``,
``PureNoise``, ``PrincipalComponents.projection`` or ``PrincipalComponents.whitening``.

Names are loaded when they are first used: what there is, is said without torch in ``specification``.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import lazy

if TYPE_CHECKING:
    from eigencode.perturbations.components import (
        PrincipalComponents,
        Projection,
        Whitening,
    )
    from eigencode.perturbations.noise import (
        GaussianNoise,
        PureNoise,
        standard_normal,
        uniform,
    )
    from eigencode.perturbations.specification import PerturbationSpec

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

__getattr__, __dir__ = lazy(__name__)
