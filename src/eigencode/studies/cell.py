"""One cell of a study: a network from its initial weights to the last number read from it. Nothing heavy is imported here."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from eigencode._arguments import check_fields
from eigencode._digests import short_digest
from eigencode._grammar import names_in
from eigencode.errors import SpectrumError, StudyError
from eigencode.spectra.window import Window, as_configured
from eigencode.training.settings import Cell, Settings

RESULT_VERSION = 2
"""Raised when the same configuration gives other numbers than before: results of several versions are never mixed."""

MOST_STRENGTHS = 1000
"""More are refused before they are listed."""

Made = Literal["robust", "non_robust", "random_target", "deterministic_target"]
MADE: tuple[Made, ...] = get_args(Made)
"""Kinds of images that another network's features make (Ilyas et al. 2019)."""

Kind = Literal["gaussian", "pure_noise", "pca", "zca", "fgsm", "pgd", "layer_gaussian", "layer_fgsm", Made]


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        model: Name, as in ``models.load``.
        options: Of the papers' networks: width, depth, classifier_std of jiang_mlp.
        weights: Trained weights, as in ``models.load``: such a network is read as it is, and not trained. The name of the file
            is part of a cell's identity, its contents are not (see ``outdated``).
    """

    model: str = "gerum_shallow_mlp"
    options: dict[str, int | float] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        """Checks types."""
        check_fields(self, StudyError, owner="network")


@dataclass(frozen=True)
class Images:
    """Images of a data set.

    Args:
        data: Name, as in ``datasets.load``.
        train_count: Random subset of the training images. Default: all.
        test_count: Random subset of the test images. Default: all.
        size: Height and width to which the images of a folder are brought. Default: as they are.
    """

    data: str = "digits"
    train_count: int | None = None
    test_count: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        """Checks types and numbers."""
        check_fields(self, StudyError, owner="images")


LINF_STEP = 0.01
"""Length of a step of pgd within linf that is not told, input units."""


@dataclass(frozen=True)
class Perturbed:
    """What is done to test images, or to the input of single layers, and what is read then.

    Args:
        kind: Name of the perturbation or attack, as in ``eigencode attack``; or of the images that take the place of the test
            images, made from training images with the features of another network, as in ``eigencode construct``.
        strengths: Its strengths; of images made by another network, the l2 budgets of that network's adversarial training.
        count: Test images. Default: as many as the reading's.
        norm: Norm of an attack's budget.
        steps: Steps of pgd, or of making images. Default: 40; for images 1000, and 100 towards targets.
        step_size: Length of a step of pgd, input units. Default: 0.01 for linf, 2.5 epsilon / steps for l2.
        relative_step: Steps of pgd of 2.5 epsilon / steps for linf, too.
        spectra: Read spectra too; else accuracy alone, of all networks of a stack together (fgsm and pgd).
        data: Data set that is shown in place of images that would be made, as in ``datasets.load``.
    """

    kind: Kind
    strengths: tuple[float, ...]
    count: int | None = None
    norm: Literal["linf", "l2"] = "linf"
    steps: int | None = None
    step_size: float | None = None
    relative_step: bool = False
    spectra: bool = True
    data: str | None = None

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, StudyError, owner=self.kind if isinstance(self.kind, str) else "perturbation")
        if not self.strengths:
            raise StudyError(f"{self.kind}: `strengths` must hold at least one strength.")
        if len(self.strengths) > MOST_STRENGTHS:
            raise StudyError(f"{self.kind}: `strengths` holds {len(self.strengths)} numbers; {MOST_STRENGTHS} at most.")
        low, high = (1.0, math.inf) if self.kind == "pca" else (0.0, math.inf)
        if self.kind in ("fgsm", "pgd") and self.norm == "linf":
            high = 1.0
        for strength in self.strengths:
            if not low <= strength <= high:
                range_ = f"in {low:g}..{high:g}, the range of pixels" if high < math.inf else f"at least {low:g}"
                raise StudyError(f"{self.kind}: `strengths` must be {range_}; got {strength:g}.")
        if not self.spectra and self.kind not in ("fgsm", "pgd"):
            raise StudyError(f"{self.kind}: accuracy alone, `spectra` false, is read of fgsm and pgd only.")
        if self.data and self.kind not in MADE:
            raise StudyError(f"{self.kind}: `data` takes the place of images that are made: of {', '.join(MADE)}.")
        if self.kind in MADE and (self.norm != "linf" or self.step_size is not None):
            raise StudyError(f"{self.kind}: images are made within l2, with steps of 0.1; leave out `norm` and `step_size`.")
        if self.relative_step and (self.kind != "pgd" or self.step_size is not None):
            raise StudyError(
                f"{self.kind}: `relative_step` sets the length of a step of pgd. Set it for pgd alone, "
                "and not together with `step_size`."
            )

    @property
    def n_steps(self) -> int:
        """Steps of pgd, or of making images."""
        return self.steps or self._usual_steps

    @property
    def _usual_steps(self) -> int:
        made = {"robust": 1000, "non_robust": 1000, "random_target": 100, "deterministic_target": 100}
        return made.get(self.kind, 40)

    @property
    def way(self) -> str:
        """What is done whatever the kind and the strength, in words: what is not the default."""
        usual_step = LINF_STEP if self.norm == "linf" else None
        told = {
            self.norm: self.norm != "linf",
            f"count {self.count}": self.count is not None,
            "all images": self.count is None and not self.spectra,
            f"steps {self.n_steps}": self.n_steps != self._usual_steps,
            "relative steps": self.relative_step,
            f"step_size {self.step_size}": self.step_size not in (None, usual_step),
            str(self.data): self.data is not None,
        }
        return ", ".join(words for words, said in told.items() if said) or "by default"


@dataclass(frozen=True)
class Reading:
    """What is measured after training.

    Args:
        layers: Layers, as in ``measure``, separated by commas.
        ranks: Fit window.
        count: Test images for spectra.
        perturbations: What is done to them besides.
        stimuli: Numbers of test images; for each, exponents of ten random subsets are compared.
    """

    layers: str = "penultimate"
    ranks: str | tuple[int, int] = "gerum"
    count: int = 3000
    perturbations: tuple[Perturbed, ...] = ()
    stimuli: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, StudyError, owner="reading")
        try:
            names = names_in(self.layers)
        except ValueError as error:
            raise StudyError(f"reading: `layers`: {error}; got {self.layers!r}.") from None
        if not names:
            raise StudyError("reading: `layers` names none. Name one, such as penultimate.")
        object.__setattr__(self, "layers", ",".join(names))
        object.__setattr__(self, "ranks", as_configured(self.ranks))
        if len(self.stimuli) > MOST_STRENGTHS:
            raise StudyError(f"reading: `stimuli` holds {len(self.stimuli)} numbers; {MOST_STRENGTHS} at most.")
        for first, second in itertools.combinations(self.perturbations, 2):
            both = set(first.strengths) & set(second.strengths)
            if first.kind == second.kind and both:
                raise StudyError(
                    f"reading: {first.kind} is there twice with strength {min(both):g}, and its results would be one. Give each "
                    "strength of a kind once, or make two studies."
                )


@dataclass(frozen=True)
class Plan:
    """One network from its initial weights to the last number read from it: with its seed, a cell.

    Args:
        network: Network.
        images: Images.
        training: What networks trained together share.
        member: What is the network's own: seed, learning rate, target, strength and weights of penalties.
        reading: What is measured.
    """

    network: Network = field(default_factory=Network)
    images: Images = field(default_factory=Images)
    training: Settings = field(default_factory=Settings)
    member: Cell = field(default_factory=Cell)
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        """Refuses what studies do not know."""
        if isinstance(self.member.target, Mapping) or isinstance(self.member.strength, Mapping):
            raise StudyError("A study has one target and one strength for all penalised layers; got one for each layer.")
        if self.network.weights and self.makes_images:
            raise StudyError("Images cannot be made for a network with `weights`, which is not trained. Name their `data`.")

    @property
    def files(self) -> list[Path]:
        """Files and folders that are named, and there."""
        return [path for path in self.named_files if os.path.exists(path)]

    @property
    def named_files(self) -> list[Path]:
        """Files and folders that are named: weights, a network's own code, images; there or not."""
        code = self.network.model.removeprefix("file:").rpartition(":")[0] if self.network.model.startswith("file:") else None
        data = [self.images.data, *(told.data for told in self.reading.perturbations)]
        weights = self.network.weights
        if weights and self.network.model.startswith(("torchvision:", "timm:")) and not os.path.exists(weights):
            weights = None  # their own, by name
        named = [weights, code, *(name.partition(":")[2] for name in data if name)]
        return [Path(name) for name in dict.fromkeys(named) if name]

    @cached_property
    def network_identity(self) -> str:
        """Hash of everything but the reading: cells that have it in common are one network."""
        return _hash({name: value for name, value in _told(self).items() if name != "reading"})

    @cached_property
    def identity(self) -> str:
        """Hash of every value that is not its field's default, and of the result version, which names the cell in the store.

        Networks trained over a weighted window have a name of their own: its weights were left out of training before.
        """
        ranks = self.training.spectral.ranks
        weighted = ["weighted"] if isinstance(ranks, str) and _is_weighted(ranks) else []
        return _hash([RESULT_VERSION, *weighted, _told(self)])

    @cached_property
    def group(self) -> str:
        """Hash of everything that networks trained as one stack share."""
        shared = {name: value for name, value in _told(self).items() if name != "member"}
        if self.makes_images:  # by a network that is trained as they are
            shared["learning_rate"] = self.member.learning_rate
        return _hash(shared)

    @property
    def makes_images(self) -> bool:
        """Whether images are made for it by another network."""
        return any(told.kind in MADE and not told.data for told in self.reading.perturbations)


def _is_weighted(ranks: str) -> bool:
    try:
        return Window.of(ranks).weights != "equal"
    except SpectrumError:  # told when the study is planned
        return False


def _hash(value: Any) -> str:
    return short_digest(json.dumps(value, sort_keys=True))


def _told(value: Any) -> Any:
    """What a dataclass was told beyond its defaults, so that a field added later changes no identity; numbers as floats."""
    if is_dataclass(value) and not isinstance(value, type):
        own = ((name, getattr(value, name), default) for name, default in _defaults(type(value)).items())
        return {name: _told(given) for name, given, default in own if given != default}
    if isinstance(value, dict):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@cache
def _defaults(kind: type) -> dict[str, Any]:
    """Name -> default of all fields of a dataclass; only to compare with."""
    return {item.name: default_of(item) for item in fields(kind)}


def default_of(item: Field[Any]) -> Any:
    """The default of a dataclass's field."""
    return item.default if item.default_factory is MISSING else item.default_factory()


def groups_of(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Cells that can be trained as one stack, side by side."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan.group, []).append(plan)
    return list(groups.values())


def field_of(plan: Any, name: str) -> Any:
    """The value of a plan's field, given by its dotted name; None if there is no such field."""
    for step in name.split("."):
        plan = plan.get(step) if isinstance(plan, Mapping) else getattr(plan, step, None)
    return plan


def with_field(plan: Any, name: str, value: Any) -> Any:
    """A dataclass with another value of a field, given by its dotted name.

    Raises:
        StudyError: no such field.
    """
    first, _, rest = name.partition(".")
    if isinstance(plan, Mapping):
        return {**plan, first: value}
    if first not in getattr(plan, "__dataclass_fields__", {}):
        known = ", ".join(getattr(plan, "__dataclass_fields__", {}))
        there = f"There are {known}." if known else "That value has no fields."
        raise StudyError(f"A study has no field {name!r} here. {there}")
    return replace(plan, **{first: with_field(getattr(plan, first), rest, value) if rest else value})
