import numpy as np
import torch


def eigenvalues(activations):
    """Squared singular values of the centred data over n - 1."""
    data = np.asarray(activations, dtype=np.float64).reshape(len(activations), -1)
    return np.linalg.svd(data - data.mean(axis=0), compute_uv=False) ** 2 / (len(data) - 1)


def line(values, ranks, weights=None):
    """Slope and intercept by NumPy's polynomial fit; its weights multiply residuals, not their squares."""
    rank = np.arange(ranks[0], ranks[1] + 1)
    weight = None if weights is None else np.sqrt(weights)
    return np.polyfit(np.log(rank), np.log(values[ranks[0] - 1 : ranks[1]]), 1, w=weight)


def marchenko_pastur(ratio, count):
    """Eigenvalues of the covariance of white samples, ratio being units over degrees of freedom below 1: middles of equal parts."""
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    x = low + (high - low) * np.sin(np.linspace(0, np.pi / 2, 200001)) ** 2
    density = np.sqrt((high - x).clip(0) * (x - low).clip(0)) / (2 * np.pi * ratio * x)
    below = np.concatenate([[0], ((density[1:] + density[:-1]) / 2 * np.diff(x)).cumsum()])
    return np.interp((np.arange(count) + 0.5) / count, below / below[-1], x)[::-1]


def cvpca(first, second):
    """Covariance of two repeats' projections on the first one's principal axes."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    axes = np.linalg.svd(first, full_matrices=False)[2].T
    return ((first @ axes) * (second @ axes)).sum(axis=0) / (len(first) - 1)


def sketch(samples, dimension, *, seed, repeats=4):
    """Sums of units with random signs, all places at once."""
    generator = torch.Generator().manual_seed(seed)
    width = -(-samples.shape[-1] // dimension)
    padded = torch.nn.functional.pad(samples, (0, width * dimension - samples.shape[-1]))
    total = 0
    for _ in range(repeats):
        order = torch.randperm(width * dimension, generator=generator)
        signs = torch.randint(0, 2, order.shape, generator=generator) * 2 - 1
        total = total + (padded[..., order] * signs).unflatten(-1, (width, dimension)).sum(dim=-2)
    return total / repeats**0.5
