import warnings

import numpy as np
import pytest
import torch

from eigencode.errors import SpectrumError
from eigencode.spectra import WINDOWS, Eigenspectrum, Window, fit_power_law, power_law_line, window_sensitivity
from oracles import spectra as oracle

EXACT = 1e-12  # closed form against closed form


def law(alpha, count=600, scale=3.0):
    return scale * torch.arange(1, count + 1, dtype=torch.float64) ** -alpha


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("window", [*WINDOWS, (1, 600), (597, 599)])
def test_gives_back_the_exponent(alpha, window):
    fit = fit_power_law(law(alpha), ranks=window)
    assert fit.alpha == pytest.approx(alpha, abs=1e-7)  # three neighbouring ranks near 600 lose eight digits
    assert fit.intercept == pytest.approx(np.log(3), abs=1e-6)
    assert fit.stderr < 1e-7


@pytest.mark.parametrize("weights", ["equal", "inverse_rank"])
@pytest.mark.parametrize("ranks", [(1, 10), (6, 50), (11, 500)])
def test_equals_the_oracle(weights, ranks, generator):
    values = law(1.2) * torch.exp(0.2 * torch.randn(600, generator=generator, dtype=torch.float64))
    values = values.sort(descending=True).values
    fit = fit_power_law(values, ranks=ranks, weights=weights)
    rank = np.arange(ranks[0], ranks[1] + 1)
    slope, intercept = oracle.line(values.numpy(), ranks, None if weights == "equal" else 1 / rank)
    assert fit.alpha == pytest.approx(-slope, abs=EXACT * 1e3)
    assert fit.intercept == pytest.approx(intercept, abs=EXACT * 1e3)


def test_standard_error_and_r2_are_those_of_scipy(generator):
    from scipy.stats import linregress

    values = law(1.0) * torch.exp(0.1 * torch.randn(600, generator=generator, dtype=torch.float64))
    values = values.sort(descending=True).values
    fit = fit_power_law(values, ranks=(6, 50))
    reference = linregress(np.log(np.arange(6, 51)), np.log(values[5:50].numpy()))
    assert fit.alpha == pytest.approx(-reference.slope, rel=1e-10)
    assert fit.stderr == pytest.approx(reference.stderr, rel=1e-8)
    assert fit.r2 == pytest.approx(reference.rvalue**2, rel=1e-10)


def test_same_alpha_as_reptrix(power_law_code):
    alpha = pytest.importorskip("reptrix.alpha")
    code = power_law_code(1.0, 800, 300)
    theirs = alpha.get_alpha(code, fit_range=np.arange(10, 100))[0]  # 0-based, so ranks 11 to 100
    ours = Eigenspectrum.from_activations(code, half_samples=0).fit(ranks=(11, 100), weights="inverse_rank").alpha
    assert ours == pytest.approx(float(theirs), abs=1e-6)  # reptrix keeps its weights in float32


def test_result_says_everything():
    fit = fit_power_law(law(1), ranks="stringer", n_samples=7, n_features=9, method="gram")
    assert (fit.ranks, fit.weights, fit.n_samples, fit.n_features, fit.method) == ((11, 500), "inverse_rank", 7, 9, "gram")
    assert fit.predict(100) == pytest.approx(0.03)
    assert fit_power_law(law(1), ranks="stringer", weights="equal").weights == "equal"


def test_windows_are_those_of_the_papers():
    assert {name: (w.ranks, w.weights) for name, w in WINDOWS.items()} == {
        "jiang": ((1, 10), "equal"),
        "gerum": ((6, 50), "equal"),
        "schaeffer": ((10, 316), "equal"),
        "schaeffer_output": ((10, 100), "equal"),
        "alpha_req": ((11, 100), "inverse_rank"),
        "stringer": ((11, 500), "inverse_rank"),
    }


def test_arguments_are_not_changed_and_a_second_call_equals_the_first():
    values, ranks = law(1.3), [6, 50]
    copy = values.clone()
    first, second = fit_power_law(values, ranks=ranks), fit_power_law(values, ranks=ranks)
    assert first == second
    assert ranks == [6, 50]
    assert torch.equal(values, copy)


def test_alpha_does_not_depend_on_scale(generator):
    values = law(1.0) * torch.exp(0.1 * torch.randn(600, generator=generator, dtype=torch.float64))
    values = values.sort(descending=True).values
    assert fit_power_law(values * 1e9, ranks="gerum").alpha == pytest.approx(fit_power_law(values, ranks="gerum").alpha)


@pytest.mark.parametrize("weights", ["equal", "inverse_rank"])
def test_line_is_differentiable(weights):
    values = law(1.1, 12).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: power_law_line(v, Window(2, 9, weights)), values)


def test_line_takes_batches():
    batch = torch.stack([law(1.0), law(2.0)])
    assert power_law_line(batch, Window(6, 50))[0].tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "options", "text"),
    [
        (
            law(1, 300),
            {"ranks": (11, 600)},
            "layer: `ranks` (11, 600) goes beyond the numerical rank 300; the largest window possible is (11, 300). Lower the last "
            "rank, or pass more images or units.",
        ),
        (
            law(1, 16),
            {"ranks": (1, 20), "n_samples": 300, "n_features": 16},
            "layer: `ranks` (1, 20) goes beyond the numerical rank 16; the largest window possible is (1, 16). Lower the last rank: there "
            "are 16 units.",
        ),
        (
            law(1, 19),
            {"ranks": (1, 20), "n_samples": 20, "n_features": 3000},
            "layer: `ranks` (1, 20) goes beyond the numerical rank 19; the largest window possible is (1, 19). Lower the last rank, or "
            "pass more images.",
        ),
        (
            law(1, 100),
            {"ranks": (6, 50), "rank": 7},
            "layer: `ranks` (6, 50) goes beyond the numerical rank 7; the largest window possible is (1, 7). Lower the last rank, or "
            "pass more images or units.",
        ),
        (
            law(1, 8),
            {"ranks": (6, 50)},
            "layer: `ranks` (6, 50) goes beyond the numerical rank 8; the largest window possible is (6, 8). Lower the last rank, or "
            "pass more images or units.",
        ),
        (
            law(1, 2),
            {"ranks": "gerum"},
            "layer: `ranks` (6, 50) goes beyond the numerical rank 2; no window of 3 ranks is possible. Pass more images or another "
            "layer.",
        ),
        (
            torch.cat([law(1, 20), torch.zeros(14)]),
            {"ranks": (1, 30)},
            "layer: `ranks` (1, 30) goes beyond the numerical rank 20; the largest window possible is (1, 20). Lower the last rank, "
            "or pass more images or units.",
        ),
    ],
)
def test_errors(values, options, text):
    with pytest.raises(SpectrumError) as caught:
        fit_power_law(values, name="layer", **options)
    assert str(caught.value) == text


def test_window_sensitivity_is_the_fit_of_every_window(generator):
    values = law(1.0) * torch.exp(0.1 * torch.randn(600, generator=generator, dtype=torch.float64))
    values = values.sort(descending=True).values
    table = window_sensitivity(values, first=[1, 6, 599], last=[10, 50, 600, 700])
    assert list(zip(table["first"], table["last"], strict=True)) == [(1, 10), (1, 50), (1, 600), (6, 10), (6, 50), (6, 600)]
    row = table[(table["first"] == 6) & (table["last"] == 50)].iloc[0]
    fit = fit_power_law(values, ranks="gerum")
    assert (row["alpha"], row["stderr"], row["r2"]) == (fit.alpha, fit.stderr, fit.r2)
    weighted = window_sensitivity(values, first=[6], last=[50], weights="inverse_rank")
    assert weighted["alpha"].tolist() == [fit_power_law(values, ranks="gerum", weights="inverse_rank").alpha] != [fit.alpha]


def test_window_sensitivity_without_any_window():
    with pytest.raises(SpectrumError) as caught:
        window_sensitivity(law(1, 5), first=[4], last=[5, 10])
    assert str(caught.value) == (
        "window_sensitivity: no window of `first` [4] and `last` [5, 10] holds 3 ranks within the numerical rank 5. Choose ranks "
        "within 1..5."
    )


def test_read_only_numbers_are_read_without_a_warning():
    values = np.arange(1.0, 51) ** -1.2
    values.flags.writeable = False
    torch.set_warn_always(True)  # else the first in a process alone
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fit_power_law(values, ranks=(2, 40)).alpha == pytest.approx(1.2)
    finally:
        torch.set_warn_always(False)
