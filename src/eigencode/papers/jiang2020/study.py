"""Jiang, Zhou & Huang 2020: layers that learn from local errors, clean and attacked layer by layer, on MNIST."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eigencode.perturbations.specification import PerturbationSpec
from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout, with_field
from eigencode.studies.definition import SETTINGS, Block, Paper, later
from eigencode.training.settings import MemberSettings, Settings, SpectralSettings

if TYPE_CHECKING:
    from eigencode.studies.results.table import StudyResults

TITLE = "Relationship between manifold smoothness and adversarial vulnerability in deep learning with local errors"

FIGURES = {
    "fig2": "Error over training, at every layer",
    "fig3": "Eigenspectra of all layers",
    "fig4": "Accuracy and exponent along the layers, for several widths",
    "fig5": "Exponent against accuracy, layer by layer",
    "fig6": "Gaussian noise at the input of each layer",
    "fig7": "FGSM at the input of each layer",
    "fig8": "Dimension against exponent",
    "stimuli": "Exponent against the number of images",
    SETTINGS: "Verdicts over what the paper leaves open",
}

AXES = ("width",)
KINDS: tuple[str, ...] = ()

SOURCES = {
    "network.model": "stated: fully connected ReLU layers without bias, each with its fixed Gaussian classifier, Eq. (1)",
    "network.options.width": "stated: 200; Fig. 4 from 50 up; chosen: 50, 100, 200 and 400, each twice the last",
    "network.options.depth": "stated: 8",
    "network.options.classifier_std": "chosen: 0.1, with which networks learn at the stated rate; jiang2020.settings has others",
    "network.options.initial_gain": "chosen: 0.577, as in PyTorch's layers, whose exponents differ less than with He's",
    "images.data": "stated: MNIST, 60 000 training and 10 000 test images",
    "training.rule": "stated: Eq. (2); chosen: its gradient averaged over the batch, so that the rate fits any size",
    "training.batch_size": 'chosen: 200, which makes the "hundreds of mini-batches" 300',
    "training.epochs": "chosen: 60, when the error has settled; 10 at scale quick, and others in jiang2020.settings",
    "training.optimizer": "stated: mini-batch stochastic gradient descent; chosen: without momentum, of which nothing is said",
    "training.spectral": "stated: ranks 1-10",
    "training.measure_every": "chosen: exponents every five epochs, often enough to see them settle",
    "training.schedule": "stated: times 0.8 every ten epochs",
    "member.learning_rate": "stated: 0.5, chosen: at every width; jiang2020.settings has 0.1, too",
    "reading.layers": "stated: all",
    "reading.stimuli": "chosen: 500 to 3000, on both sides of the 2000 from which fluctuations are said to be negligible",
    "reading.count": "stated: 3000 test images",
    "reading.ranks": "stated: 1-10",
    "reading.perturbations": "stated: 0.1 to 4.0 in steps of 0.1, without clipping; chosen: ten of these in jiang2020.settings",
    "seeds": "stated: 20 networks, 50 for Fig. 5; chosen: 4 read with several numbers of stimuli, since each is read often; 4 "
    "and 8 at scale quick, to save time",
}

WIDTH = 200
"""Units in each layer of all networks but those of Fig. 4."""

_LAYERS = ",".join(f"layers.{number}" for number in range(8))
_STRENGTHS = tuple(number / 10 for number in range(1, 41))

_PERTURBED = (PerturbationSpec("layer_gaussian", _STRENGTHS), PerturbationSpec("layer_fgsm", _STRENGTHS))

PLAN = CellConfig(
    network=NetworkSpec("jiang_mlp", {"width": WIDTH, "depth": 8, "classifier_std": 0.1, "initial_gain": 0.577}),
    images=ImagesSpec("mnist"),
    training=Settings(
        epochs=60,
        batch_size=200,
        rule="local",
        optimizer="sgd",
        schedule="step",
        spectral=SpectralSettings(ranks="jiang"),
        measure_every=5,
    ),
    member=MemberSettings(learning_rate=0.5),
    reading=Readout(layers=_LAYERS, ranks="jiang", count=3000, perturbations=_PERTURBED),
)

_WIDTHS = (50, 100, 400)

_OPEN = {
    "member.learning_rate": (0.5, 0.1),
    "network.options.classifier_std": (0.1, 0.3),
    "network.options.initial_gain": (0.577, math.sqrt(2)),
    "training.epochs": (10, 20, 60),
}
"""What the paper leaves open; and beside the rate that it states a smaller one, for larger J."""

_FEW_STRENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)


def dimension_of(evidence: StudyResults) -> str:
    """The dimension of the population, if all records have it: those of earlier versions have that of the images alone."""
    every, kept = (
        evidence.select(name, perturbation="unperturbed", width=WIDTH) for name in ("dimension", "dimension_population")
    )
    return "dimension" if set(every["network"]) - set(kept["network"]) else "dimension_population"


def number_of(layer: str) -> int:
    """Layer number from 1, as the paper counts."""
    return int(layer.split(".")[1]) + 1


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells of a figure at a scale: "paper" and "cpu" are the paper's sizes, "quick" has 4 networks and 10 epochs."""
    plan, seeds, more = PLAN, tuple(range(20)), tuple(range(20, 50))
    widths: tuple[int, ...] = _WIDTHS
    if scale == "quick":
        plan, seeds, more, widths = with_field(plan, "training.epochs", 10), tuple(range(4)), tuple(range(4, 8)), (50,)
    plain = with_field(plan, "reading.perturbations", ())
    every = Block(plan, {}, seeds)
    if figure == SETTINGS:
        few = tuple(PerturbationSpec(kind, _FEW_STRENGTHS) for kind in ("layer_gaussian", "layer_fgsm"))
        grid = _OPEN if scale != "quick" else {**_OPEN, "training.epochs": (10,)}
        return (Block(with_field(PLAN, "reading.perturbations", few), grid, seeds[:3]),)
    if figure == "stimuli":
        return (Block(with_field(plain, "reading.stimuli", (500, 1000, 2000, 3000)), {}, seeds[:4]),)
    if figure == "fig4":
        return (every, Block(plain, {"network.options.width": widths}, seeds))
    return (every, Block(plain, {}, more)) if figure == "fig5" else (every,)


PAPER = Paper(
    name="jiang2020",
    title=TITLE,
    figures=FIGURES,
    sources=SOURCES,
    axes=AXES,
    kinds=KINDS,
    blocks=blocks,
    claims=later("eigencode.papers.jiang2020.claims", "CLAIMS"),
    left_out=lambda: {SETTINGS},
    stated=later("eigencode.papers.jiang2020.stated", "STATED"),
    drawings=later("eigencode.papers.jiang2020.figures", "FIGURES"),
    beside_recordings=("fig3",),
    spectra_of_one=("fig3",),
)
