import numpy as np
import pytest
import torch

from eigencode.errors import SpectrumError
from eigencode.spectra import Eigenspectrum, cvpca
from oracles import spectra as oracle


def responses(generator, *, alpha=1.0, stimuli=1000, neurons=400, noise=0.5, dimensions=300):
    """Two repeats of a signal with exponent alpha, mixed over neurons, with independent noise of `noise` times its power."""
    signal = torch.randn(stimuli, dimensions, generator=generator, dtype=torch.float64)
    signal = signal * torch.arange(1, dimensions + 1) ** (-alpha / 2)
    mixing = torch.linalg.qr(torch.randn(neurons, dimensions, generator=generator, dtype=torch.float64))[0]
    signal = signal @ mixing.T
    scale = (noise * float(signal.var(dim=0).mean())) ** 0.5
    return signal + scale * torch.randn(2, stimuli, neurons, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("stimuli", "neurons"), [(60, 90), (90, 60)])
def test_equals_the_oracle_for_one_order_of_repeats(generator, stimuli, neurons):
    data = responses(generator, stimuli=stimuli, neurons=neurons, dimensions=40)
    found = cvpca(data, shuffles=1, seed=0)
    swap = torch.rand(1, stimuli, generator=torch.Generator().manual_seed(0))[0] < 0.5
    first = torch.where(swap[:, None], data[1], data[0]).numpy()
    second = torch.where(swap[:, None], data[0], data[1]).numpy()
    count = min(stimuli - 1, neurons)
    assert found.eigenvalues.numpy() == pytest.approx(oracle.cvpca(first, second)[:count], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("alpha", "noise", "sizes"), [(1.0, 2.0, (1000, 1000)), pytest.param(1.5, 1.0, (1500, 2000), marks=pytest.mark.slow)]
)
def test_recovers_the_exponent_where_plain_pca_does_not(alpha, noise, sizes, generator):
    data = responses(generator, alpha=alpha, stimuli=sizes[0], neurons=sizes[1], noise=noise)
    ranks = (5, 60)
    plain = Eigenspectrum.from_activations(data[0], half_samples=0).fit(ranks).alpha
    crossed = cvpca(data).fit(ranks, weights="inverse_rank").alpha
    assert abs(plain - alpha) > 0.25
    # With this much noise cvPCA is too steep itself, 1.585 to 1.622 over seven seeds where alpha is 1.5.
    assert abs(crossed - alpha) < 0.15


def test_without_noise_it_is_pca(generator):
    data = responses(generator, noise=0.0, stimuli=200, neurons=100, dimensions=80)
    plain = oracle.eigenvalues(data[0])
    assert cvpca(data).eigenvalues.numpy()[:80] == pytest.approx(plain[:80], rel=1e-8)
    assert cvpca(data).signal_fraction == pytest.approx(1)


def test_pure_noise_has_no_signal(generator):
    noise = torch.randn(2, 300, 200, generator=generator, dtype=torch.float64)
    found = cvpca(noise)
    assert abs(found.signal_fraction) < 0.05
    assert np.abs(found.eigenvalues.numpy()).max() < 0.2


def test_signal_fraction_is_signal_over_all(generator):
    assert cvpca(responses(generator, noise=1.0)).signal_fraction == pytest.approx(0.5, abs=0.05)


def test_does_not_depend_on_the_order_of_stimuli_or_neurons(generator):
    data = responses(generator, stimuli=80, neurons=50, dimensions=30)
    moved = data[:, :, torch.randperm(50, generator=generator)] * 2
    assert torch.allclose(cvpca(moved).eigenvalues / 4, cvpca(data).eigenvalues, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("stimuli", "neurons"), [(60, 90), (90, 60)])
def test_a_mean_far_from_zero_costs_no_accuracy(generator, stimuli, neurons):
    data = responses(generator, stimuli=stimuli, neurons=neurons, dimensions=40)
    moved = cvpca(data + 1e6).eigenvalues
    assert torch.allclose(moved, cvpca(data).eigenvalues, rtol=1e-6, atol=1e-9)


def test_as_an_eigenspectrum_it_says_the_same(generator):
    found = cvpca(
        torch.randn(2, 100, 60, generator=generator, dtype=torch.float64)
        + responses(generator, stimuli=100, neurons=60, dimensions=3)
    )
    kept = found.as_eigenspectrum()
    assert (kept.numerical_rank, kept.dimension) == (found.numerical_rank, found.dimension)


def test_seeded_shuffles(generator):
    data = responses(generator, stimuli=80, neurons=50, dimensions=30)
    assert torch.equal(cvpca(data, seed=1).shuffles, cvpca(data, seed=1).shuffles)
    assert not torch.equal(cvpca(data, seed=1).shuffles, cvpca(data, seed=2).shuffles)
    assert cvpca(data, shuffles=3).shuffles.shape == (3, 50)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            torch.zeros(3, 5, 4),
            "rec: cvpca needs responses of shape (2, n_stimuli, n_neurons) with at least 3 stimuli and 1 neuron; got (3, 5, 4). Arrange two "
            "repeats along the first dimension.",
        ),
        (
            torch.zeros(2, 2, 4),
            "rec: cvpca needs responses of shape (2, n_stimuli, n_neurons) with at least 3 stimuli and 1 neuron; got (2, 2, 4). Arrange two "
            "repeats along the first dimension.",
        ),
        (
            torch.zeros(2, 5, 0),
            "rec: cvpca needs responses of shape (2, n_stimuli, n_neurons) with at least 3 stimuli and 1 neuron; got (2, 5, 0). Arrange two "
            "repeats along the first dimension.",
        ),
        (
            torch.full((2, 5, 4), float("nan")),
            "rec: responses must be finite; got 40 NaN or infinite values. Remove those neurons.",
        ),
    ],
)
def test_errors(data, text):
    with pytest.raises(SpectrumError) as caught:
        cvpca(data, name="rec")
    assert str(caught.value) == text


def test_a_window_with_negative_signal_names_the_largest(generator):
    found = cvpca(
        torch.randn(2, 100, 60, generator=generator, dtype=torch.float64)
        + responses(generator, stimuli=100, neurons=60, dimensions=3)
    )
    with pytest.raises(
        SpectrumError,
        match=r"hold a signal variance that is not positive, at rank \d+. The window with the most variance without one is \(",
    ):
        found.fit((1, 60))


def test_no_signal_has_no_rank():
    found = cvpca(torch.zeros(2, 10, 4))
    assert found.eigenvalues.tolist() == [0.0] * 4
    assert found.numerical_rank == 0
