"""Principal components of images: projection on the first k of them, and whitening without rotation (ZCA)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode._files import replacing
from eigencode._readers.arrays import read_safetensors
from eigencode.datasets.images import ImageSet
from eigencode.errors import DataError, FileError
from eigencode.spectra.covariance import Moments, add_samples, covariance
from eigencode.spectra.eigenvalues import eigenpairs

_BATCH = 2000
"""Images taken at once while fitting."""

_LARGEST = 16384
"""Most numbers of an image: the covariance matrix of float64 then takes 2 GiB, and its decomposition three times that."""


@dataclass(frozen=True, eq=False, repr=False)
class PrincipalComponents:
    """Mean and principal components of a set of images, float64.

    Attributes:
        mean: Mean image, shape (d,), d = channels x height x width.
        eigenvalues: Variance along each component, largest first, shape (d,), squared input units.
        vectors: Components as columns, shape (d, d).
        image_shape: Channels, height and width.
        n_samples: Images they were fitted on.
        source: Name of these images.
    """

    mean: Float[Tensor, " d"]
    eigenvalues: Float[Tensor, " d"]
    vectors: Float[Tensor, "d d"]
    image_shape: tuple[int, ...]
    n_samples: int
    source: str

    @classmethod
    @checked(DataError)
    def fit(cls, images: ImageSet) -> PrincipalComponents:
        """Principal components of images, by streaming sums of outer products in float64.

        Args:
            images: At least two; as a rule the training images.

        Returns:
            PrincipalComponents.

        Raises:
            DataError: a single image, or images too large for a covariance matrix of their pixels.

        Example:
            >>> components = PrincipalComponents.fit(ImageSet.unlabelled(torch.rand(50, 1, 4, 4)))
            >>> components
            PrincipalComponents of 50 images (1, 4, 4) from images, rank 16
        """
        size = math.prod(images.shape)
        if len(images) < 2:
            raise DataError(f"PrincipalComponents: at least 2 images are needed; got {len(images)}. Pass more.")
        if size > _LARGEST:
            raise DataError(
                f"PrincipalComponents: images must have at most {_LARGEST} numbers; got {size} ({images.shape}). "
                "Make them smaller, for example with --image_size."
            )
        moments = Moments.empty(size, images.inputs.device)
        for batch in images.inputs.split(_BATCH):
            moments = add_samples(moments, batch.flatten(1).unsqueeze(1))
        values, vectors = eigenpairs(covariance(moments))
        return cls(moments.mean, values, vectors, images.shape, len(images), images.name)

    def __repr__(self) -> str:
        return f"PrincipalComponents of {self.n_samples} images {self.image_shape} from {self.source}, rank {self.rank}"

    @cached_property
    def rank(self) -> int:
        """Components with a variance above the numerical floor, d times the float64 precision times the largest variance."""
        floor = float(self.eigenvalues[0]) * len(self.eigenvalues) * torch.finfo(torch.float64).eps
        return int((self.eigenvalues > floor).sum())

    @checked(DataError)
    def projection(self, k: float) -> Projection:
        """Projection on the first k components (Schaeffer et al. 2020, section 3.2.2).

        Args:
            k: Number of components, a whole number from 1 to d.

        Returns:
            Perturbation of inputs (n, channels, height, width).

        Raises:
            DataError: no such k.
        """
        if not float(k).is_integer():
            raise DataError(f"projection: `k` must be a whole number from 1 to {len(self.mean)}, the pixels; got {k:g}.")
        return Projection(self, int(k))

    @checked(DataError)
    def whitening(self, epsilon: float = 0.0) -> Whitening:
        """ZCA whitening (Bell & Sejnowski 1997): W = V diag(1 / sqrt(variance + epsilon)) V', applied to x - mean.

        With epsilon = 0 the fitted images get the identity as covariance, on the span of the components with a variance above the
        numerical floor; the others are removed. Output is centred on zero and has unit variance, not the range of images.

        Args:
            epsilon: Added to each variance, squared input units. Schaeffer et al. 2020 do not state theirs.

        Returns:
            Perturbation of inputs (n, channels, height, width).

        Raises:
            DataError: ``epsilon`` is negative or not finite.
        """
        return Whitening(self, epsilon)

    @cached_property
    def _copies(self) -> dict[torch.device, PrincipalComponents]:
        return {self.mean.device: self}

    def to(self, device: torch.device) -> PrincipalComponents:
        """The same components on another device, copied there once."""
        if device not in self._copies:
            mean, eigenvalues, vectors = (tensor.to(device) for tensor in (self.mean, self.eigenvalues, self.vectors))
            self._copies[device] = replace(self, mean=mean, eigenvalues=eigenvalues, vectors=vectors)
        return self._copies[device]

    def save(self, path: str | Path) -> None:
        """Writes a .safetensors file; one that is there stays as it is until the new one is safe on disk.

        Raises:
            DiskError: it cannot be written.
        """
        about = {"image_shape": list(self.image_shape), "n_samples": self.n_samples, "source": self.source}
        tensors = {name: getattr(self, name).cpu().contiguous() for name in ("mean", "eigenvalues", "vectors")}
        with replacing(path) as new:
            save_file(tensors, new, metadata={"principal_components": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> PrincipalComponents:
        """Reads a file written by ``save``.

        Raises:
            DataError: no such file, or a file of another kind.
        """
        try:
            tensors, texts = read_safetensors(Path(path))
            about = json.loads(texts["principal_components"])
            loaded = cls(
                **{name: tensors[name] for name in ("mean", "eigenvalues", "vectors")},
                image_shape=tuple(int(extent) for extent in about["image_shape"]),
                n_samples=int(about["n_samples"]),
                source=str(about["source"]),
            )
            size, rank = math.prod(loaded.image_shape), len(loaded.eigenvalues)
            if (loaded.mean.shape, loaded.vectors.shape) != ((size,), (size, rank)):
                raise ValueError("shapes")
        except FileError as error:
            raise DataError(f"PrincipalComponents: {error}") from None
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"PrincipalComponents: {path} was not written by PrincipalComponents.save. Fit and save again."
            ) from None
        return loaded

    def centred(self, inputs: Tensor) -> Tensor:
        """Inputs as rows of float64 with the mean removed, shape (n, d).

        Raises:
            DataError: images of another shape.
        """
        if tuple(inputs.shape[1:]) != tuple(self.image_shape):
            raise DataError(
                f"PrincipalComponents: they were fitted on images {tuple(self.image_shape)} from {self.source}; got images "
                f"{tuple(inputs.shape[1:])}. Fit them on images of this shape."
            )
        return inputs.flatten(1).to(torch.float64) - self.mean


@dataclass(frozen=True, eq=False)
class Projection:
    """Projects images on the first k principal components; the mean is kept.

    Attributes:
        components: Where the components come from.
        k: Number of components.
    """

    components: PrincipalComponents
    k: int

    def __post_init__(self) -> None:
        """Checks the number."""
        check_fields(self, DataError, owner="projection")
        if not 1 <= self.k <= len(self.components.mean):
            raise DataError(
                f"projection: `k` must be a whole number from 1 to {len(self.components.mean)}, the pixels; got {self.k}."
            )

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Projected images of the same shape and type, not clipped."""
        components = self.components.to(inputs.device)
        rows = components.centred(inputs)
        if self.k > len(components.mean) // 2:  # take the rest away: cheaper, and nothing is rounded when all are kept
            rest = components.vectors[:, self.k :]
            projected = inputs.flatten(1).to(torch.float64) - (rows @ rest) @ rest.T
        else:
            first = components.vectors[:, : self.k]
            projected = components.mean + (rows @ first) @ first.T
        return projected.to(inputs.dtype).view_as(inputs)


@dataclass(frozen=True, eq=False)
class Whitening:
    """Whitens images without rotating them (ZCA).

    Attributes:
        components: Where the components come from.
        epsilon: Added to each variance.
    """

    components: PrincipalComponents
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Checks the number."""
        check_fields(self, DataError, owner="whitening")
        if self.epsilon < 0:
            raise DataError(f"whitening: `epsilon` must be a number of at least 0; got {self.epsilon}.")

    @cached_property
    def matrix(self) -> Float[Tensor, "d d"]:
        """Symmetric whitening matrix."""
        kept = slice(None) if self.epsilon else slice(self.components.rank)
        vectors = self.components.vectors[:, kept]
        return (vectors * (self.components.eigenvalues[kept].clamp(min=0) + self.epsilon).rsqrt()) @ vectors.T

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Whitened images of the same shape and type."""
        if self.matrix.device != inputs.device:
            return Whitening(self.components.to(inputs.device), self.epsilon)(inputs, indices)
        return (self.components.centred(inputs) @ self.matrix).to(inputs.dtype).view_as(inputs)


def projection(k: float, *, components: Callable[[], PrincipalComponents]) -> Projection:
    """Projection on the first k of components that are fitted when they are first needed."""
    return components().projection(k)


def whitening(epsilon: float, *, components: Callable[[], PrincipalComponents]) -> Whitening:
    """Whitening by components that are fitted when they are first needed."""
    return components().whitening(epsilon)
