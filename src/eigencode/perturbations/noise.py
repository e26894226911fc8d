"""Gaussian noise on images, each draw a function of the seed and the image's index alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode.errors import DataError

Bounds = tuple[float, float]


def _drawn(
    indices: Tensor,
    shape: Sequence[int],
    seed: int,
    stream: int,
    like: Tensor,
    draw: Callable[[np.random.Generator], np.ndarray],
) -> Tensor:
    """One draw for each image; Philox is a counter-based generator, so that (seed, stream, index) are its whole state."""
    if not len(indices):
        return torch.empty(0, *shape, dtype=like.dtype, device=like.device)
    rows = [draw(np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, stream]))) for index in indices.tolist()]
    return torch.from_numpy(np.stack(rows)).view(len(indices), *shape).to(like)


@checked(DataError)
def standard_normal(indices: Tensor, shape: Sequence[int], *, seed: int, stream: int = 0, like: Tensor) -> Tensor:
    """Standard normal numbers for each image.

    Args:
        indices: Images' indices, shape (n,).
        shape: Shape of one image.
        seed: Any non-negative integer.
        stream: Purpose or repetition; draws of different streams are independent.
        like: Tensor whose type and device the result takes.

    Returns:
        Tensor of shape (n, *shape), the same for an index whatever the batch.
    """
    size = math.prod(shape)
    return _drawn(indices, shape, seed, stream, like, lambda generator: generator.standard_normal(size, dtype=np.float32))


@checked(DataError)
def uniform(indices: Tensor, shape: Sequence[int], *, seed: int, stream: int = 0, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) for each image; arguments as for ``standard_normal``."""
    size = math.prod(shape)
    return _drawn(indices, shape, seed, stream, like, lambda generator: generator.random(size, dtype=np.float32))


@dataclass(frozen=True)
class GaussianNoise:
    """Adds independent Gaussian noise to every number of an image (Schaeffer et al. 2020, section 3.2.1).

    The paper does not say whether noisy images were clipped. The default does not, so that the noise is Gaussian as stated.

    Args:
        sigma: Standard deviation of the noise, in input units (the paper's delta).
        clip: Whether to clip to ``bounds``.
        bounds: Range of the images.
        seed: Seed; noise of one seed differs between strengths by its scale only.

    Raises:
        DataError: ``sigma`` is negative or not finite.

    Example:
        >>> images, indices = torch.full((4, 1, 8, 8), 0.5), torch.arange(4)
        >>> noisy = GaussianNoise(0.1)(images, indices)
        >>> torch.equal(noisy[2:], GaussianNoise(0.1)(images[2:], indices[2:]))
        True
    """

    sigma: float
    clip: bool = False
    bounds: Bounds = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, DataError)
        if self.sigma < 0:
            raise DataError(
                f"{type(self).__name__}: `sigma` must be a number of at least 0; got {self.sigma}. "
                "It is a standard deviation in input units."
            )

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Noisy images of the same shape (n, ...)."""
        if self.sigma == 0:
            return inputs
        noisy = inputs + self.sigma * standard_normal(indices, inputs.shape[1:], seed=self.seed, like=inputs)
        return noisy.clamp(*self.bounds) if self.clip else noisy


@dataclass(frozen=True)
class PureNoise(GaussianNoise):
    """Replaces each image by Gaussian noise (Schaeffer et al. 2020, section 3.2.1, "pure noise").

    It is the noise that ``GaussianNoise`` of the same arguments adds. The paper does not give its mean.

    Args:
        sigma: Standard deviation of the noise, in input units.
        clip: Whether to clip to ``bounds``.
        bounds: Range of the images.
        seed: Seed.
        mean: Mean of the noise, in input units: 0 (black, the default), or 0.5, the middle of the range.
    """

    mean: float = 0.0

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Noise images of the same shape (n, ...)."""
        return super().__call__(torch.full_like(inputs, self.mean), indices)
