"""Cross-validated PCA: the spectrum of what a population says twice, without the noise it adds each time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.dimension import participation_ratio
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.eigenvalues import Numbers, as_numbers, positive_run, share_of_first
from eigencode.spectra.power_law import PowerLawFit, fit_power_law
from eigencode.spectra.window import Ranks, Weights

SHUFFLES = 10
"""Random exchanges of the repeats, averaged."""

_LARGEST = 1e150
"""Responses above are squared to more than float64 can hold."""


@dataclass(frozen=True, repr=False)
class CrossValidatedSpectrum(Shown):
    """Signal variances along the principal components of one repeat, measured with the other.

    Attributes:
        eigenvalues: Mean over shuffles, shape (k,), squared response units. Values near zero may be negative and may
            rise from one rank to the next. They are those along directions that one repeat shows, noise and all, and so decay
            too slowly where noise is large (see ``signal_spectrum``).
        shuffles: One spectrum for each shuffle, shape (s, k).
        total_variance: Mean variance of single repeats, signal and noise together, squared response units.
        n_samples: Stimuli.
        n_features: Neurons.
        name: What error messages call this recording.
    """

    eigenvalues: Tensor
    shuffles: Tensor
    total_variance: float
    n_samples: int
    n_features: int
    name: str = "recording"

    def _shown(self) -> dict[str, object]:
        found = {"name": self.name, "stimuli": self.n_samples, "neurons": self.n_features, "rank": self.numerical_rank}
        return found | {"signal_fraction": self.signal_fraction if self.total_variance > 0 else None}

    @property
    def numerical_rank(self) -> int:
        """Number of ranks in the run of positive signal variances with the largest sum; noise can make any of them negative."""
        first, last = positive_run(self.eigenvalues)
        return last - first + 1

    @property
    def dimension(self) -> float:
        """Participation ratio of the positive signal variances (Jiang et al. 2020, Eq. (4))."""
        return participation_ratio(self.eigenvalues.clamp_min(0))

    @checked(SpectrumError)
    def variance_explained(self, k: int) -> float:
        """Share of the summed signal variance in the first k components (see ``Eigenspectrum.variance_explained``)."""
        return share_of_first(self.eigenvalues, k, name=self.name)

    def as_eigenspectrum(self) -> Eigenspectrum:
        """The mean over shuffles as an Eigenspectrum, which can be saved; no interval, since shuffles are no samples."""
        return Eigenspectrum(
            eigenvalues=self.eigenvalues,
            n_samples=self.n_samples,
            n_features=self.n_features,
            n_images=self.n_samples,
            method="cross-validated",
            name=self.name,
        )

    @property
    def signal_fraction(self) -> float:
        """Share of a single repeat's variance that returns in the other.

        Raises:
            SpectrumError: nothing varies.
        """
        if self.total_variance <= 0:
            raise SpectrumError(f"{self.name}: signal_fraction needs responses that vary; they are the same for every stimulus.")
        return float(self.eigenvalues.sum()) / self.total_variance

    @checked(SpectrumError)
    def fit(self, ranks: Ranks = "stringer", weights: Weights | None = None) -> PowerLawFit:
        """Power law over a window of ranks that holds positive signal variances only.

        Args:
            ranks: Window, its name or text, or first and last rank. Default: stringer, 11-500 with weights 1/n.
            weights: "equal" or "inverse_rank"; default: those of the window.

        Returns:
            PowerLawFit.

        Raises:
            SpectrumError: the window holds a signal variance that is not positive; the message gives the largest window.
        """
        return fit_power_law(
            self.eigenvalues,
            ranks=ranks,
            weights=weights,
            n_samples=self.n_samples,
            n_features=self.n_features,
            method="cross-validated",
            name=self.name,
        )


@checked(SpectrumError)
def cvpca(
    responses: Numbers,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    name: str = "recording",
) -> CrossValidatedSpectrum:
    """Signal eigenspectrum of responses to two repeats of the same stimuli.

    The estimator of Stringer et al., with its bias: components of a noisy repeat mix those of the signal, so that alpha comes out
    too small where noise is large (0.7 for 1.0 over ranks 11-100 at a signal fraction of 0.2, 600 stimuli and 300 neurons); use
    ``signal_spectrum`` for what does not depend on noise. Principal components come from repeat 1; the signal variance along
    component i is the covariance, over stimuli, of the two repeats' projections: noise that is independent
    between repeats averages out. Each shuffle exchanges the repeats of a random half of the stimuli first. All shuffles work on
    inner products computed once, so that ten cost little more than one.

    Args:
        responses: Shape (2, n_stimuli, n_neurons), any float dtype; each repeat's mean over stimuli is removed here.
        shuffles: Number of random exchanges, at least 1.
        seed: Seed of the exchanges.
        name: What error messages call this recording.

    Returns:
        CrossValidatedSpectrum with min(n_stimuli - 1, n_neurons) values.

    Raises:
        SpectrumError: not two repeats, fewer than three stimuli, or values that are masked, not real, not finite or above 1e150.

    Source: Stringer et al. 2019, Methods, "Cross-validated PCA".

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> signal = torch.randn(500, 200, generator=generator) / torch.arange(1, 201) ** 0.5
        >>> noise = torch.randn(2, 500, 200, generator=generator) * 0.1
        >>> round(cvpca(signal + noise).fit(ranks=(1, 50)).alpha, 1)
        1.0
    """
    data = as_numbers(responses, caller=name, what="responses").to(torch.float64)
    if data.ndim != 3 or data.shape[0] != 2 or data.shape[1] < 3 or data.shape[2] < 1:
        raise SpectrumError(
            f"{name}: cvpca needs responses of shape (2, n_stimuli, n_neurons) with at least 3 stimuli and 1 neuron; got "
            f"{tuple(data.shape)}. Arrange two repeats along the first dimension."
        )
    bad = int((~torch.isfinite(data)).sum())
    if bad:
        raise SpectrumError(f"{name}: responses must be finite; got {bad} NaN or infinite values. Remove those neurons.")
    largest = float(data.abs().max())
    if largest > _LARGEST:
        raise SpectrumError(f"{name}: squares of responses must not overflow; got {largest:.3g}. Divide them.")
    _, n_stimuli, n_neurons = data.shape
    generator = torch.Generator().manual_seed(seed)
    swaps = torch.rand(shuffles, n_stimuli, generator=generator) < 0.5
    one_shuffle = _through_stimuli if n_stimuli <= n_neurons else _through_neurons
    spectra = torch.stack(one_shuffle(data, swaps))
    centred = data - data.mean(dim=1, keepdim=True)
    return CrossValidatedSpectrum(
        eigenvalues=spectra.mean(dim=0),
        shuffles=spectra,
        total_variance=float((centred**2).sum()) / (2 * (n_stimuli - 1)),
        n_samples=n_stimuli,
        n_features=n_neurons,
        name=name,
    )


def _through_stimuli(data: Tensor, swaps: Tensor) -> list[Tensor]:
    """With A = U S V^T for repeat 1, (A V)^T (B V) has the diagonal of U^T (B A^T) U: inner products suffice."""
    n_stimuli = data.shape[1]
    stacked = data.flatten(0, 1)
    stacked = stacked - stacked.mean(dim=0)
    gram = stacked @ stacked.T
    index = torch.arange(n_stimuli)
    spectra = []
    for swap in swaps:
        first, second = index + n_stimuli * swap, index + n_stimuli * ~swap
        within, between = _double_centre(gram[first][:, first]), _double_centre(gram[second][:, first])
        vectors = torch.linalg.eigh(within)[1].flip(1)[:, : n_stimuli - 1]
        spectra.append((vectors * (between @ vectors)).sum(dim=0) / (n_stimuli - 1))
    return spectra


def _through_neurons(data: Tensor, swaps: Tensor) -> list[Tensor]:
    n_stimuli = data.shape[1]
    spectra = []
    for swap in swaps:
        first = torch.where(swap[:, None], data[1], data[0])
        second = torch.where(swap[:, None], data[0], data[1])
        first, second = first - first.mean(dim=0), second - second.mean(dim=0)
        vectors = torch.linalg.eigh(first.T @ first)[1].flip(1)
        spectra.append(((first @ vectors) * (second @ vectors)).sum(dim=0) / (n_stimuli - 1))
    return spectra


def _double_centre(matrix: Tensor) -> Tensor:
    return matrix - matrix.mean(dim=0) - matrix.mean(dim=1, keepdim=True) + matrix.mean()
