"""Gerum, Pirlot, Fyshe & Zylberberg 2022: networks whose exponent is pulled to a target, clean and attacked."""

from __future__ import annotations

from eigencode.perturbations.specification import PerturbationSpec
from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout, with_field
from eigencode.studies.definition import Block, Paper, later
from eigencode.training.settings import MemberSettings, Settings, SpectralSettings

TITLE = "Different spectral representations in optimized artificial neural networks and brains"

FIGURES = {
    "fig1e": "Eigenspectra of regularised networks",
    "fig2": "Shallow MLP on MNIST: accuracy and robustness",
    "fig2d": "Shallow MLP on MNIST: exponents over training, and every strength of attacks",
    "fig3a": "Deep MLP on MNIST",
    "fig3d": "CNN on MNIST",
    "fig3g": "CNN on CIFAR-10",
    "figS1": "Deep MLP and CNNs at every strength of the attacks",
    "line": "Shallow MLP with the later form of the regulariser",
    "lineS1": "Deep MLP and CNNs with the later form of the regulariser, at every strength of the attacks",
}

AXES = ("model", "data", "form", "beta", "target")
KINDS: tuple[str, ...] = ("model", "data", "form")

SOURCES = {
    "network.model": "stated: 784-2000 tanh-10; 3 x 1000 tanh; two convolutions; authors' code: pooling after each and a dense "
    "layer of 1000, Glorot's uniform initial weights, biases of zero",
    "images.data": "stated: MNIST and CIFAR-10; authors' code: in [0, 1]",
    "training.rule": "stated: back-propagation of cross entropy and the penalty, Eq. (6)",
    "training.epochs": "stated: 50, CNNs 200; line and lineS1: 100 or 1000 in the authors' later code; chosen: 50 everywhere, as "
    "the figures show, and 10 for CIFAR-10 at scale cpu and everywhere at quick, to save time",
    "training.batch_size": "stated: 2500 for the shallow MLP; authors' code: 1500 for the deep MLP, 6000 for CNNs",
    "training.optimizer": "stated: Adam; authors' code: its epsilon of 1e-7, no weight decay",
    "member.learning_rate": "stated: 1e-4",
    "training.spectral": "authors' code: ranks 6-50; chosen: 6-100 for the deep MLP, with which its baseline fits the figures; "
    "line and lineS1: form line, ranks 1-10 (authors' later code)",
    "training.measure_every": "chosen: every ten epochs, enough to see test accuracy settle",
    "member.target": "stated: 0.6 to 5; authors' code: in steps of 0.2, of all but the shallow MLP to 4, and from 0 in the later "
    "one; chosen: 0.6 to 4 for line and lineS1, to compare both forms; fewer at the scales cpu and quick, to save time",
    "member.beta": "stated: 0, 0.1 and 1; line and lineS1: 0, 1 and 10 (authors' later code)",
    "reading.layers": "stated: the hidden layer; authors' code: the last of several, whose exponent the penalty pulls",
    "reading.ranks": "chosen: the penalty's, so that what is read is what was pulled",
    "reading.perturbations": "stated: FGSM and PGD, 40 steps of 0.01, clipped to [0, 1]; authors' code: strengths 0.01 to 0.19, "
    "sign of PGD's gradient; chosen: fewer strengths and 2000 images at scale cpu, to save time",
    "reading.count": "chosen: 3000 test images for spectra, as in the other two papers; the figures' exponents are means over "
    "the last epoch's batches",
    "seeds": "authors' code: 3 (shallow MLP, CNNs), 2 (deep MLP), 5 in the later one; chosen: for line and lineS1 as for the "
    "others; 2 of all but Fig. 2's at scale cpu, 1 at quick, to save time",
}

TARGETS = (0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
EPSILONS = {"gerum_shallow_mlp": 0.05, "gerum_deep_mlp": 0.05, "mnist": 0.1, "cifar10": 0.01}
"""Strengths at which the figures compare networks: of the MLPs, and of the CNN on each data set."""

MODELS = {"shallow_mlp": "gerum_shallow_mlp", "deep_mlp": "gerum_deep_mlp", "cnn": "gerum_cnn"}
"""Networks as the published curves name them -> their names here."""

_ATTACKS = ("fgsm", "pgd")
_EVERY_STRENGTH = tuple(round(number / 100, 2) for number in range(1, 20))
_FEW_STRENGTHS = (0.01, 0.03, 0.05, 0.1, 0.15)


def _plan(model: str, data: str, batch: int, *, ranks: tuple[int, int] = (6, 50)) -> CellConfig:
    return CellConfig(
        network=NetworkSpec(model),
        images=ImagesSpec(data),
        training=Settings(epochs=50, batch_size=batch, spectral=SpectralSettings(ranks=ranks), measure_every=10),
        member=MemberSettings(learning_rate=1e-4),
        reading=Readout(ranks=ranks),
    )


_PLANS = {
    "fig1e": _plan("gerum_shallow_mlp", "mnist", 2500),
    "fig2": _plan("gerum_shallow_mlp", "mnist", 2500),
    "fig2d": _plan("gerum_shallow_mlp", "mnist", 2500),
    "fig3a": _plan("gerum_deep_mlp", "mnist", 1500, ranks=(6, 100)),
    "fig3d": _plan("gerum_cnn", "mnist", 6000),
    "fig3g": _plan("gerum_cnn", "cifar10", 6000),
    "line": _plan("gerum_shallow_mlp", "mnist", 2500),
}
_LATER = SpectralSettings(ranks=(1, 10), form="line")
_DEEPER = ("fig3a", "fig3d", "fig3g")


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells of a figure at a scale.

    "paper": all targets in steps of 0.2, 19 strengths, 10 000 images. "cpu": the targets 0.6 to 5 of the shallow MLP with 3
    seeds, five targets and 2 seeds of the others, 5 strengths, 2000 images, 10 epochs on CIFAR-10. "quick": 2 targets, 1 seed,
    10 epochs.
    """
    parts = _DEEPER if figure in ("figS1", "lineS1") else (figure,)
    return tuple(_block(part, scale, later=figure in ("line", "lineS1")) for part in parts)


def _block(figure: str, scale: str, *, later: bool) -> Block:
    """Networks of one kind, with the regulariser of the paper or with its later form."""
    plan, shallow = _PLANS[figure], figure in ("fig1e", "fig2", "fig2d")
    last = 50 if shallow else 40
    targets = tuple(number / 10 for number in range(6, last + 1, 2)) if scale == "paper" else TARGETS
    seeds: tuple[int, ...] = (0, 1, 2) if figure != "fig3a" else (0, 1)
    strengths, count = (_EVERY_STRENGTH, None) if scale == "paper" else (_FEW_STRENGTHS, 2000)
    if scale != "paper" and not shallow:
        targets, seeds = (0.6, 1.0, 2.0, 3.0, 4.0), (0, 1)
    if scale == "cpu" and figure == "fig3g":
        plan = with_field(plan, "training.epochs", 10)
    if scale == "quick":
        targets, seeds, plan = (1.0, 3.0), (0,), with_field(plan, "training.epochs", 10)
    if later:
        plan = with_field(with_field(plan, "training.spectral", _LATER), "reading.ranks", _LATER.ranks)
    attacks = tuple(PerturbationSpec(kind, strengths, count=count, spectra=False) for kind in _ATTACKS)
    plan = with_field(plan, "reading.perturbations", attacks)
    betas = (0.0, 1.0, 10.0) if later else (0.0, 0.1, 1.0)
    return Block(plan, {"member.beta": betas, "member.target": targets}, seeds)


PAPER = Paper(
    name="gerum2022",
    title=TITLE,
    figures=FIGURES,
    sources=SOURCES,
    axes=AXES,
    kinds=KINDS,
    blocks=blocks,
    claims=later("eigencode.papers.gerum2022.claims", "CLAIMS"),
    stated=later("eigencode.papers.gerum2022.stated", "STATED"),
    curves=later("eigencode.papers.gerum2022.curves", "beside_published"),
    drawings=later("eigencode.papers.gerum2022.figures", "FIGURES"),
    beside_recordings=("fig1e",),
    spectra_of_one=("fig1e",),
)
