"""Schaeffer, Casademunt & Mudur 2020: what input, covariance and Jacobian penalties do to a CIFAR-10 network's spectrum.

Not run here: the ImageNet networks, whose weights and images are downloads (``eigencode measure --model schaeffer2020`` reads
them), the four data sets of Ilyas et al., and the Robustness library's networks.
"""

from __future__ import annotations

from eigencode.studies.study import Block, Images, Network, Perturbed, Plan, Reading, with_field
from eigencode.training.settings import Cell, JacobianSettings, Settings, SpectralSettings

TITLE = "Towards unifying smooth neural codes with adversarially robust representations"

FIGURES = {
    "fig3": "Gaussian noise on the images, and pure noise",
    "fig4": "Images projected on their principal components, and whitened",
    "fig7": "Covariance and Jacobian penalties: spectra and accuracy",
    "fig8": "Accuracy under attack against the exponent",
}

SOURCES = {
    "network.model": "stated: section 7.2, conv 6 5x5, pool, conv 16 5x5, pool, 400-2000-1000-10, ReLU",
    "images.data": "stated: CIFAR-10",
    "training.epochs": "chosen: 20, at scale cpu 5; the paper names an accuracy of 92 % alone",
    "training.batch_size": "chosen: 128",
    "training.spectral": "chosen: ranks 1-10, which batches of 128 allow; nothing is penalised",
    "training.jacobian": "stated: the norm of the column sums, which the authors used; exact and projected beside it",
    "training.measure_every": "chosen: every five epochs",
    "member.learning_rate": "chosen: Adam 1e-3",
    "member.covariance": "stated: 0, 0.01, 0.05, 0.1; chosen: the covariance over the batch, as the text says",
    "member.jacobian": "stated: 0, 0.5, 1, 3",
    "reading.ranks": "stated: 10-316",
    "reading.count": "chosen: 3000 test images, as stated for ImageNet",
    "reading.perturbations": "stated: Gaussian noise, pure noise, 1 to 32 components, ZCA, PGD on 3000 images; chosen: standard "
    "deviations 0.05 to 0.5, ZCA with 0.01 added to the variances, PGD l-infinity of 2, 4 and 8/255 with 20 steps",
    "seeds": "chosen: 3; 1 at scale quick",
}

_NOISE = (0.05, 0.1, 0.2, 0.5)
_COMPONENTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PGD = Perturbed("pgd", (2 / 255, 4 / 255, 8 / 255), count=3000, steps=20, step_size=1 / 255, spectra=False)

PLAN = Plan(
    network=Network("schaeffer_cnn"),
    images=Images("cifar10"),
    training=Settings(epochs=20, batch_size=128, spectral=SpectralSettings(ranks="jiang"), measure_every=5),
    member=Cell(learning_rate=1e-3),
    reading=Reading(ranks=(10, 316)),
)

_READINGS = {
    "fig3": (Perturbed("gaussian", _NOISE), Perturbed("pure_noise", _NOISE)),
    "fig4": (Perturbed("pca", _COMPONENTS), Perturbed("zca", (0.01,))),
}
_COVARIANCES, _JACOBIANS = (0.0, 0.01, 0.05, 0.1), (0.0, 0.5, 1.0, 3.0)


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells of a figure at a scale: "paper" trains 20 epochs, "cpu" 5, "quick" 2 with one seed and fewer penalties.

    Figures 7 and 8 have the 4 x 4 grid with the column sums, and one row of Jacobian penalties with the exact norm and with one
    projection.
    """
    plan = with_field(PLAN, "training.epochs", {"paper": 20, "cpu": 5, "quick": 2}[scale])
    seeds = (0,) if scale == "quick" else (0, 1, 2)
    if figure in _READINGS:
        both = _READINGS["fig3"] + _READINGS["fig4"]  # read together: the network is trained once
        return (Block(with_field(plan, "reading.perturbations", both), {}, seeds),)
    plan = with_field(plan, "reading.perturbations", (_PGD,))
    covariances, jacobians = (_COVARIANCES, _JACOBIANS) if scale != "quick" else ((0.0, 0.1), (0.0, 1.0))

    def kind(name: str) -> Plan:
        settings = JacobianSettings(kind=name)  # type: ignore[arg-type]
        changed: Plan = with_field(plan, "training.jacobian", settings)
        return changed

    grid = {"member.covariance": covariances, "member.jacobian": jacobians}
    rows = tuple(Block(kind(name), {"member.jacobian": jacobians[1:]}, seeds) for name in ("exact", "projected"))
    return (Block(kind("column_sum"), grid, seeds), *rows)
