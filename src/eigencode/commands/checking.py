"""Options of the command line, as they were told: which are switches, what none may be, and which nothing would read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, get_type_hints

from eigencode._arguments import check, shown
from eigencode._grammar import numbers_in
from eigencode._sizes import parse_bytes
from eigencode.commands.choosing import chosen_study
from eigencode.commands.options import (
    AttackConfig,
    ConstructConfig,
    MeasureConfig,
    NetworkAndImages,
    RecordingOptions,
    SpectraOfLayers,
    StudyChoice,
    StudyConfig,
    StudyRun,
    TrainConfig,
)
from eigencode.commands.parsing import parse_names, parse_numbers, parse_ranks
from eigencode.errors import EigencodeError, UsageError
from eigencode.perturbations.specification import KINDS, TOOLBOX, GradientSteps, PerturbationKind, kind_of
from eigencode.studies.cell import field_of
from eigencode.training.settings import GRID


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: Dotted name.
        hint: What it may be.
        default: Its default.
    """

    name: str
    hint: Any
    default: Any

    def value(self, config: Any) -> Any:
        """What a configuration says."""
        for step in self.name.split("."):
            config = getattr(config, step)
        return config


def options_of(kind: Any, prefix: str = "") -> Iterator[Option]:
    """All options of a configuration class, those of its parts among them."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        if is_dataclass(hints[item.name]):
            yield from options_of(hints[item.name], f"{prefix}{item.name}.")
        else:
            default = item.default if item.default_factory is MISSING else item.default_factory()
            yield Option(f"{prefix}{item.name}", hints[item.name], default)


def switches_of(kind: Any) -> set[str]:
    """Options that are true when they are named alone."""
    return {option.name for option in options_of(kind) if option.hint is bool}


def numbers_of(kind: Any) -> set[str]:
    """Options that are one number."""
    return {option.name for option in options_of(kind) if option.hint in (float, float | None)}


_HOME = re.compile(r"^([a-z_]+:)?(?=~(/|$))")
"""Before a path from the user's folder, which a shell writes out only where a word begins with it."""


def in_full(config: Any) -> Any:
    """A configuration whose paths from the user's folder (``~``) are written out."""
    changed = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            changed[item.name] = in_full(value)
        elif isinstance(value, str) and (start := _HOME.match(value)):
            changed[item.name] = start.group() + os.path.expanduser(value[start.end() :])
    return replace(config, **changed) if changed else config


def check_options(config: Any) -> None:
    """Refuses options that no command can follow, and those that nothing would read.

    Raises:
        UsageError: the first of them.
    """
    positionals = getattr(config, "positionals", ())
    for option in options_of(type(config)):
        value = option.value(config)
        written = option.name if option.name in positionals else f"--{option.name}"
        check("", option.name.rpartition(".")[2], value, option.hint, UsageError, written=written)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _check_text(text, written, may_be_empty=option.default == "" or "." in option.name)
    for rule in _RULES:
        if isinstance(config, rule.kind) and not rule.read(config):
            for option in options_of(type(config)):
                if option.name in rule.names and str(option.value(config)) != str(option.default):
                    written = option.name if option.name in positionals else f"--{option.name}"
                    raise UsageError(f"{written} would do nothing here: it is read {rule.when}. Leave it out.")
    _check_meaning(config)


def _check_meaning(config: Any) -> None:
    """Refuses texts that cannot be read, and studies that there are not, before anything heavy is imported."""
    if isinstance(config, SpectraOfLayers):
        parse_ranks(config.ranks)
        parse_names(config.layers, "layers")
        if config.half_samples == 1:
            raise UsageError("--half_samples must be 0 or at least 2; got 1. Give for example 20.")
        try:
            parse_bytes(config.memory_limit)
        except EigencodeError as error:
            raise UsageError(str(error)) from None
    if isinstance(config, AttackConfig):
        parse_numbers(config.strengths, "strengths")
    if isinstance(config, TrainConfig):
        for name in (*GRID, "robustness.epsilons"):
            parse_numbers(field_of(config, name), name)
    if isinstance(config, NetworkAndImages) and isinstance(config.classes, str) and not config.data.startswith("image"):
        raise UsageError(
            f"--classes must be a number, but for folders of images (--data image_folder:PATH); got {shown(config.classes)}."
        )
    if isinstance(config, NetworkAndImages):
        _check_preparation(config)
    missing = _WITHOUT_NETWORK.get(type(config))
    if missing and config.model is None and not getattr(config, "recording", None):
        raise UsageError(missing)
    if isinstance(config, ConstructConfig) and config.out is None:
        raise UsageError("construct: there is nowhere to put the set. Name a folder with --out.")
    if isinstance(config, StudyChoice) and getattr(config, "action", "") not in ("list", "merge"):
        chosen_study(config)


def _check_preparation(config: NetworkAndImages) -> None:
    """Refuses what is not said of how images are prepared, or what training would not read."""
    if config.mean is not None and config.data.startswith("tokens:"):
        raise UsageError("--mean would do nothing here: it is read of images. Leave it out.")
    if (config.mean is None) != (config.std is None):
        raise UsageError(f"--{'std' if config.std is None else 'mean'} is missing: --mean and --std are given together.")
    for name in ("mean", "std"):
        if (value := getattr(config, name)) is not None:
            parse_numbers(value, name)
    given = {
        "--transform": config.transform,
        "--grey": config.grey,
        "--mean": config.mean,
        "--classes FILE": isinstance(config.classes, str),
    }
    if isinstance(config, TrainConfig) and (unread := [name for name, value in given.items() if value]):
        raise UsageError(f"{unread[0]} would do nothing here: it is read by measure, attack and construct. Leave it out.")


_WITHOUT_NETWORK: dict[type, str] = {
    MeasureConfig: "measure: there is nothing to measure. Name a network with --model, or a recording with --recording.",
    AttackConfig: "attack: there is nothing to attack. Name a network with --model.",
    ConstructConfig: "construct: a set is made by a network. Name one with --model.",
}


def _check_text(text: str, written: str, *, may_be_empty: bool) -> None:
    if not text and not may_be_empty:
        raise UsageError(f"{written} is empty. Give it a value, or leave it out.")
    if "\0" in text:
        raise UsageError(f"{written} must be without NUL characters; got {shown(text)}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{written} must be text in UTF-8; got {shown(text)}.") from None


@dataclass(frozen=True)
class _Rule:
    """When options are read. Where data sets and stores are (data_root, store) may always be told."""

    kind: type
    names: tuple[str, ...]
    when: str
    read: Callable[[Any], bool]


def _kinds_of(config: AttackConfig) -> list[PerturbationKind | None]:
    names = config.perturbation if isinstance(config.perturbation, list) else config.perturbation.split(",")
    return [kind_of(each.strip()) for each in names]


def _rules_of_attacks() -> Iterator[_Rule]:
    """Each option by the kinds that have it; how attacks are run, by those that are attacks on images."""
    kinds = (*(kind for kind in KINDS.values() if kind.maker), TOOLBOX)
    options = dict.fromkeys(name for kind in kinds for name in kind.options if name != "seed")
    readers = {name: [kind for kind in kinds if name in kind.options] for name in options}
    readers |= {name: [kind for kind in kinds if kind.attack] for name in ("mode", "probe")}
    for name, own in readers.items():
        *first, last = [kind.name for kind in own]
        when = f"by {', '.join(first)}{' and ' * bool(first)}{last}"
        yield _Rule(AttackConfig, (name,), when, partial(_any_of, own))


def _any_of(kinds: Sequence[PerturbationKind], config: AttackConfig) -> bool:
    return any(kind in kinds for kind in _kinds_of(config))


def _above_zero(given: Any) -> bool:
    """Whether one of some numbers is not zero, however they are written; what is not a number is refused elsewhere."""
    try:
        return any(numbers_in(given))
    except ValueError:
        return True


def _attacks_with(config: TrainConfig, name: str) -> bool:
    return name in [each.strip() for each in config.robustness.attacks.split(",")]


_OF_NETWORKS = (
    *("weights", "data", "split", "count", "image_size", "transform", "grey", "mean", "std", "classes"),
    *("layers", "units", "tokens", "channels"),
)

_RULES = (
    _Rule(
        MeasureConfig,
        (*_OF_NETWORKS, "memory_limit", "batch_size", "device"),
        "with a network (--model)",
        lambda c: c.model is not None,
    ),
    _Rule(
        RecordingOptions,
        (
            "recording_variable",
            "recording_axes",
            "recording_stimuli",
            "recording_window",
            "recording_leave_out",
            "recording_missing",
            "recording_spontaneous",
            "recording_neurons",
        ),
        "with --recording",
        lambda c: c.recording is not None,
    ),
    _Rule(
        RecordingOptions, ("recording_components",), "with --recording_spontaneous", lambda c: c.recording_spontaneous is not None
    ),
    _Rule(
        NetworkAndImages,
        ("image_size", "transform", "grey"),
        "of folders of images (--data image_folder:PATH)",
        lambda c: c.data.startswith("image"),
    ),
    _Rule(NetworkAndImages, ("image_size",), "without --transform", lambda c: c.transform is None),
    _Rule(NetworkAndImages, ("split",), "of data sets that have a training and a test part", lambda c: ":" not in c.data),
    _Rule(NetworkAndImages, ("overwrite",), "with --out", lambda c: c.out is not None),
    _Rule(SpectraOfLayers, ("tokens",), "with --units all", lambda c: c.units == "all"),
    _Rule(
        SpectraOfLayers,
        ("channels",),
        "with --units channels or pooled, or with --tokens",
        lambda c: c.units != "all" or c.tokens != "all",
    ),
    *_rules_of_attacks(),
    _Rule(ConstructConfig, ("layer",), "by robust and non_robust", lambda c: c.kind in ("robust", "non_robust")),
    _Rule(TrainConfig, ("adam_epsilon",), "with --optimizer adam", lambda c: c.optimizer == "adam"),
    _Rule(TrainConfig, ("schedule_epochs", "schedule_factor"), "with --schedule step", lambda c: c.schedule == "step"),
    _Rule(TrainConfig, ("target",), "with a --beta above 0", lambda c: _above_zero(c.beta)),
    _Rule(TrainConfig, ("covariance_kind",), "with a --covariance above 0", lambda c: _above_zero(c.covariance)),
    _Rule(
        TrainConfig,
        ("jacobian_kind", "jacobian_projections", "jacobian_squared"),
        "with a --jacobian above 0",
        lambda c: _above_zero(c.jacobian),
    ),
    _Rule(TrainConfig, ("jacobian_projections",), "with --jacobian_kind projected", lambda c: c.jacobian_kind == "projected"),
    _Rule(
        TrainConfig,
        ("adversarial.norm", "adversarial.steps", "adversarial.step_size", "adversarial.start"),
        "with an --adversarial.epsilon above 0",
        lambda c: c.adversarial.epsilon > 0,
    ),
    _Rule(
        TrainConfig,
        ("robustness.epsilons", "robustness.norm", "robustness.count"),
        "with --robustness.attacks",
        lambda c: bool(c.robustness.attacks),
    ),
    _Rule(
        TrainConfig,
        tuple(f"robustness.{item.name}" for item in fields(GradientSteps) if item.name != "norm"),
        "with --robustness.attacks pgd",
        lambda c: _attacks_with(c, "pgd"),
    ),
    _Rule(StudyConfig, ("name",), "by show, plan, run and merge", lambda c: c.action != "list"),
    _Rule(StudyConfig, ("scale", "smoke", "set"), "by show, plan and run", lambda c: c.action in ("show", "plan", "run")),
    _Rule(StudyConfig, ("json",), "by list, plan, run and merge", lambda c: c.action != "show"),
    _Rule(
        StudyConfig,
        ("again", "retry", "stack", "device", "engine", "address", "cpus", "gpus", "retries"),
        "by plan and run",
        lambda c: c.action in ("plan", "run"),
    ),
    _Rule(StudyRun, ("retries",), "with --engine ray", lambda c: c.engine == "ray"),
    _Rule(StudyChoice, ("scale",), "of shipped studies", lambda c: not str(c.name).endswith((".yaml", ".yml"))),
)
"""An option that differs from its default and that nothing will read is refused."""
