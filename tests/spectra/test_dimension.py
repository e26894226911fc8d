import numpy as np
import pytest
import torch
from scipy.integrate import quad

from eigencode.errors import SpectrumError
from eigencode.spectra import participation_ratio, power_law_dimension, smoothness_bound


def test_participation_ratio_counts_equal_directions():
    assert participation_ratio(torch.tensor([2.0] * 5 + [0.0] * 9)) == pytest.approx(5)
    assert participation_ratio(torch.tensor([1e-200, 1e-200], dtype=torch.float64)) == pytest.approx(2)
    assert participation_ratio(torch.tensor([4.0, 1.0])) == pytest.approx(25 / 17)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("n", [2, 35, 200])
def test_forms_of_equation_5(alpha, n):
    decay = np.arange(1, n + 1) ** -alpha
    assert power_law_dimension(alpha, n) == pytest.approx(decay.sum() ** 2 / (decay**2).sum())
    first, second = (quad(lambda x, a=a: x**-a, 1, n)[0] for a in (alpha, 2 * alpha))
    assert power_law_dimension(alpha, n, form="integral") == pytest.approx(first**2 / second, rel=1e-8)


def test_integral_as_printed_in_the_paper():
    a, n = 0.8, 200
    printed = (n ** (1 - a) - 1) ** 2 * (1 - 2 * a) / ((n ** (1 - 2 * a) - 1) * (1 - a) ** 2)
    assert power_law_dimension(a, n, form="integral") == pytest.approx(printed)


def test_sum_tends_to_zeta():
    assert power_law_dimension(2.0, 10**6) == pytest.approx(power_law_dimension(2.0, form="zeta"), rel=1e-5)
    assert power_law_dimension(2.0, form="zeta") == pytest.approx(2.5)


def test_dimension_of_a_power_law_is_its_participation_ratio():
    values = torch.arange(1, 36, dtype=torch.float64) ** -1.2
    assert participation_ratio(values) == pytest.approx(power_law_dimension(1.2, 35))


def test_smoothness_bound():
    assert [smoothness_bound(d) for d in (1, 2, 4)] == [3, 2, 1.5]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: participation_ratio(torch.zeros(3)),
            "participation_ratio: `eigenvalues` must not all be zero; got 3 zeros. Check that the code varies over images.",
        ),
        (
            lambda: power_law_dimension(1.0, form="zeta"),
            "power_law_dimension: the zeta form is finite for `alpha` > 1 only; got 1.0. Use form='sum' with N.",
        ),
        (
            lambda: power_law_dimension(1.0),
            "power_law_dimension: `n_features` must be a whole number of at least 1 for form='sum'; got None. Pass the layer width.",
        ),
        (
            lambda: smoothness_bound(0),
            "smoothness_bound: `d` must be positive; got 0. Pass the dimension of the stimulus set.",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises(SpectrumError) as caught:
        call()
    assert str(caught.value) == text
