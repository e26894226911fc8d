"""Principal components of 50 000 CIFAR-10 images (3072 numbers each) against scikit-learn's PCA, both in float64."""

import numpy as np
from sklearn.decomposition import PCA

from benchmarks.timing import compare, write
from eigencode import datasets
from eigencode.perturbations import PrincipalComponents


def main():
    images = datasets.load("cifar10", split="train")
    rows = images.inputs.flatten(1).numpy()

    def theirs():
        return PCA(svd_solver="covariance_eigh").fit(rows.astype(np.float64))

    times, found = compare(lambda: PrincipalComponents.fit(images), theirs, repeats=2)
    expected = found["theirs"].explained_variance_
    difference = float(np.abs(found["ours"].eigenvalues.numpy() / expected - 1).max())
    write("components_against_sklearn", {"50000 x 3072, covariance_eigh": {**times, "largest_relative_difference": difference}})
