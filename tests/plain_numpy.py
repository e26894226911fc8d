"""Spectra and exponents as a few lines of NumPy give them, and images that are read one by one."""

import numpy as np
from torch.utils.data import Dataset


def eigenvalues(rows):
    """Of the covariance of samples by units, the largest first."""
    return np.linalg.eigvalsh(np.cov(np.asarray(rows).T))[::-1]


def alpha(values, first, last):
    """Exponent of a least-squares line through logarithms."""
    ranks = np.arange(first, last + 1)
    return -np.polyfit(np.log(ranks), np.log(values[first - 1 : last]), 1)[0]


class Images(Dataset):
    """Pairs of an image and its label."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]
