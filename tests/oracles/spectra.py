import numpy as np


def eigenvalues(activations):
    """Squared singular values of the centred data over n - 1."""
    data = np.asarray(activations, dtype=np.float64).reshape(len(activations), -1)
    return np.linalg.svd(data - data.mean(axis=0), compute_uv=False) ** 2 / (len(data) - 1)


def line(values, ranks, weights=None):
    """Slope and intercept by NumPy's polynomial fit; its weights multiply residuals, not their squares."""
    rank = np.arange(ranks[0], ranks[1] + 1)
    weight = None if weights is None else np.sqrt(weights)
    return np.polyfit(np.log(rank), np.log(values[ranks[0] - 1 : ranks[1]]), 1, w=weight)


def population_eigenvalues(values, n_samples):
    """Mestre's estimate by a dense eigen-decomposition."""
    root = np.sqrt(values)
    return n_samples * (values - np.linalg.eigvalsh(np.diag(values) - np.outer(root, root) / n_samples)[::-1])


def cvpca(first, second):
    """Covariance of two repeats' projections on the first one's principal axes."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    axes = np.linalg.svd(first, full_matrices=False)[2].T
    return ((first @ axes) * (second @ axes)).sum(axis=0) / (len(first) - 1)
