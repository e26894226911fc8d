"""Terms of the loss beside the cross entropy and the spectral penalty: what each weight of a member weighs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.penalties import covariance_members, half_square_or_norm, jacobian_squares, random_directions
from eigencode.training.data import generator_for
from eigencode.training.settings import Settings


@dataclass(frozen=True)
class ForwardPass:
    """What penalties are computed of.

    Attributes:
        inputs: Shape (K, n, ...); with a gradient where a penalty that is used is of the inputs.
        scores: Shape (K, n, classes).
        code: Of the last layer that is measured, (K, n, ...); None if none is.
        seeds: Of each member.
        step: Number of the step.
    """

    inputs: Tensor
    scores: Tensor
    code: Tensor | None
    seeds: Sequence[int]
    step: int


def _covariance(seen: ForwardPass, settings: Settings) -> Tensor:
    assert seen.code is not None
    return covariance_members(seen.code.to(seen.scores.dtype), kind=settings.covariance_kind)


def _jacobian(seen: ForwardPass, settings: Settings) -> Tensor:
    chosen, directions = settings.jacobian, None
    if chosen.kind == "projected":
        drawn = [
            random_directions(seen.scores[0], chosen.projections, generator=generator_for(seed, seen.step)) for seed in seen.seeds
        ]
        directions = torch.stack(drawn, dim=1)
    squares = jacobian_squares(seen.scores, seen.inputs, kind=chosen.kind, directions=directions)
    return half_square_or_norm(squares, squared=chosen.squared).mean(dim=1)


TERMS: dict[str, Callable[[ForwardPass, Settings], Tensor]] = {"covariance": _covariance, "jacobian": _jacobian}
"""Weight of a penalty -> what it weighs, of shape (K,); the spectral penalty is carried from step to step."""
