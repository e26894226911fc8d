"""Eigenvalues of what has been kept of a sample, and what else it tells of the population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from eigencode.spectra.covariance import Moments, spectra_of_groups
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.gains import MUCH, Gains, Singles, gains_of_singles, gains_of_traces, singles_of
from eigencode.spectra.traces import Traces, groups_of_gram, groups_of_moments, traces_of_gram


def of_gram(gram: Tensor, *, dealt: Tensor | None = None) -> tuple[Tensor, Traces, Gains, Tensor | None]:
    """Eigenvalues of the covariance, what they need to tell of the population, and squared lengths where gains differ much.

    Args:
        gram: Inner products of the centred samples, shape (n, n).
        dealt: Group of each sample, shape (n,), where samples are not independent of each other.
    """
    eigenvalues = descending_eigenvalues(gram) / (len(gram) - 1)
    if dealt is None:
        traces = traces_of_gram(gram)
        mean = gram.diagonal().mean()
        unit = mean if bool(mean > 0) else torch.ones_like(mean)
        singles = singles_of(gram.diagonal() / unit, lambda vectors: gram @ vectors / unit)
        gains = gains_of_singles(singles, eigenvalues)
        return eigenvalues, traces, gains, singles.lengths if gains.second_moment > MUCH else None
    traces = groups_of_gram(gram, dealt.to(gram.device)).traces(independent=False)
    return eigenvalues, traces, gains_of_traces(eigenvalues, traces, n_samples=len(gram), independent=False), None


def of_groups(
    groups: Sequence[Moments], *, halves: int, seed: int, independent: bool, singles: Singles | None
) -> tuple[Tensor, list[tuple[Tensor, int]], Traces, Gains]:
    """Eigenvalues of all groups together, those of random halves of the groups with their sizes, traces and gains.

    Args:
        groups: Moments of groups of images.
        halves: Number of halves.
        seed: Of the halves.
        independent: Whether every sample is an image of its own.
        singles: Of all samples, or of those that came first.
    """
    traces = groups_of_moments(groups).traces(independent=independent)
    eigenvalues, found = spectra_of_groups(groups, halves=halves, seed=seed)
    count = sum(group.count for group in groups)
    if independent and singles is not None and len(singles.lengths) == count:
        return eigenvalues, found, traces, gains_of_singles(singles, eigenvalues)
    gains = gains_of_traces(eigenvalues, traces, n_samples=count, independent=independent)
    if independent and singles is not None:
        gains = replace(gains, copies=singles.copies, serial=singles.serial)
    return eigenvalues, found, traces, gains
