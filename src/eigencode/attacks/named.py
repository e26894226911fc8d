"""Perturbations and attacks by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from eigencode._arguments import checked
from eigencode.attacks.outputs import LOSSES
from eigencode.errors import AttackError
from eigencode.perturbations import PrincipalComponents
from eigencode.perturbations.specification import KINDS, NAMES, TOOLBOX, GradientSteps, PerturbationOptions


@checked(AttackError)
def by_name(
    name: str,
    options: GradientSteps | None = None,
    *,
    components: Callable[[], PrincipalComponents] | None = None,
    seed: int = 0,
) -> Any:
    """A perturbation or attack for ``perturbed_spectra``.

    Args:
        name: One of ``specification.NAMES``, "art:NAME" being an attack of the adversarial-robustness-toolbox.
        options: How it is done; of these it takes what it has. Default: ``PerturbationOptions()``.
        components: Called for the principal components that "pca" and "zca" need.
        seed: Seed of all draws.

    Returns:
        A family, an attack or a ``LayerAttack``.

    Raises:
        AttackError: no such name, or an argument out of range.
    """
    own, _, rest = name.partition(":")
    kind = TOOLBOX if own == "art" and rest else KINDS.get(name)
    if kind is None or kind.maker is None:
        raise AttackError(f"`perturbation`: no perturbation is called {name!r}. Use one of {', '.join(NAMES)}.")
    if "components" in kind.options and components is None:
        raise AttackError(f"{name}: it needs principal components. Pass `components`, a function that returns them.")
    usual = PerturbationOptions()
    there = {"components": components, "seed": seed}
    chosen: dict[str, Any] = {each: there.get(each, getattr(options, each, getattr(usual, each, None))) for each in kind.options}
    if chosen.get("steps", 1) is None:
        chosen["steps"] = kind.steps
    if "loss" in chosen:
        chosen["loss"] = LOSSES[chosen["loss"]]
    module, _, maker = kind.maker.partition(":")
    make = getattr(import_module(module), maker)
    given = {"attack": rest} if kind is TOOLBOX else kind.given
    return make(**given, **chosen) if kind.attack or kind.at_layers else partial(make, **given, **chosen)
