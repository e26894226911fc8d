"""Effective ranks: closed forms, an independent reference, the packages of the field, and the page of conventions."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eigencode as ec
from eigencode.errors import SpectrumError
from eigencode.spectra import (
    WINDOWS,
    Eigenspectrum,
    effective_rank,
    participation_ratio,
    rankme,
    spectral_entropy,
    stable_rank,
)
from eigencode.spectra.metrics import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text(encoding="utf-8")

SPECTRA = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


@pytest.fixture
def code():
    generator = np.random.default_rng(0)
    return generator.standard_normal((120, 40)) * np.arange(1, 41) ** -0.5 + generator.standard_normal(40)


def entropy_of(shares):
    return -sum(p * math.log(p) for p in shares if p > 0)


@pytest.mark.parametrize("count", [1, 7, 500])
def test_equal_eigenvalues_have_as_many_ranks(count):
    values = [3.0] * count
    for of in ("eigenvalues", "singular values"):
        assert effective_rank(values, of=of) == pytest.approx(count, rel=1e-12)
        assert spectral_entropy(values, of=of) == pytest.approx(math.log(count), abs=1e-12)
    assert stable_rank(values) == pytest.approx(count, rel=1e-12)


def test_hand_worked():
    assert effective_rank([4.0, 1.0], of="singular values") == pytest.approx(math.exp(entropy_of([2 / 3, 1 / 3])))
    assert effective_rank([4.0, 1.0]) == pytest.approx(math.exp(entropy_of([0.8, 0.2])))
    assert stable_rank([4.0, 1.0, 1.0]) == 1.5
    assert spectral_entropy([1.0, 1.0, 2.0]) / math.log(2) == pytest.approx(1.5)


@given(SPECTRA, st.floats(-200, 200))
def test_their_order_and_scale(values, power):
    ranks = [
        stable_rank(values),
        participation_ratio(values),
        effective_rank(values),
        effective_rank(values, of="singular values"),
    ]
    assert all(low <= high * (1 + 1e-9) for low, high in zip(ranks, [*ranks[1:], len(values)], strict=True))
    scaled = [value * 10.0**power for value in values]
    assert effective_rank(scaled) == pytest.approx(ranks[2], rel=1e-9)
    assert effective_rank([*values[::-1], 0.0]) == pytest.approx(ranks[2], rel=1e-9)
    assert stable_rank(scaled) == pytest.approx(ranks[0], rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centred", [False, True])
def test_rankme_equals_its_formula(code, centred, dtype):
    rows = torch.from_numpy(code).to(dtype)
    values = np.linalg.svd((rows - rows.mean(0) if centred else rows).double().numpy(), compute_uv=False)
    shares = values / values.sum() + 1e-7
    assert rankme(rows, centred=centred) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert rankme(rows.reshape(120, 5, 8), centred=centred) == rankme(rows, centred=centred)


def test_centred_rankme_is_that_of_the_spectrum(code):
    spectrum = Eigenspectrum.from_activations(code)
    assert rankme(code, centred=True, epsilon=0.0) == pytest.approx(
        effective_rank(spectrum.eigenvalues, of="singular values"), rel=1e-9
    )


def test_equal_to_reptrix(code):
    theirs = pytest.importorskip("reptrix.rankme")
    spectrum = Eigenspectrum.from_activations(code)
    assert effective_rank(spectrum.eigenvalues, epsilon=1e-7) == pytest.approx(
        theirs.get_rankme(torch.from_numpy(code)), rel=1e-6
    )


def test_alpha_req_equals_reptrix():
    theirs = pytest.importorskip("reptrix.alpha")
    code = np.random.default_rng(1).standard_normal((400, 150)) * np.arange(1, 151) ** -0.5
    ours = Eigenspectrum.from_activations(code).fit("alpha_req").alpha
    assert ours == pytest.approx(float(theirs.get_alpha(torch.from_numpy(code))[0]), abs=1e-6)


def test_summaries_have_them(code):
    layer = torch.nn.Linear(40, 40, bias=False)
    torch.nn.init.eye_(layer.weight)
    row = ec.measure(torch.nn.Sequential(layer), torch.from_numpy(code).float(), layers="0").summary((2, 20)).iloc[0]
    values = np.linalg.svd((code - code.mean(0)), compute_uv=False)
    assert row["effective_rank"] == pytest.approx(math.exp(entropy_of(values**2 / (values**2).sum())), rel=1e-5)
    assert row["effective_rank_singular"] == pytest.approx(math.exp(entropy_of(values / values.sum())), rel=1e-5)
    assert row["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-5)


def test_rounding_errors_do_not_count():
    few = np.random.default_rng(2).standard_normal((200, 5)) @ np.random.default_rng(3).standard_normal((5, 100))
    row = ec.measure(torch.nn.Sequential(torch.nn.Flatten()), torch.from_numpy(few).float(), layers="0").summary((1, 4)).iloc[0]
    assert row["effective_rank_singular"] < 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_rank([0.0, 0.0]), "`eigenvalues` must not all be zero; got 2 zeros"),
        (lambda: stable_rank([1.0, -1.0]), "negative"),
        (lambda: spectral_entropy([1.0], epsilon=-1.0), "`epsilon` must be 0 or above; got -1.0"),
        (lambda: rankme(torch.zeros(5, 3)), "activations must not all be zero. Check the layer"),
        (lambda: rankme(torch.ones(5, 3), centred=True), "must not all be zero once centred"),
        (lambda: rankme(torch.ones(5)), r"of shape \(n_images, ...\); got torch.float32 of shape \(5,\)"),
        (lambda: rankme(torch.full((5, 3), math.inf)), "activations must be finite"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(SpectrumError, match=message):
        call()


def test_the_page_has_every_metric_and_window():
    assert all(f"`{metric.name}`" in PAGE for metric in METRICS)
    for name, window in WINDOWS.items():
        weights = "equal" if window.weights == "equal" else "1/n"
        assert f"| `{name}` | {window.first}–{window.last} | {weights} |" in PAGE
    assert set(re.findall(r"^\| `(\w+)` \| \d", PAGE, re.MULTILINE)) == set(WINDOWS)
