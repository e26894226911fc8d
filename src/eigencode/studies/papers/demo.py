"""A small study of our own on the bundled digits, in Gerum's manner: what ``make demo`` runs."""

from __future__ import annotations

from eigencode.studies.study import Block, Images, Network, Perturbed, Plan, Reading, with_field
from eigencode.training.settings import Cell, Settings, SpectralSettings

TITLE = "A small network on handwritten digits, pulled to three exponents"

FIGURES = {
    "spectra": "Eigenspectra of a baseline and of regularised networks",
    "outcome": "Accuracy, clean and attacked, against the exponent",
}

AXES = ("beta", "target")
KINDS: tuple[str, ...] = ()

SOURCES = {
    "network.model": "chosen: Gerum's shallow MLP",
    "images": "chosen: the bundled digits",
    "training": "chosen: what takes seconds",
    "member": "chosen: a baseline and targets 1, 2 and 3",
    "reading": "chosen: ranks 2-30, which 8x8 images fill; FGSM and PGD",
    "seeds": "chosen: 2",
}

RANKS = (2, 30)
EPSILON = 0.1


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells, the same for both figures and every scale."""
    del figure, scale
    attacks = (
        Perturbed("fgsm", (0.05, EPSILON), spectra=False),
        Perturbed("pgd", (0.05, EPSILON), spectra=False),
        Perturbed("gaussian", (0.1, 0.3)),
    )
    plan = Plan(
        network=Network("gerum_shallow_mlp"),
        images=Images("digits"),
        training=Settings(epochs=20, batch_size=150, spectral=SpectralSettings(ranks=RANKS), measure_every=10),
        member=Cell(learning_rate=1e-3, target=1.0),
        reading=Reading(ranks=RANKS, perturbations=attacks),
    )
    regularised = with_field(plan, "member.strength", 0.3)
    return (Block(plan, {}, (0, 1)), Block(regularised, {"member.target": (1.0, 2.0, 3.0)}, (0, 1)))
