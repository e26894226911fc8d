"""What users hand in that is no spectrum, or no activations: refused in one sentence, or read right."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from eigencode.errors import SpectrumError
from eigencode.spectra import (
    CrossValidatedSpectrum,
    Eigenspectrum,
    SpectrumAccumulator,
    alpha_interval,
    cvpca,
    expected_exponent,
    fit_power_law,
    participation_ratio,
    population_spectrum,
    power_law_dimension,
    smoothness_bound,
    stimulus_curve,
    window_sensitivity,
)

LAW = torch.arange(1, 61, dtype=torch.float64) ** -1.0


def changed(rank, value):
    values = LAW.clone()
    values[rank - 1] = value
    return values


FUNCTIONS = {
    "fit_power_law": lambda v: fit_power_law(v, ranks="gerum").alpha,
    "window_sensitivity": lambda v: window_sensitivity(v, first=[6], last=[50])["alpha"][0],
    "population_spectrum": lambda v: population_spectrum(v, n_samples=1000, n_features=60).exponent((6, 50)),
    "participation_ratio": participation_ratio,
}
_OWNERS = {
    "from_activations": "Eigenspectrum.from_activations",
    "update": "SpectrumAccumulator.update",
    "stimulus_curve": "stimulus_curve",
    "cvpca": "cvpca",
}
NO_SPECTRA = [
    (changed(8, torch.nan), "`eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 8. Check the activations."),
    (changed(8, torch.inf), "`eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 8. Check the activations."),
    (changed(1, torch.inf), "`eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 1. Check the activations."),
    (
        changed(60, -torch.inf),
        "`eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 60. Check the activations.",
    ),
    (
        changed(60, -0.01),
        "`eigenvalues` of a covariance matrix must not be negative; got -0.01 at rank 60. Pass variances.",
    ),
    (-LAW, "`eigenvalues` of a covariance matrix must not be negative; got -1 at rank 1. Pass variances."),
    (LAW + 0j, "`eigenvalues` must be real numbers; got torch.complex128. Pass float64."),
    (LAW > 0.1, "`eigenvalues` must be real numbers; got torch.bool. Pass float64."),
    (LAW[:0], "`eigenvalues` must have shape (k,) with k of at least 1; got (0,). Pass one spectrum."),
    (LAW.view(2, 30), "`eigenvalues` must have shape (k,) with k of at least 1; got (2, 30). Pass one spectrum."),
    (
        np.ma.masked_less(LAW.numpy(), 0.02),
        "`eigenvalues` has 10 masked entries, which would be read as numbers. Fill or remove them.",
    ),
    (
        np.array(["1", "2"]),
        "`eigenvalues` must be a tensor or an array or a list, each part a finite number; got an array of <U1.",
    ),
    (
        np.array([1, None]),
        "`eigenvalues` must be a tensor or an array or a list, each part a finite number; got an array of object.",
    ),
]
DISORDER = [
    (LAW.flip(0), "`eigenvalues` must come largest first; got 0.0169 at rank 2 after 0.0167. Sort them."),
    (changed(57, 0.5), "`eigenvalues` must come largest first; got 0.5 at rank 57 after 0.0179. Sort them."),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("values", "text"), NO_SPECTRA)
def test_what_is_no_spectrum_is_refused(function, values, text):
    with pytest.raises(SpectrumError) as caught:
        FUNCTIONS[function](values)
    assert str(caught.value) == f"{function}: {text}"


@pytest.mark.parametrize("function", ["fit_power_law", "window_sensitivity", "population_spectrum"])
@pytest.mark.parametrize(("values", "text"), DISORDER)
def test_order_counts_where_ranks_do(function, values, text):
    with pytest.raises(SpectrumError) as caught:
        FUNCTIONS[function](values)
    assert str(caught.value) == f"{function}: {text}"


def test_order_does_not_count_for_the_dimension():
    assert participation_ratio(LAW.flip(0)) == pytest.approx(participation_ratio(LAW))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "values",
    [
        LAW.numpy(),
        LAW.tolist(),
        LAW.clone().requires_grad_(),
        np.ma.masked_array(LAW.numpy(), mask=False),
        torch.cat([LAW, torch.tensor([0.0, -1e-17, 1e-17])]),  # a solver's rounding of zero
        changed(31, (1 + 1e-12) / 31),
    ],
)
def test_spectra_are_read_from_any_array(function, values):
    assert FUNCTIONS[function](values) == pytest.approx(FUNCTIONS[function](LAW), rel=1e-9)


def test_whole_numbers_are_numbers():
    values = torch.arange(100, 0, -1)
    assert fit_power_law(values, ranks="gerum") == fit_power_law(values.double(), ranks="gerum")


def test_signal_variances_may_be_negative_and_in_any_order(generator):
    values = torch.cat([changed(20, 0.5), torch.tensor([-0.3, 0.1, -0.2], dtype=torch.float64)])
    spectrum = CrossValidatedSpectrum(values, values[None], 5.0, 100, 63)
    kept = spectrum.as_eigenspectrum()
    assert spectrum.fit(ranks=(1, 40)).alpha == kept.fit(ranks=(1, 40)).alpha
    assert kept.window_sensitivity(first=[1], last=[40])["alpha"][0] == spectrum.fit(ranks=(1, 40)).alpha
    with pytest.raises(SpectrumError, match="must be finite"):
        CrossValidatedSpectrum(changed(3, torch.nan), LAW[None], 5.0, 100, 60).fit(ranks=(1, 40))


def spectrum_of(values, **options):
    return Eigenspectrum(values, 1000, 60, 1000, "covariance", name="conv1", **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: spectrum_of(LAW.flip(0)), "conv1: `eigenvalues` must come largest first; got 0.0169 at rank 2 after 0.0167. Sort them."),
        (lambda: spectrum_of(changed(2, torch.nan)), "conv1: `eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 2. Check the activations."),
        (
            lambda: spectrum_of(LAW, half_samples=torch.stack([LAW, LAW]), half_counts=(500,)),
            "conv1: `half_samples` must have shape (b, k) with b = 1, the number of `half_counts`; got (2, 60).",
        ),
        (
            lambda: spectrum_of(LAW, half_samples=torch.stack([LAW, changed(4, torch.inf)]), half_counts=(500, 500)),
            "conv1, half-sample: `eigenvalues` must be finite; got 1 NaN or infinite, the first at rank 4. Check the activations.",
        ),
        (
            lambda: CrossValidatedSpectrum(-LAW, -LAW[None], 1.0, 9, 60).variance_explained(3),
            "recording: the share of the variance is undefined, since the eigenvalues sum to -4.68.",
        ),
        (
            lambda: CrossValidatedSpectrum(0 * LAW, 0 * LAW[None], 0.0, 9, 60).signal_fraction,
            "recording: signal_fraction needs responses that vary; they are the same for every stimulus.",
        ),
        (
            lambda: population_spectrum(torch.cat([LAW[:2], 0 * LAW[:20]]), n_samples=1000, n_features=60),
            "population_spectrum: a spectrum needs 3 positive eigenvalues; got 2. Pass more images or another layer.",
        ),
        (
            lambda: population_spectrum(LAW, n_samples=1000, n_features=60, name="conv1").exponent((6, 61)),
            "conv1: `ranks` 6-61 must end at 60 or below, the rank of the population. Lower the last rank.",
        ),
        (
            lambda: alpha_interval(
                population_spectrum(LAW, n_samples=1000, n_features=60), torch.stack([LAW, LAW]), ranks="gerum", half_counts=(500,)
            ),
            "alpha_interval: at least 2 half-samples are needed, with a count for each; got 1 counts for shape (2, 60). Measure with "
            "half_samples=20.",
        ),
        (
            lambda: expected_exponent(float("inf"), n_samples=100, n_features=60, ranks="gerum"),
            "expected_exponent: `alpha` must be a finite number; got inf.",
        ),
        (
            lambda: expected_exponent(1.0, n_samples=100, n_features=60, ranks="gerum", draws=0),
            "expected_exponent: `draws` must be at least 1; got 0.",
        ),
        (lambda: power_law_dimension(float("nan"), 9), "power_law_dimension: `alpha` must be a finite number; got nan."),
        (
            lambda: power_law_dimension(-200.0, 9),
            "power_law_dimension: sums over 9 ranks overflow at `alpha` = -200.0. Raise it.",
        ),
        (lambda: smoothness_bound(float("nan")), "smoothness_bound: `d` must be a finite number; got nan."),
    ],
)  # fmt: skip
def test_other_refusals(make, text):
    with pytest.raises(SpectrumError) as caught:
        make()
    assert str(caught.value) == text


RESPONSES = torch.rand(2, 80, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
READERS = {
    "from_activations": lambda data: Eigenspectrum.from_activations(data, name="v1").eigenvalues,
    "update": lambda data: _updated(data),
    "stimulus_curve": lambda data: stimulus_curve(data, counts=[70], ranks="gerum"),
    "cvpca": lambda data: cvpca(data, name="v1"),
}


def _updated(data):
    metric = SpectrumAccumulator(name="v1")
    metric.update(data)
    return metric.compute().eigenvalues


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda data: np.ma.masked_less(data, 0.5),
            " has {masked} masked entries, which would be read as numbers. Fill or remove them.",
        ),
        (lambda data: data + 1j, " must be real numbers; got torch.complex128. Pass float64."),
        (lambda data: data > 0.5, " must be real numbers; got torch.bool. Pass float64."),
        (
            lambda data: data.astype(object),
            " must be a tensor or an array or a list, each part a finite number; got an array of object.",
        ),
    ],
)
def test_what_is_no_activations_is_refused(reader, change, text):
    data = RESPONSES.numpy() if reader == "cvpca" else RESPONSES[0].numpy()
    name, what = ("stimulus_curve" if reader == "stimulus_curve" else "v1"), "responses" if reader == "cvpca" else "activations"
    with pytest.raises(SpectrumError) as caught:
        READERS[reader](change(data))
    told = text.format(masked=int((data < 0.5).sum()))
    refused_first = "masked" in told or "object" in told  # by the arguments' own check, which names function and parameter
    assert str(caught.value) == (f"{_OWNERS[reader]}: `{what}`" if refused_first else f"{name}: {what}") + told


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("reader", READERS)
def test_values_that_are_not_finite_or_overflow_are_refused(reader, value):
    data = (RESPONSES if reader == "cvpca" else RESPONSES[0]).clone()
    data[..., 3, 5] = value
    with pytest.raises(
        SpectrumError, match=r"finite|squares of (responses must not overflow; got 1e\+200|these activations exceed)"
    ):
        READERS[reader](data)


def test_whole_numbers_are_no_activations():
    for reader in ("from_activations", "update", "stimulus_curve"):
        with pytest.raises(SpectrumError, match="floating"):
            READERS[reader](np.ones((80, 60), dtype=int))


@pytest.mark.parametrize(("counts", "shown"), [([], "[]"), ([60, 81], "[60, 81]")])
def test_counts_of_a_stimulus_curve(counts, shown):
    with pytest.raises(SpectrumError) as caught:
        stimulus_curve(RESPONSES[0], counts=counts, ranks="gerum")
    assert str(caught.value) == (
        f"stimulus_curve: `counts` must be whole numbers between 52 (for ranks 6-50) and 80, the images given; got {shown}. Change "
        "the counts or the window."
    )


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: rows.astype(">f8"),
        lambda rows: rows.astype(np.longdouble),
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: np.asfortranarray(rows),
    ],
)
def test_the_same_numbers_in_another_layout(kind):
    rows = RESPONSES[0].numpy().astype(np.float64)
    expected = Eigenspectrum.from_activations(rows).eigenvalues
    assert torch.equal(Eigenspectrum.from_activations(kind(rows)).eigenvalues, expected)


@pytest.mark.parametrize(
    ("made", "remedy"),
    [(pd.DataFrame, r"got DataFrame. Pass .to_numpy\(\) of it."), (sp.csr_array, r"got csr_array. Pass .toarray\(\) of it.")],
)
def test_tables_and_sparse_matrices_are_told_how(made, remedy):
    with pytest.raises(SpectrumError, match=remedy):
        Eigenspectrum.from_activations(made(RESPONSES[0].numpy()))
