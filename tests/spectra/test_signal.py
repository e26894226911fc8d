"""The signal of recordings: moments against all tuples, power laws against known ones, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch

from eigencode import signal_spectrum
from eigencode.errors import SpectrumError
from eigencode.spectra import signal_moments as moments_of
from eigencode.spectra.eigenvalues import positive_run
from eigencode.spectra.power_law import fit_power_law, window_sensitivity
from eigencode.spectra.signal_laws import broken_power_law, exponent_of
from eigencode.spectra.signal_moments import signal_moments

NOISE = np.random.default_rng(0).normal(size=(2, 40, 4))
RAGGED = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5])


def few(generator):
    """Responses to six stimuli, two or three presentations each, far from zero."""
    signal = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    return signal[RAGGED] + torch.randn(14, 3, generator=generator, dtype=torch.float64) + 5


def pairs(count):
    return list(itertools.permutations(range(count), 2))


def over_all_tuples(responses, stimuli):
    """(tr S)^2, tr S^2 and tr S over all tuples of distinct stimuli and presentations."""
    each = [responses[stimuli == number].numpy() for number in stimuli.unique()]
    traces = {}
    for i, j in itertools.permutations(range(len(each)), 2):
        x, y = each[i], each[j]
        products = [(x[a] - y[c]) @ (x[b] - y[d]) / 2 for a, b in pairs(len(x)) for c, d in pairs(len(y))]
        traces[i, j] = np.mean(products)
    squared, square = [], []
    for i, j, k, m in itertools.permutations(range(len(each)), 4):
        squared.append(traces[i, j] * traces[k, m])
        x, y, u, v = each[i], each[j], each[k], each[m]
        chosen = itertools.product(pairs(len(x)), pairs(len(y)), pairs(len(u)), pairs(len(v)))
        square.append(
            np.mean(
                [(x[a] - y[c]) @ (u[e] - v[g]) * ((x[b] - y[d]) @ (u[f] - v[h])) / 4 for (a, b), (c, d), (e, f), (g, h) in chosen]
            )
        )
    return np.mean(squared), np.mean(square), np.mean(list(traces.values()))


@pytest.mark.parametrize("block", [1, 40, 2**24])
def test_moments_are_those_of_all_tuples(generator, monkeypatch, block):
    monkeypatch.setattr(moments_of, "_LARGEST_BLOCK", block)
    responses = few(generator)
    found = signal_moments(responses, RAGGED)
    assert (found.squared_trace, found.square, found.trace) == pytest.approx(over_all_tuples(responses, RAGGED), rel=1e-9)


def over_tuples_within_repeats(responses):
    """(tr S)^2, tr S^2 and tr S of responses (stimuli, repeats, neurons): differences between stimuli are taken within repeats."""
    count, repeats = responses.shape[:2]
    apart = list(itertools.permutations(range(repeats), 2))
    x, squared, square, trace = responses.numpy(), [], [], []
    for i, j, k, m in itertools.permutations(range(count), 4):
        first = np.mean([(x[i, a] - x[j, a]) @ (x[i, b] - x[j, b]) / 2 for a, b in apart])
        squared.append(first * np.mean([(x[k, a] - x[m, a]) @ (x[k, b] - x[m, b]) / 2 for a, b in apart]))
        trace.append(first)
        for (a, b), (c, d) in itertools.product(apart, apart):
            both = (x[i, a] - x[j, a]) @ (x[k, c] - x[m, c]) * ((x[i, b] - x[j, b]) @ (x[k, d] - x[m, d]))
            square.append(both / 4)
    return np.mean(squared), np.mean(square), np.mean(trace)


@pytest.mark.parametrize("repeats", [2, 3])
@pytest.mark.parametrize("block", [1, 2**24])
def test_moments_within_repeats_are_those_of_all_tuples(generator, monkeypatch, repeats, block):
    monkeypatch.setattr(moments_of, "_LARGEST_BLOCK", block)
    offsets = 5 * torch.randn(repeats, 3, generator=generator, dtype=torch.float64)
    responses = torch.randn(6, repeats, 3, generator=generator, dtype=torch.float64) + offsets
    stimuli = torch.arange(6).repeat_interleave(repeats)
    found = signal_moments(responses.flatten(0, 1), stimuli, crossed=True)
    assert (found.squared_trace, found.square, found.trace) == pytest.approx(over_tuples_within_repeats(responses), rel=1e-9)
    for left_out in range(6):
        kept = [number for number in range(6) if number != left_out]
        again = signal_moments(responses[kept].flatten(0, 1), stimuli[: 5 * repeats], crossed=True)
        expected = torch.tensor([again.trace, again.squared_trace, again.square], dtype=torch.float64)
        assert torch.allclose(found.without[:3, left_out], expected, rtol=1e-9)
        assert float(found.without[5, left_out]) == pytest.approx(again.total, rel=1e-9)


@pytest.mark.parametrize("left_out", range(6))
def test_without_each_stimulus(generator, left_out):
    responses, kept = few(generator), left_out != RAGGED
    found = signal_moments(responses, RAGGED).without[:, left_out]
    again = signal_moments(responses[kept], RAGGED[kept].unique(return_inverse=True)[1])
    assert torch.allclose(
        found[:3], torch.tensor([again.trace, again.squared_trace, again.square], dtype=torch.float64), rtol=1e-9
    )
    assert float(found[5]) == pytest.approx(again.total, rel=1e-9)


def test_cycles_are_those_of_all_tuples(generator):
    """With two presentations, of which one enters and one leaves: over all cycles of three and four stimuli, about their mean."""
    products = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    threes, fours = torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for i, j, k in itertools.permutations(range(6), 3):
        threes[i] += products[i, j] * products[j, k] * products[k, i]
    for i, j, k, m in itertools.permutations(range(6), 4):
        fours[i] += products[i, j] * products[j, k] * products[k, m] * products[m, i]
    assert torch.allclose(moments_of._through(products.clone()), torch.stack([threes, fours]), rtol=1e-9, atol=1e-12)


def test_the_total_is_the_variance_of_single_presentations(generator):
    two = torch.randn(2, 40, 7, generator=generator, dtype=torch.float64)
    found = signal_moments(two.transpose(0, 1).reshape(80, 7), torch.arange(40).repeat_interleave(2))
    variances = two.square().sum(2).mean(0)
    distinct = two.mean(0) @ two.mean(0).T
    expected = variances.mean() - (distinct.sum() - distinct.diagonal().sum()) / (40 * 39)
    assert found.total == pytest.approx(float(expected), rel=1e-9)


def recording(seed, *, stimuli=600, neurons=200, alpha=1.0, share=0.2, repeats=2, values=None):
    draws = np.random.default_rng(seed)
    values = np.arange(1, neurons + 1.0) ** -alpha if values is None else values
    noise = math.sqrt(values.sum() * (1 / share - 1) / neurons)
    return draws.normal(size=(stimuli, neurons)) * np.sqrt(values) + noise * draws.standard_t(
        5, (repeats, stimuli, neurons)
    ) * math.sqrt(0.6)


@pytest.mark.parametrize(("alpha", "share"), [(0.7, 0.5), (1.0, 0.2), (1.7, 0.1)])
def test_the_exponent_does_not_depend_on_noise(alpha, share):
    """Over ten recordings of heavy-tailed noise: mean within three standard errors, and at most two intervals that miss."""
    found = [signal_spectrum(recording(seed, alpha=alpha, share=share)) for seed in range(10)]
    exponents = np.array([each.alpha.value for each in found])
    assert abs(exponents.mean() - alpha) < 3 * exponents.std() / math.sqrt(10)
    assert exponents.std() < 0.1
    assert sum(not each.alpha.low <= alpha <= each.alpha.high for each in found) <= 2
    assert sum(not each.signal_fraction.low <= share <= each.signal_fraction.high for each in found) <= 2
    ranks = np.arange(1, 201.0) ** -alpha
    dimension = ranks.sum() ** 2 / (ranks**2).sum()
    assert sum(not each.dimension.low <= dimension <= each.dimension.high for each in found) <= 2
    assert sum(each.agreement < 0.05 for each in found) <= 2


@pytest.mark.slow
def test_a_broken_law_is_told_from_a_straight_one_and_found():
    ranks = np.arange(1, 201.0)
    values = np.where(ranks < 15, ranks**-0.5, 15**1.5 * ranks**-2.0)
    found = [signal_spectrum(recording(seed, stimuli=800, share=0.5, values=values)) for seed in range(6)]
    assert all(each.agreement < 1e-6 for each in found)
    laws = [each.broken_power_law() for each in found]
    for name, truth in (("first", 0.5), ("second", 2.0), ("rank", 15)):
        intervals = [getattr(law, name) for law in laws]
        assert abs(np.median([each.value for each in intervals]) - truth) < 0.1 * truth, name
        assert sum(each.low <= truth <= each.high for each in intervals) >= 4, name
    drawn = laws[0].eigenvalues(200, 7.0)
    assert float(drawn.sum()) == pytest.approx(7)
    assert bool((drawn.diff() <= 0).all())
    assert float((drawn[0] / drawn[9]).log10()) == pytest.approx(laws[0].first.value, rel=1e-9)


def test_more_repeats_in_any_form_are_read_alike(generator):
    ragged = np.array(recording(0, repeats=4, stimuli=60, neurons=20))
    ragged[2:, ::3] = np.nan
    ragged[3:, ::2] = np.nan
    found = signal_spectrum(ragged)
    there = ~np.isnan(ragged[..., 0])
    presentations, stimuli = ragged[there], np.nonzero(there)[1]
    mixed = torch.randperm(len(stimuli), generator=generator).numpy()
    again = signal_spectrum(presentations[mixed], 7 * stimuli[mixed] - 3)
    assert (found.n_stimuli, found.n_presentations) == (60, len(stimuli)) == (again.n_stimuli, again.n_presentations)
    assert (again.alpha.value, again.alpha.low) == pytest.approx((found.alpha.value, found.alpha.low), rel=1e-9)
    two = signal_spectrum(ragged[:2])
    assert found.alpha.high - found.alpha.low < two.alpha.high - two.alpha.low
    assert found.signal_fraction.value == pytest.approx(two.signal_fraction.value, abs=0.05)


def test_stimuli_shown_once_are_left_out():
    responses = np.array(recording(0, stimuli=50, neurons=20))
    once = responses.copy()
    once[1, 40:] = np.nan
    assert signal_spectrum(once).alpha == signal_spectrum(responses[:, :40]).alpha


@pytest.mark.parametrize("factor", [1e-20, 1e6])
def test_units_change_nothing_but_variances(factor):
    responses = recording(0, stimuli=200, neurons=20, share=0.5)
    found, scaled = signal_spectrum(responses), signal_spectrum(responses * factor)
    assert scaled.alpha.value == pytest.approx(found.alpha.value, rel=1e-9)
    assert scaled.agreement == pytest.approx(found.agreement, rel=1e-6)
    assert scaled.moments.fourth == pytest.approx(found.moments.fourth * factor**8, rel=1e-9)
    assert float(scaled.eigenvalues.sum()) == pytest.approx(scaled.moments.trace, rel=1e-9)


def test_repeats_without_noise_are_all_signal():
    signal = np.array(recording(0, share=1.0, stimuli=300))[0]
    found = signal_spectrum(np.stack([signal, signal]))
    assert (found.signal_fraction.low, found.signal_fraction.value, found.signal_fraction.high) == pytest.approx((1, 1, 1))
    assert found.alpha.low < 1 < found.alpha.high


def test_what_is_not_determined_is_open():
    noise = np.random.default_rng(0).normal(size=(2, 50, 20))
    found = signal_spectrum(noise)
    assert math.isnan(found.alpha.value)
    assert (found.alpha.low, found.alpha.high) == (0.0, math.inf)
    assert (found.dimension.low, found.dimension.high) == (1.0, pytest.approx(20.0))
    with pytest.raises(SpectrumError, match="do not determine a broken power law"):
        found.broken_power_law()


def test_exponents_of_concentrations():
    for alpha in (0.3, 1.0, 2.5):
        values = np.arange(1, 101.0) ** -alpha
        assert exponent_of((values**2).sum() / values.sum() ** 2, 100) == pytest.approx(alpha, rel=1e-6)
    assert exponent_of(0.005, 100) == 0
    assert exponent_of(1.2, 100) == math.inf


def test_too_few_ranks_have_no_broken_law(generator):
    found = signal_moments(few(generator), RAGGED)
    assert broken_power_law(found, 3, 0.95) is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            (np.zeros((3, 4)),),
            "rec: responses must have shape (repeats, stimuli, neurons), or (presentations, neurons) with `stimuli`;",
        ),
        ((NOISE[:1],), "rec: the signal needs 8 stimuli that were shown at least twice; got 0."),
        ((NOISE[:, :7],), "got 7. Pass more, or check which axis"),
        (
            (np.zeros((2, 9, 4)),),
            "rec: responses must differ between presentations by more than rounding; they are all the same.",
        ),
        ((np.full((2, 9, 4), 0.1),), "by more than rounding; they are all the same."),
        ((np.tile(NOISE[0, 0], (2, 11, 1)) * 1e6,), "by more than rounding; they are all the same."),
        ((np.stack([NOISE[0], -NOISE[0]]),), "rec: no signal was found: its variance is estimated at -"),
        (
            (np.stack([NOISE[0, :, :1]] * 2),),
            "rec: a dimension and an exponent need 2 neurons that vary, beside directions that were removed; got 1.",
        ),
        ((1e-35 * NOISE,), "fourth moments of responses must not underflow; got "),
        ((NOISE[0], np.r_[np.arange(39), np.inf]), "`stimuli` must be whole numbers below 2^53"),
        ((np.where(np.arange(4) == 1, np.nan, np.ones((2, 9, 4))),), "got 18 NaN or infinite values."),
        ((np.full((2, 9, 4), 1e31),), "fourth moments of responses must not overflow; got 1e+31."),
        (
            (np.zeros((9, 4)), np.arange(8)),
            "one number for each presentation of responses (presentations, neurons); got shapes (8,)",
        ),
        ((np.zeros((9, 4)), np.arange(9) / 2), "`stimuli` must be whole numbers below 2^53"),
    ],
)
def test_what_is_refused(arguments, text):
    with pytest.raises(SpectrumError) as caught:
        signal_spectrum(*arguments, name="rec")
    assert text in str(caught.value)


def test_level_outside_of_0_and_1():
    with pytest.raises(SpectrumError, match="`level` must lie between 0 and 1; got 2"):
        signal_spectrum(np.zeros((2, 9, 4)), level=2)


def test_windows_of_cross_validated_values_need_positive_values_inside_alone():
    values = torch.tensor([-9e-6, 1.0, 0.5, 0.33, 0.25, 0.2, -0.1, 0.1, 0.1])
    fit = fit_power_law(values, ranks=(2, 6), method="cross-validated")
    assert fit.alpha > 0
    with pytest.raises(
        SpectrumError, match=r"at rank 7. The window with the most variance without one is \(2, 6\)\. Choose ranks within it"
    ):
        fit_power_law(values, ranks=(5, 9), method="cross-validated")
    with pytest.raises(SpectrumError, match=r"go beyond the 9 signal variances. The window .* is \(2, 6\)"):
        fit_power_law(values, ranks=(8, 20), method="cross-validated")
    assert list(window_sensitivity(values, first=[1, 2], last=[5, 9], method="cross-validated")["last"]) == [5]
    with pytest.raises(SpectrumError, match="has fewer than 3 ranks. Record more"):
        fit_power_law(torch.tensor([-1.0, 1.0, 1.0, -1.0]), ranks=(1, 4), method="cross-validated")


def test_means_that_differ_between_repeats_change_nothing():
    responses = recording(0, stimuli=300, neurons=50)
    offsets = 3 * np.random.default_rng(1).normal(size=(2, 1, 50))
    found, moved = signal_spectrum(responses), signal_spectrum(responses + offsets)
    assert moved.alpha.value == pytest.approx(found.alpha.value, rel=1e-9)
    assert moved.signal_fraction.value == pytest.approx(found.signal_fraction.value, rel=1e-9)
    assert moved.agreement == pytest.approx(found.agreement, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.403, 0.7057])
def test_exponents_between_those_that_are_tried_first_agree_too(alpha):
    """Where moments are known so well that a grid of exponents would be too coarse."""
    agreements = [
        signal_spectrum(recording(seed, stimuli=1500, neurons=500, alpha=alpha, share=0.9)).agreement for seed in range(3)
    ]
    assert min(agreements) > 0.02


def test_one_dimension_and_a_break_at_the_end():
    draws = np.random.default_rng(0)
    single = draws.normal(size=(300, 1)) * draws.normal(size=20) + 0.02 * draws.normal(size=(2, 300, 20))
    found = signal_spectrum(single)
    assert found.alpha.value > 4
    assert found.dimension.value == pytest.approx(1, abs=0.01)
    ranks = np.arange(1, 101.0)
    values = np.where(ranks < 80, ranks**-0.3, 80**2.7 * ranks**-3.0)
    law = signal_spectrum(recording(1, stimuli=2000, neurons=100, share=0.8, values=values)).broken_power_law()
    assert law.rank.low <= 80 <= law.rank.high
    assert law.first.low <= 0.3 <= law.first.high


def test_strong_signals_are_kept_though_noise_has_longer_runs():
    values = torch.tensor([9.0, 4.0, 2.0, -0.1, *[0.01] * 30, -0.01])
    assert positive_run(values) == (1, 3)
    assert positive_run(torch.tensor([-9e-6, 1.0, 0.5, 0.3, -0.1, 0.1])) == (2, 4)
    assert positive_run(torch.tensor([-1.0, 0.0])) == (1, 0)


def test_silent_neurons_and_removed_directions_are_no_ranks():
    responses = recording(0, stimuli=200, neurons=30, share=0.5)
    found = signal_spectrum(responses)
    silent = signal_spectrum(np.concatenate([responses, np.full((2, 200, 50), 3.0)], axis=2))
    assert (silent.n_features, silent.alpha.value) == (30, pytest.approx(found.alpha.value, rel=1e-9))
    flat = recording(0, stimuli=800, neurons=40, alpha=0.0, share=0.5)
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 30)))[0]
    left = signal_spectrum(flat - flat @ directions @ directions.T, removed=30)
    assert left.n_features == 10
    assert left.alpha.low < 0.1
    with pytest.raises(SpectrumError, match="need 2 neurons that vary, beside directions that were removed; got 0"):
        signal_spectrum(responses, removed=30)


def test_what_differs_between_repeats_alone_is_no_signal():
    offsets = np.random.default_rng(0).normal(size=(2, 1, 20)) * np.ones((2, 50, 1))
    with pytest.raises(SpectrumError, match="responses must differ between stimuli; they are all the same"):
        signal_spectrum(offsets)


def test_shares_lie_within_0_and_1_and_their_intervals():
    for seed in range(60):
        try:
            share = signal_spectrum(recording(seed, stimuli=9, neurons=20, share=0.97 if seed % 2 else 0.02)).signal_fraction
        except SpectrumError:
            continue
        assert 0 <= share.low <= share.value <= share.high <= 1
