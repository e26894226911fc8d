"""A small study of our own on the bundled digits, in Gerum's manner: what ``make demo`` runs."""

from __future__ import annotations

from eigencode.perturbations.specification import PerturbationSpec
from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout, with_field
from eigencode.studies.definition import Block, Paper, later
from eigencode.training.settings import MemberSettings, Settings, SpectralSettings

TITLE = "A small network on handwritten digits, pulled to three exponents"

FIGURES = {
    "spectra": "Eigenspectra of a baseline and of regularised networks",
    "outcome": "Accuracy, clean and attacked, against the exponent",
}

AXES = ("beta", "target")
KINDS: tuple[str, ...] = ()

SOURCES = {
    "network.model": "chosen: Gerum's shallow MLP",
    "images.data": "chosen: the bundled digits",
    "training.rule": "chosen: back-propagation, as Gerum et al.",
    "training.optimizer": "chosen: Adam, as Gerum et al.",
    "training.epochs": "chosen: what takes seconds",
    "training.batch_size": "chosen: of 1297 images, nine steps an epoch",
    "training.measure_every": "chosen: every ten epochs",
    "training.spectral": "chosen: ranks 2-30, which 8x8 images fill",
    "member.learning_rate": "chosen: so that twenty epochs suffice",
    "member.target": "chosen: 1, 2 and 3",
    "member.beta": "chosen: a baseline, and a strength that reaches them",
    "reading.layers": "chosen: the hidden layer",
    "reading.ranks": "chosen: the penalty's",
    "reading.count": "chosen: all test images",
    "reading.perturbations": "chosen: FGSM and PGD, as Gerum et al., and noise",
    "seeds": "chosen: 2",
}

RANKS = (2, 30)
EPSILON = 0.1


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells, the same for both figures and every scale."""
    del figure, scale
    attacks = (
        PerturbationSpec("fgsm", (0.05, EPSILON), spectra=False),
        PerturbationSpec("pgd", (0.05, EPSILON), spectra=False),
        PerturbationSpec("gaussian", (0.1, 0.3)),
    )
    plan = CellConfig(
        network=NetworkSpec("gerum_shallow_mlp"),
        images=ImagesSpec("digits"),
        training=Settings(epochs=20, batch_size=150, spectral=SpectralSettings(ranks=RANKS), measure_every=10),
        member=MemberSettings(learning_rate=1e-3, target=1.0),
        reading=Readout(ranks=RANKS, perturbations=attacks),
    )
    regularised = with_field(plan, "member.beta", 0.3)
    return (Block(plan, {}, (0, 1)), Block(regularised, {"member.target": (1.0, 2.0, 3.0)}, (0, 1)))


PAPER = Paper(
    name="demo",
    title=TITLE,
    figures=FIGURES,
    sources=SOURCES,
    axes=AXES,
    kinds=KINDS,
    blocks=blocks,
    claims=later("eigencode.papers.demo.claims", "CLAIMS"),
    drawings=later("eigencode.papers.demo.figures", "FIGURES"),
)
