"""Steps of the spectral penalty's gradient that autograd has to be told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eigencode.errors import PenaltyError


class _AsMember(torch.autograd.Function):
    """x[None], whose gradient autograd may add to in place: one that is a view would be copied, at the price of a product."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor) -> Tensor:
        return activations[None]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream[0] if upstream.requires_grad else upstream[0].data


def as_member(activations: Tensor) -> Tensor:
    """Activations (n, ...) of one network as those of an ensemble of one, (1, n, ...); differentiable once."""
    return applied(_AsMember, activations)


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """What a function gives.

    Raises:
        PenaltyError: torch.func is to transform it.
    """
    try:
        found: Tensor = function.apply(*arguments)
    except RuntimeError as error:
        if "setup_context" not in str(error):
            raise
        raise PenaltyError(
            "SpectralPenalty: torch.func cannot transform it, since it carries a block from call to call. Use "
            "torch.autograd.grad, or covariance_penalty."
        ) from None
    return found


class _DifferentiatedOnce(torch.autograd.Function):
    """A gradient that depends on activations in a way that has no derivative here."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _activations: Tensor, _upstream: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, _upstream: Tensor) -> Any:
        raise PenaltyError(
            "SpectralPenalty: its gradient cannot be differentiated again (second derivatives, meta-learning). Use "
            "covariance_penalty there, or leave the penalty out of what is differentiated twice."
        )


def differentiated_once(gradient: Tensor, activations: Tensor, upstream: Tensor) -> Tensor:
    """A gradient whose own derivative is refused."""
    found: Tensor = _DifferentiatedOnce.apply(gradient, activations, upstream)  # type: ignore[no-untyped-call]
    return found
