"""Schaeffer, Casademunt & Mudur 2020: what inputs, covariance and Jacobian penalties do to a CIFAR-10 network's spectrum.

The paper's ImageNet networks (Figs 2 and 3) are read where their images are: ``eigencode reproduce schaeffer2020.fig2 --set
images.data=image_folder:PATH``, with torchvision's weights. In place of the four data sets of Ilyas et al. and the networks of
the Robustness library (Figs 5 and 6), which are downloads, stand images that this network makes and networks trained
adversarially here; the released ones are read by ``eigencode reproduce schaeffer2020.released``. The study of the whole paper
takes all that lies in the folder where it is run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from eigencode.models.groups import expand
from eigencode.perturbations.specification import PerturbationSpec
from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout, with_field
from eigencode.studies.definition import SETTINGS, Block, Paper, later
from eigencode.training.settings import JacobianSettings, MemberSettings, Settings, SpectralSettings

TITLE = "Towards unifying smooth neural codes with adversarially robust representations"

FIGURES = {
    "fig2": "Eleven ImageNet networks",
    "fig3": "Gaussian noise on the images, and pure noise",
    "fig3_imagenet": "The same of an ImageNet network",
    "fig4": "Images projected on their principal components, and whitened",
    "fig5": "Images made of robust and of non-robust features",
    "fig6": "Networks trained adversarially, on the same images",
    "released": "Figs 5 and 6 with the released data sets and networks",
    "fig7": "Covariance and Jacobian penalties: spectra and accuracy",
    "fig8": "Accuracy under attack against the exponent",
    SETTINGS: "Verdicts over what the paper leaves open",
}

NEED_FILES = {
    "fig2": "the images of ImageNet: eigencode reproduce schaeffer2020.fig2 --set images.data=image_folder:PATH",
    "fig3_imagenet": "the images of ImageNet: eigencode reproduce schaeffer2020.fig3_imagenet --set "
    "images.data=image_folder:PATH",
    "released": "the folder release_datasets of Ilyas et al. and the files cifar_nat.pt, cifar_l2_0_25.pt, cifar_l2_0_5.pt and "
    "cifar_l2_1_0.pt of the Robustness library in this folder: eigencode reproduce schaeffer2020.released",
}
"""Figures that are made from files of the user's."""

AXES = ("model", "trained", "covariance", "jacobian", "jacobian_kind")
KINDS: tuple[str, ...] = ("model", "trained")

SOURCES = {
    "network.model": "stated: section 7.2, conv 6 5x5, pool, conv 16 5x5, pool, 400-2000-1000-10, ReLU; Fig. 6: a ResNet-50 of "
    "the Robustness library, here the same network; Fig. 2: eleven networks of five families, of which these are chosen; Fig. "
    "3: ResNet-50; chosen: torch's initial weights, of which nothing is said",
    "network.options": "chosen: images in 0 to 1 as they are; in schaeffer2020.settings also in -1 to 1, as in the tutorial",
    "network.weights": "stated: torchvision's (Fig. 2); the Robustness library's (Fig. 6, released)",
    "images.data": "stated: CIFAR-10; ImageNet (Fig. 2); chosen: no augmentation, of which nothing is said, so that networks are "
    "trained on such images as they are read on",
    "images.test_count": "stated: 3000 random images (Fig. 2)",
    "images.train_count": "chosen: as many (Figs 2 and 3, ImageNet, whose networks are not trained)",
    "images.size": "chosen: 224 (Figs 2 and 3, ImageNet), for which these weights were trained",
    "training.adversarial.epsilon": "stated: l2 budgets 0, 0.25, 0.5, 1 (Fig. 6); chosen: 7 steps, as that library's examples",
    "training.epochs": "chosen: 13, when training accuracy reaches the stated 92 % (0.91 after 12 epochs, 0.93 after 13); at "
    "scale cpu 5 for Figs 6 to 8 (0.65), to save time; in schaeffer2020.settings also 5 and 24, and with the tutorial's steps 11 "
    "(0.914 after 10, 0.924 after 11)",
    "training.batch_size": "chosen: 128, a usual size for CIFAR-10",
    "training.rule": "stated: back-propagation of Eq. (1), cross entropy and penalties",
    "training.optimizer": "chosen: Adam, which needs no schedule for so few epochs; its epsilon of 1e-7 as in Gerum et al.; in "
    "schaeffer2020.settings the tutorial's stochastic gradient descent, too: momentum 0.9, batches of 4, images in -1 to 1",
    "training.momentum": "chosen: 0.9 for stochastic gradient descent, as in the tutorial",
    "training.spectral": "chosen: ranks 1-10, which batches of 128 allow; nothing is penalised",
    "training.jacobian": "stated: the norm of the column sums, which the authors used; exact and projected beside it",
    "training.measure_every": "chosen: every five epochs, to see accuracy settle",
    "member.learning_rate": "chosen: 1e-3, Adam's usual rate",
    "member.covariance": "stated: 0, 0.01, 0.05, 0.1; chosen: the covariance over the batch, as the text says",
    "member.jacobian": "stated: 0, 0.5, 1, 3",
    "reading.layers": "stated: the penultimate",
    "reading.ranks": "stated: 10-316",
    "reading.count": "chosen: 3000 test images, as stated for ImageNet",
    "reading.perturbations": "stated: Gaussian noise, pure noise, 1 to 32 components, ZCA, PGD on 3000 images, robust and "
    "non-robust features, random and deterministic targets; chosen: pure noise of mean 0 and of 0.5; standard deviations 0.05 to "
    "0.5, from hardly seen to most of the range; ZCA with 0.01 added to the variances, which leaves directions of hardly any "
    "variance small; PGD l-infinity of 2, 4 and 8/255, usual for CIFAR-10, in 20 steps of 1/255, more than the budget takes; of "
    "3000 training images, made in 1000 steps (200 at scale cpu, 50 at quick, to save time) by this network, for robust features "
    "trained adversarially at l2 0.5 (Ilyas et al.: 1000 steps, 0.5)",
    "seeds": "chosen: 3, the fewest with a spread worth telling; at scale cpu 2 for Figs 6 to 8, at quick 1, to save time",
}

RESNET = "torchvision:resnet50"
"""The ImageNet network of Fig. 3."""

ELEVEN = expand("schaeffer2020")
"""The ImageNet networks of Fig. 2."""

NOISE_ALONE = {"pure_noise": 0.0, "grey_noise": 0.5}
"""Noise alone, and its mean, of which the paper names none."""

_NOISE = (0.05, 0.1, 0.2, 0.5)
_COMPONENTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PGD = PerturbationSpec("pgd", (2 / 255, 4 / 255, 8 / 255), count=3000, steps=20, step_size=1 / 255, spectra=False)

_BUDGETS = (0.0, 0.25, 0.5, 1.0)
_ROBUST_BUDGET = 0.5


def _made(steps: int) -> tuple[PerturbationSpec, ...]:
    """The four data sets: made by a robust network, and by one that is not."""
    return (
        PerturbationSpec("robust", (_ROBUST_BUDGET,), count=3000, steps=steps),
        PerturbationSpec("non_robust", (0.0,), count=3000, steps=steps),
        PerturbationSpec("random_target", (0.0,), count=3000, steps=min(steps, 100)),
        PerturbationSpec("deterministic_target", (0.0,), count=3000, steps=min(steps, 100)),
    )


PLAN = CellConfig(
    network=NetworkSpec("schaeffer_cnn"),
    images=ImagesSpec("cifar10"),
    training=Settings(epochs=13, batch_size=128, spectral=SpectralSettings(ranks="jiang"), measure_every=5),
    member=MemberSettings(learning_rate=1e-3),
    reading=Readout(ranks=(10, 316)),
)

RELEASED = {
    "robust": "d_robust_CIFAR",
    "non_robust": "d_non_robust_CIFAR",
    "random_target": "drand_CIFAR",
    "deterministic_target": "ddet_CIFAR",
}
"""Folders of Ilyas et al.'s release."""

LIBRARYS = "cifar_resnet50"
"""The network of the Robustness library, whose weights are a release."""

_RELEASED_WEIGHTS = ("cifar_nat.pt", "cifar_l2_0_25.pt", "cifar_l2_0_5.pt", "cifar_l2_1_0.pt")

_NOISY = (PerturbationSpec("gaussian", _NOISE), *(PerturbationSpec(kind, _NOISE) for kind in NOISE_ALONE))
_COMPONENTS_AND_ZCA = (PerturbationSpec("pca", _COMPONENTS), PerturbationSpec("zca", (0.01,)))
_INPUTS = (*_NOISY[:2], *_COMPONENTS_AND_ZCA)
"""What the networks of Figs 4 and 5 are shown. Noise of mean 0 is among it, since kept cells have it."""

IMAGENET = CellConfig(
    network=NetworkSpec(RESNET, weights="DEFAULT"),
    images=ImagesSpec("image_folder:imagenet", train_count=3000, test_count=3000, size=224),
    reading=Readout(ranks=(10, 316)),
)


def left_out() -> set[str]:
    """Figures that the whole paper's study leaves out: their files are not in this folder, or released ones take their place."""
    released = [*_RELEASED_WEIGHTS, *(f"release_datasets/{name}" for name in RELEASED.values())]
    without: set[str] = set() if Path("imagenet").is_dir() else {"fig2", "fig3_imagenet"}
    return without | {SETTINGS} | ({"fig5", "fig6"} if all(Path(name).exists() for name in released) else {"released"})


_ADAM: dict[str, tuple[Any, ...]] = {
    "training.optimizer": ("adam",),
    "training.batch_size": (128,),
    "training.epochs": (5, 13, 24),
}
_TUTORIAL: dict[str, tuple[Any, ...]] = {"training.optimizer": ("sgd",), "training.batch_size": (4,), "training.epochs": (11,)}


def _settings(seeds: tuple[int, ...]) -> tuple[Block, ...]:
    """Networks trained in every way, which the paper leaves open: with Adam for less long and longer, and as in the tutorial.

    They are shown no images that networks make, which take long.
    """
    adam = with_field(PLAN, "reading.perturbations", (*_NOISY, *_COMPONENTS_AND_ZCA))
    tutorial = replace(
        adam,
        network=NetworkSpec("schaeffer_cnn", {"input_mean": 0.5, "input_std": 0.5}),
        training=replace(adam.training, optimizer="sgd", momentum=0.9, spectral=SpectralSettings(layers="")),
    )
    return Block(adam, _ADAM, seeds), Block(tutorial, _TUTORIAL, seeds)


_COVARIANCES, _JACOBIANS = (0.0, 0.01, 0.05, 0.1), (0.0, 0.5, 1.0, 3.0)


def blocks(figure: str, scale: str) -> tuple[Block, ...]:
    """Cells of a figure at a scale.

    "paper" trains 13 epochs; "cpu" 5, with two seeds, where many networks are trained; "quick" 2, with one seed and fewer
    penalties. Figures 7 and 8 have the 4 x 4 grid with the column sums, and one row of Jacobian penalties with the exact norm and
    with one projection.
    """
    if figure == "fig2":
        return (Block(IMAGENET, {"network.model": ELEVEN}),)
    if figure == "fig3_imagenet":
        return (Block(with_field(IMAGENET, "reading.perturbations", _NOISY)),)
    few = figure in ("fig3", "fig4", "fig5", "released", SETTINGS)
    plan = with_field(PLAN, "training.epochs", 2 if scale == "quick" else 5 if scale == "cpu" and not few else 13)
    seeds = (0,) if scale == "quick" else (0, 1) if scale == "cpu" and not few else (0, 1, 2)
    sets = _made({"paper": 1000, "cpu": 200, "quick": 50}[scale])
    if figure == "fig6":
        budgets = _BUDGETS if scale != "quick" else (0.0, 1.0)
        return (Block(with_field(plan, "reading.perturbations", sets), {"training.adversarial.epsilon": budgets}, seeds),)
    if figure == "released":
        sets = tuple(replace(spec, data=f"ilyas:release_datasets/{RELEASED[spec.kind]}") for spec in sets)
        trained = with_field(plan, "reading.perturbations", sets)
        library = replace(IMAGENET, network=NetworkSpec(LIBRARYS), images=ImagesSpec("cifar10"), reading=trained.reading)
        return (Block(trained, {}, seeds), Block(library, {"network.weights": _RELEASED_WEIGHTS}))
    if figure == SETTINGS:
        return _settings(seeds)
    if few:  # Figs 4 and 5 are read together: the network is trained once
        shown = _NOISY if figure == "fig3" else (*_INPUTS, *sets)
        return (Block(with_field(plan, "reading.perturbations", shown), {}, seeds),)
    plan = with_field(plan, "reading.perturbations", (_PGD,))
    covariances, jacobians = (_COVARIANCES, _JACOBIANS) if scale != "quick" else ((0.0, 0.1), (0.0, 1.0))

    def kind(name: str) -> CellConfig:
        settings = JacobianSettings(kind=name)  # type: ignore[arg-type]
        changed: CellConfig = with_field(plan, "training.jacobian", settings)
        return changed

    grid = {"member.covariance": covariances, "member.jacobian": jacobians}
    rows = tuple(Block(kind(name), {"member.jacobian": jacobians[1:]}, seeds) for name in ("exact", "projected"))
    return (Block(kind("column_sum"), grid, seeds), *rows)


PAPER = Paper(
    name="schaeffer2020",
    title=TITLE,
    figures=FIGURES,
    sources=SOURCES,
    axes=AXES,
    kinds=KINDS,
    blocks=blocks,
    left_out=left_out,
    claims=later("eigencode.papers.schaeffer2020.claims", "CLAIMS"),
    stated=later("eigencode.papers.schaeffer2020.stated", "STATED"),
    drawings=later("eigencode.papers.schaeffer2020.figures", "FIGURES"),
    beside_recordings=("fig4",),
    spectra_of_one=("fig3", "fig4", "fig5", "fig6", "fig7"),
)
