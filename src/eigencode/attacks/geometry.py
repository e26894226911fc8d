"""What an attack's norm decides: the size of a change, the steepest step, the nearest change within budget, a random start."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.perturbations.noise import standard_normal, uniform
from eigencode.perturbations.specification import Norm

_DIRECTION_STREAM, _RADIUS_STREAM = 2**32, 2**33
"""Streams of the random starts, apart from those of noise."""


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) with singleton dimensions, to be multiplied with images (n, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def sizes(change: Tensor, norm: Norm) -> Tensor:
    """Norm of each image's change, shape (n,), in input units."""
    if change.numel() == 0:
        return change.new_zeros(len(change))
    if norm == "linf":
        return change.flatten(1).abs().amax(dim=1)
    lengths: Tensor = torch.linalg.vector_norm(
        change.flatten(1), dim=1, dtype=torch.float64
    )  # float32 squares under- and overflow
    return lengths.to(change.dtype)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Step of unit norm that raises the loss fastest: the sign (l-infinity) or the gradient over its length (l2).

    An image whose gradient is zero or not finite gets no step.
    """
    if norm == "linf":
        return gradient.sign()  # the sign of NaN is 0
    lengths = sizes(gradient, "l2")
    usable = lengths.isfinite() & (lengths > 0)
    scaled = gradient / per_image(torch.where(usable, lengths, 1.0), gradient)
    return scaled if bool(usable.all()) else torch.where(per_image(usable, gradient), scaled, 0.0)


class Ball:
    """Images within epsilon of the originals, inside the bounds.

    Args:
        centre: Originals, shape (n, ...).
        epsilon: Radius in input units.
        norm: "linf" or "l2".
        bounds: Lowest and highest value of an image.
    """

    def __init__(self, centre: Tensor, epsilon: float, norm: Norm, bounds: tuple[float, float]) -> None:
        self.centre, self.epsilon, self.norm, self.bounds = centre, epsilon, norm, bounds
        if norm == "linf":
            self.low = (centre - epsilon).clamp_(*bounds)
            self.high = (centre + epsilon).clamp_(*bounds)

    def project_(self, images: Tensor) -> Tensor:
        """Images moved, in place, to the ball: scaled to the radius (l2) or cut (l-infinity), then cut to the bounds."""
        if self.norm == "linf":
            return images.clamp_(self.low, self.high)
        images -= self.centre
        lengths = sizes(images, "l2")
        outside = lengths > self.epsilon
        images *= per_image(torch.where(outside, self.epsilon / lengths.clamp_min(1e-30), 1.0), images)
        images += self.centre
        return images.clamp_(*self.bounds)

    def random_start(self, indices: Tensor, *, seed: int, restart: int) -> Tensor:
        """A point drawn uniformly from the ball for each image, a function of (seed, restart, index) alone."""
        shape = self.centre.shape[1:]
        if self.norm == "linf":
            drawn = uniform(indices, shape, seed=seed, stream=_DIRECTION_STREAM + restart, like=self.centre)
            return self.project_(self.centre + self.epsilon * (2 * drawn - 1))
        direction = standard_normal(indices, shape, seed=seed, stream=_DIRECTION_STREAM + restart, like=self.centre)
        radius = uniform(indices, (), seed=seed, stream=_RADIUS_STREAM + restart, like=self.centre) ** (1 / shape.numel())
        change = direction * per_image(self.epsilon * radius / sizes(direction, "l2"), direction)
        return self.project_(self.centre + change)

    def select(self, chosen: Tensor) -> Ball:
        """The ball of some of the images; ``chosen`` is a mask or indices."""
        return Ball(self.centre[chosen], self.epsilon, self.norm, self.bounds)
