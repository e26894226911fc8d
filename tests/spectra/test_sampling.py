"""What is expected of a sample, held against simulated samples, closed forms and differences."""

import numpy as np
import pytest

from eigencode.spectra.gains import Gains
from eigencode.spectra.sampling import Sampling, means_over_bins, rank_bins
from oracles import spectra as oracle


def sampling_of(n_samples, n_features, gains=None):
    top = min(n_samples - 1, n_features)
    bins = rank_bins(max(min(top, 10), int(0.9 * top)))
    return Sampling(degrees=n_samples - 1, n_features=n_features, bins=bins, gains=gains or Gains())


def atoms_of(sampling, eigenvalues):
    """Mean logarithms over atoms."""
    sums = np.concatenate([[0], np.log(eigenvalues).cumsum()])
    return np.diff(sums[sampling.edges - 1]) / sampling.sizes


def simulated(eigenvalues, n_samples, bins, *, trials, gains=None, seed=0):
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        rows = generator.standard_normal((n_samples, len(eigenvalues))) * np.sqrt(eigenvalues)
        if gains is not None:
            rows *= np.sqrt(generator.permutation(gains))[:, None]
        rows -= rows.mean(0)
        matrix = rows @ rows.T if n_samples < len(eigenvalues) else rows.T @ rows
        values = np.linalg.eigvalsh(matrix)[::-1].clip(1e-300) / (n_samples - 1)
        found.append(means_over_bins(values, bins))
    return np.array(found)


@pytest.mark.parametrize(
    ("alpha", "n_samples", "n_features"),
    [
        *((0.5, 150, 400), (1.0, 150, 400), (2.0, 150, 400), (1.0, 500, 80), (0.0, 300, 100), (4.0, 200, 60)),
        *((0.5, 300, 240), (0.5, 300, 290), (1.0, 300, 299), (0.5, 300, 300), (2.0, 300, 301), (0.0, 300, 310)),
    ],
)
def test_equals_the_mean_of_simulated_samples(alpha, n_samples, n_features):
    values = np.arange(1, n_features + 1.0) ** -alpha
    sampling = sampling_of(n_samples, n_features)
    expected = sampling.expected(atoms_of(sampling, values))
    shown = simulated(values, n_samples, sampling.bins, trials=40)
    error = shown.std(0, ddof=1) / 40**0.5
    assert np.abs(shown.mean(0) - expected.logarithms).max() < (4 * error + 3 / n_samples).max()
    assert (np.abs(shown.mean(0) - expected.logarithms) < 5 * error + 3 / n_samples).all()
    spread = np.sqrt(np.diag(sampling.covariance(expected))) / shown.std(0, ddof=1)
    assert np.median(spread) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("n_features", [300, 205, 200, 190, 60])
def test_equals_the_mean_of_simulated_samples_with_gains(alpha, heavy, n_features):
    generator = np.random.default_rng(1)
    gains = 3 / generator.chisquare(5, 200) if heavy else generator.gamma(2, 0.5, 200)
    gains = np.sort(gains / gains.mean())
    values = np.arange(1, n_features + 1.0) ** -alpha
    sampling = sampling_of(200, n_features, Gains(tuple(gains), (1 / 200,) * 200))
    expected = sampling.expected(atoms_of(sampling, values))
    shown = simulated(values, 200, sampling.bins, trials=40, gains=gains)
    error = shown.std(0, ddof=1) / 40**0.5
    assert (np.abs(shown.mean(0) - expected.logarithms) < 5 * error + 3 / 200).all()
    plain = sampling_of(200, n_features)
    alike = plain.expected(atoms_of(plain, values)).logarithms
    assert (np.abs(shown.mean(0) - alike) > 5 * error + 3 / 200).any()


def test_white_samples_have_the_spectrum_of_marchenko_and_pastur():
    sampling = sampling_of(1001, 500)
    expected = sampling.expected(np.zeros(len(sampling.sizes)))
    closed = means_over_bins(oracle.marchenko_pastur(0.5, 500), sampling.bins)
    assert expected.logarithms[5:] == pytest.approx(closed[5:], abs=2e-3)


def test_one_large_eigenvalue_moves_as_that_of_a_spiked_covariance():
    """Baik and Silverstein 2006: l becomes l + c l / (l - 1) beside unit eigenvalues, c being units over degrees of freedom."""
    sampling = sampling_of(2001, 1000)
    atoms = np.zeros(len(sampling.sizes))
    atoms[0] = np.log(8.0)
    assert np.exp(sampling.expected(atoms).logarithms[0]) == pytest.approx(8 + 0.5 * 8 / 7, rel=2e-3)


def test_absent_images_count_as_fewer_samples():
    """A gain of zero for half of the images, and two for the others, is half as many images."""
    halved = Sampling(degrees=400, n_features=100, bins=rank_bins(80), gains=Gains((0.0, 2.0), (0.5, 0.5)))
    fewer = Sampling(degrees=200, n_features=100, bins=rank_bins(80), gains=Gains())
    atoms = atoms_of(fewer, np.arange(1, 101.0) ** -1)
    assert halved.expected(atoms).logarithms == pytest.approx(fewer.expected(atoms).logarithms, abs=1e-9)


@pytest.mark.parametrize("gains", [None, Gains((0.5, 1.0, 4.0), (0.5, 0.4, 0.0875)), Gains((0.6, 2.6), (0.8, 0.2))])
def test_derivatives(gains):
    sampling = sampling_of(150, 300, gains)
    atoms = atoms_of(sampling, np.arange(1, 301.0) ** -0.8)
    expected = sampling.expected(atoms)
    assert expected.jacobian.sum(1) == pytest.approx(1, abs=1e-12)
    assert sampling.expected(atoms + 2.0).logarithms == pytest.approx(expected.logarithms + 2.0, abs=1e-6)  # any unit
    for atom in (0, 7, 40, 90):
        step = np.zeros(len(atoms))
        step[atom] = 0.02
        difference = (sampling.expected(atoms + step).logarithms - sampling.expected(atoms - step).logarithms) / 0.04
        assert difference == pytest.approx(expected.jacobian[:, atom], abs=0.02)


def test_with_very_many_images_nothing_moves():
    sampling = sampling_of(1_000_000, 300)
    values = np.arange(1, 301.0) ** -1
    expected = sampling.expected(atoms_of(sampling, values)).logarithms
    assert expected == pytest.approx(means_over_bins(values, sampling.bins), abs=6e-3)


@pytest.mark.parametrize("n_features", [1, 2, 3, 11, 59, 60, 61, 62, 63, 500])
def test_bins_and_atoms_cover_every_rank_once(n_features):
    sampling = sampling_of(400, n_features)
    assert sampling.sizes.sum() == n_features
    assert (sampling.sizes > 0).all()
    assert (np.diff(sampling.bins) > 0).all()
    assert sampling.bins[0] == sampling.edges[0] == 1
    assert set(sampling.bins[:-1]) <= set(sampling.edges)
