"""Perturbations and attacks by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eigencode._arguments import checked
from eigencode.attacks.art import ArtAttack
from eigencode.attacks.geometry import Norm
from eigencode.attacks.gradient import FGSM, PGD, Direction, Keep, Start
from eigencode.attacks.layerwise import LayerAttack, LossAt
from eigencode.errors import AttackError
from eigencode.perturbations import GaussianNoise, PrincipalComponents, PureNoise

NAMES = ("gaussian", "pure_noise", "pca", "zca", "fgsm", "pgd", "layer_gaussian", "layer_fgsm", "art:NAME")


@checked(AttackError)
def by_name(
    name: str,
    *,
    components: Callable[[], PrincipalComponents],
    clip: bool = False,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: float | None = None,
    relative_step: bool = False,
    direction: Direction = "sign",
    start: Start = "input",
    restarts: int = 1,
    keep: Keep = "final",
    loss_at: LossAt | None = None,
    seed: int = 0,
) -> Any:
    """A perturbation or attack for ``perturbed_spectra``.

    Args:
        name: One of ``NAMES``, "art:NAME" being an attack of the adversarial-robustness-toolbox.
        components: Called for the principal components that "pca" and "zca" need.
        clip: Of ``GaussianNoise`` and ``PureNoise``.
        norm: Of ``PGD``, ``FGSM`` and ``ArtAttack``.
        steps: Of ``PGD``.
        step_size: Of ``PGD``.
        relative_step: Of ``PGD``.
        direction: Of ``PGD``.
        start: Of ``PGD``.
        restarts: Of ``PGD``.
        keep: Of ``PGD``.
        loss_at: Of ``LayerAttack``.
        seed: Seed of all draws.

    Returns:
        A family, an attack or a ``LayerAttack``.

    Raises:
        AttackError: no such name, or an argument out of range.
    """
    kind, _, rest = name.partition(":")
    makers: dict[str, Callable[[], Any]] = {
        "gaussian": lambda: partial(GaussianNoise, clip=clip, seed=seed),
        "pure_noise": lambda: partial(PureNoise, clip=clip, seed=seed),
        "pca": lambda: lambda k: components().projection(k),
        "zca": lambda: lambda epsilon: components().whitening(epsilon),
        "fgsm": lambda: FGSM(norm=norm, seed=seed),
        "pgd": lambda: PGD(
            norm=norm,
            steps=steps,
            step_size=step_size,
            relative_step=relative_step,
            direction=direction,
            start=start,
            restarts=restarts,
            keep=keep,
            seed=seed,
        ),
        "layer_gaussian": lambda: LayerAttack("gaussian", loss_at=loss_at, seed=seed),
        "layer_fgsm": lambda: LayerAttack("fgsm", loss_at=loss_at, seed=seed),
    }
    if kind == "art" and rest:
        return ArtAttack(rest, norm=norm, seed=seed)
    if name not in makers:
        raise AttackError(f"`perturbation`: no perturbation is called {name!r}. Use one of {', '.join(NAMES)}.")
    return makers[name]()
