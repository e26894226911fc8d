"""One cell of a study: a network from its initial weights to the last number read from it. Nothing heavy is imported here."""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from eigencode._arguments import check_fields
from eigencode._digests import short_digest
from eigencode._grammar import names_in
from eigencode.errors import RenamedWarning, SpectrumError, StudyError
from eigencode.perturbations.specification import MADE, MOST_STRENGTHS, PerturbationSpec
from eigencode.spectra.window import Window, as_configured
from eigencode.training.settings import MemberSettings, Settings

NAMES = {
    "model": "network.model",
    "width": "network.options.width",
    "data": "images.data",
    "form": "training.spectral.form",
    "epochs": "training.epochs",
    "jacobian_kind": "training.jacobian.kind",
    "jacobian_projections": "training.jacobian.projections",
    "jacobian_squared": "training.jacobian.squared",
    "adversarial": "training.adversarial.epsilon",
    "beta": "member.beta",
    "seed": "member.seed",
    "target": "member.target",
    "covariance": "member.covariance",
    "jacobian": "member.jacobian",
}
"""Short name of a field, as tables of results and options have it -> its dotted name."""

_RENAMED = {"member.strength": "member.beta"}
"""Names that fields had in the version before, which are still read -> their names."""

RESULT_VERSION = 2
"""Raised when the same configuration gives other numbers than before: results of several versions are never mixed."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network.

    Args:
        model: Name, as in ``models.load``.
        options: Of the papers' networks: width, depth, classifier_std of jiang_mlp.
        weights: Trained weights, as in ``models.load``: such a network is read as it is, and not trained. The name of the file
            is part of a cell's identity, its contents are not (see ``outdated``).
        initial: Weights from which training starts, likewise. Default: random ones of the cell's seed.
    """

    model: str = "gerum_shallow_mlp"
    options: dict[str, int | float] = field(default_factory=dict)
    weights: str | None = None
    initial: str | None = None

    def __post_init__(self) -> None:
        """Checks types, and that a network is read or trained."""
        check_fields(self, StudyError, owner="network")
        if self.weights and self.initial:
            raise StudyError(
                "network: `initial` weights are trained, and a network with `weights` is not. Leave out one of them."
            )


@dataclass(frozen=True)
class ImagesSpec:
    """Images of a data set.

    Args:
        data: Name, as in ``datasets.load``.
        train_count: Random subset of the training images. Default: all.
        test_count: Random subset of the test images. Default: all.
        size: Height and width to which the images of a folder are brought. Default: as they are.
        split: Part of the data set that is the training images; the other is the test images.
        seed: Of the random subsets.
    """

    data: str = "digits"
    train_count: int | None = None
    test_count: int | None = None
    size: int | None = None
    split: Literal["train", "test"] = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks types and numbers."""
        check_fields(self, StudyError, owner="images")


@dataclass(frozen=True)
class Readout:
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
    perturbations: tuple[PerturbationSpec, ...] = ()
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
class CellConfig:
    """One network from its initial weights to the last number read from it: with its seed, a cell.

    Args:
        network: Network.
        images: Images.
        training: What networks trained together share.
        member: What is the network's own: seed, learning rate, target and weights of penalties.
        reading: What is measured.
    """

    network: NetworkSpec = field(default_factory=NetworkSpec)
    images: ImagesSpec = field(default_factory=ImagesSpec)
    training: Settings = field(default_factory=Settings)
    member: MemberSettings = field(default_factory=MemberSettings)
    reading: Readout = field(default_factory=Readout)

    def __post_init__(self) -> None:
        """Refuses what studies do not know."""
        if isinstance(self.member.target, Mapping) or isinstance(self.member.beta, Mapping):
            raise StudyError("A study has one target and one beta for all penalised layers; got one for each layer.")
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
        data = [self.images.data, *(spec.data for spec in self.reading.perturbations)]
        weights = self.network.weights or self.network.initial
        if weights and self.network.model.startswith(("torchvision:", "timm:")) and not os.path.exists(weights):
            weights = None  # their own, by name
        named = [weights, code, *(name.partition(":")[2] for name in data if name)]
        return [Path(name) for name in dict.fromkeys(named) if name]

    @cached_property
    def network_identity(self) -> str:
        """Hash of everything but the reading: cells that have it in common are one network."""
        told: Any = {name: value for name, value in _told(self).items() if name != "reading"}
        renamed = self._renamed(self.training.spectral.layers)
        return _hash([*renamed, told] if renamed else told)

    @cached_property
    def identity(self) -> str:
        """Hash of every value that is not its field's default, and of the result version, which names the cell in the store.

        Networks trained over a weighted window have a name of their own: its weights were left out of training before.
        """
        ranks = self.training.spectral.ranks
        weighted = ["weighted"] if isinstance(ranks, str) and _is_weighted(ranks) else []
        renamed = self._renamed(f"{self.training.spectral.layers},{self.reading.layers}")
        return _hash([RESULT_VERSION, *weighted, *renamed, _told(self)])

    def _renamed(self, layers: str) -> list[str]:
        """What names of cells have beside their values, where the same values stood for something else before.

        That is the head of a network that is not a paper's, and the labels and pictures of a folder of images.
        """
        named = set(layers.replace(",", " ").split())
        head = ["head"] if ":" in self.network.model and {"head", "penultimate"} & named else []
        return head + ["folder"] * self.images.data.startswith("image_folder:")

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
        return any(spec.kind in MADE and not spec.data for spec in self.reading.perturbations)


def _is_weighted(ranks: str) -> bool:
    try:
        return Window.of(ranks).weights != "equal"
    except SpectrumError:  # told when the study is planned
        return False


def _hash(value: Any) -> str:
    return short_digest(json.dumps(value, sort_keys=True))


_TOLD = "__told__"
"""Where a dataclass keeps what it was told: a name that none of its own can have."""

_KEPT_AS = {"beta": "strength"}
"""Field -> the name that it had when the first cells were kept, which their identities are made of."""


def _told(value: Any) -> Any:
    """What a dataclass was told beyond its defaults, so that a field added later changes no identity; numbers as floats."""
    if is_dataclass(value) and not isinstance(value, type):
        if _TOLD not in vars(value):  # the cells of a grid share most of what they are made of
            own = ((name, getattr(value, name), default) for name, default in _defaults(type(value)).items())
            vars(value)[_TOLD] = {_KEPT_AS.get(name, name): _told(given) for name, given, default in own if given != default}
        return vars(value)[_TOLD]
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


def groups_of(plans: Sequence[CellConfig]) -> list[list[CellConfig]]:
    """Cells that can be trained as one stack, side by side."""
    groups: dict[str, list[CellConfig]] = {}
    for plan in plans:
        groups.setdefault(plan.group, []).append(plan)
    return list(groups.values())


def full_name(name: str) -> str:
    """The dotted name of a field; its last words are enough where it is a network's own, of training, or in ``NAMES``."""
    if name in _RENAMED:
        warnings.warn(
            f"{name} is now {_RENAMED[name]}; the old name will be removed in the next version.", RenamedWarning, stacklevel=2
        )
    name = NAMES.get(name) or _RENAMED.get(name) or name
    last = name.rpartition(".")[2]
    places = (name, f"member.{name}", f"training.{name}")
    return next((place for place in places if hasattr(field_of(CellConfig(), place.rpartition(".")[0]), last)), name)


def field_of(plan: Any, name: str) -> Any:
    """The value of a plan's field, given by its dotted name; None if there is no such field."""
    for step in filter(None, name.split(".")):
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
