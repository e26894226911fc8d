"""Dimension and exponent where neurons are a sample: against all tuples, an independent package, and known truths."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from eigencode import signal_spectrum
from eigencode.errors import SpectrumError
from eigencode.spectra import dimension_of_all_units, sampled_units
from eigencode.spectra.distinct_stimuli import squared_variances
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.signal_moments import signal_moments

RAGGED = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7])


def latent_code(generator, images, units, dimensions=400, alpha=1.2):
    """Responses of units that read a power law with random weights."""
    variances = torch.arange(1, dimensions + 1, dtype=torch.float64) ** -alpha
    weights = torch.randn(dimensions, units, generator=generator, dtype=torch.float64) * variances.sqrt()[:, None]
    return torch.randn(images, dimensions, generator=generator, dtype=torch.float64) @ weights


TRUTH = float((np.arange(1, 401.0) ** -1.2).sum() ** 2 / (np.arange(1, 401.0) ** -2.4).sum())


@pytest.mark.parametrize(("images", "units"), [(8, 8), (40, 30), (30, 90)])
def test_ratio_is_that_of_the_package_dimensionality(generator, images, units):
    dimensionality = pytest.importorskip("dimensionality")
    code = latent_code(generator, images, units) + 3
    theirs = dimensionality.participation_ratio(code.numpy(), return_all=True)["both"]
    assert 1 / float(sampled_units._shares(code - code.mean(0))[0]) == pytest.approx(theirs, rel=1e-9)


def test_leaving_out_an_image_is_measuring_without_it(generator):
    code = latent_code(generator, 12, 9)
    without = sampled_units._shares(code - code.mean(0))[1]
    for left in (0, 7):
        rest = torch.cat([code[:left], code[left + 1 :]])
        again = sampled_units._shares(rest - rest.mean(0))[0]
        assert float(without[left]) == pytest.approx(float(again), rel=1e-9)


def test_neurons_left_out_are_measured_without_them_and_scaled(generator):
    """Moments of some neurons stand for those of as many as there are: products of two neurons for pairs, own ones for single."""
    stimuli = torch.arange(12).repeat_interleave(2)
    presentations = torch.randn(24, 9, generator=generator, dtype=torch.float64)
    groups = torch.tensor([0, 1, 2] * 3)
    found = signal_moments(presentations, stimuli, crossed=True, groups=groups)
    again = signal_moments(presentations[:, groups != 1], stimuli, crossed=True)
    single, pairs = 9 / 6, 9 * 8 / (6 * 5)
    for left, values in ((found.without_neurons[:, 1], again.values), (found.without_both[:, 1, 4], again.without[:, 4])):
        trace, squared_trace, square, _, _, total, own = values.tolist()
        expected = [single * trace, *(pairs * (each - own) + single * own for each in (squared_trace, square))]
        assert left[:3].tolist() == pytest.approx(expected, rel=1e-9)
        assert left[5:].tolist() == pytest.approx([single * total, single * own], rel=1e-9)


@pytest.mark.parametrize("crossed", [True, False])
def test_squared_variances_of_neurons_are_those_of_each_alone(generator, monkeypatch, crossed):
    monkeypatch.setattr("eigencode.spectra.distinct_stimuli._LARGEST_BLOCK", 40)
    stimuli = torch.arange(8).repeat_interleave(3) if crossed else RAGGED
    presentations = torch.randn(len(stimuli), 5, generator=generator, dtype=torch.float64) + 3
    found = signal_moments(presentations, stimuli, crossed=crossed)
    alone = [signal_moments(presentations[:, k : k + 1], stimuli, crossed=crossed) for k in range(5)]
    assert found.own == pytest.approx(sum(each.squared_trace for each in alone), rel=1e-9)
    assert found.own == pytest.approx(sum(each.square for each in alone), rel=1e-9)
    assert torch.allclose(found.without[6], sum(each.without[2] for each in alone), rtol=1e-9)


def test_squared_variances_are_those_of_all_tuples(generator):
    x = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    found, _ = squared_variances(x.flatten(0, 1), torch.arange(6).repeat_interleave(2), crossed=True)
    tuples = [
        ((x[i, a] - x[j, a]) * (x[i, 1 - a] - x[j, 1 - a]) * (x[k, b] - x[m, b]) * (x[k, 1 - b] - x[m, 1 - b]) / 4).sum()
        for i, j, k, m in itertools.permutations(range(6), 4)
        for a in (0, 1)
        for b in (0, 1)
    ]
    assert float(found) == pytest.approx(float(torch.stack(tuples).mean()), rel=1e-9)


def test_variance_of_a_mean_over_a_table(generator):
    """Rows, columns and cells with known variances: the error of their mean."""
    found = []
    for _ in range(200):
        rows, columns = (torch.randn(size, generator=generator, dtype=torch.float64) for size in (30, 20))
        cells = 3 * torch.randn(20, 30, generator=generator, dtype=torch.float64)
        table = 2 * columns[:, None] + rows + cells
        without = (table.sum() - table.sum(0)) / (20 * 29), (table.sum() - table.sum(1)) / (19 * 30)
        both = (table.sum() - table.sum(0) - table.sum(1)[:, None] + table) / (19 * 29)
        parts = [Jackknife.of(table.mean(), each) for each in without]
        found.append(Jackknife.crossed(table.mean(), *parts, both).stderr ** 2)
    assert np.mean(found) == pytest.approx(1 / 30 + 4 / 20 + 9 / 600, rel=0.1)


def test_bias_of_an_estimate_from_a_table(generator):
    """Of 3 + a / rows + b / columns + c / (rows columns) all but the 3 is bias; what columns alone have is not moved."""

    def estimate(rows, columns):
        return 3 + 2 / rows + 5 / columns + 11 / (rows * columns)

    def near(value, *shape):
        return value + 1e-7 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, columns = (
        Jackknife.of(estimate(7, 5), near(value, size)) for value, size in ((estimate(6, 5), 7), (estimate(7, 4), 5))
    )
    found = Jackknife.crossed(estimate(7, 5), rows, columns, near(estimate(6, 4), 5, 7))
    assert estimate(7, 5) - found.bias == pytest.approx(3, abs=1e-4)
    assert found.shift == pytest.approx(5 / 5, abs=1e-4)


def test_intervals_are_moved_by_the_bias_and_skewed():
    straight = Jackknife(stderr=1.0, freedom=1e6)
    low, high = straight.reaches(0.95)
    moved = replace(straight, shift=0.5).reaches(0.95)
    assert moved == pytest.approx((low - 0.5, high - 0.5))
    skewed = replace(straight, skewness=0.1).reaches(0.95)
    assert skewed[1] > high
    assert skewed[0] > low


def test_values_stay_those_of_the_recorded_neurons(generator):
    responses = torch.randn(2, 60, 40, generator=generator, dtype=torch.float64)
    responses[..., :3] += 3 * torch.randn(60, 3, generator=generator, dtype=torch.float64)
    recorded, sampled = signal_spectrum(responses), signal_spectrum(responses, neurons="sampled")
    for name in ("alpha", "dimension", "signal_fraction"):
        one, two = getattr(recorded, name), getattr(sampled, name)
        assert two.value == pytest.approx(one.value, rel=1e-9)
        assert two.low <= two.value <= two.high
        assert two.high - two.low > one.high - one.low
    assert sampled.agreement == pytest.approx(recorded.agreement, nan_ok=True)


def test_what_is_not_told_from_infinity_has_no_upper_end(generator):
    noise = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    found = dimension_of_all_units(noise)
    assert found.high == np.inf
    assert found.low > 10
    assert np.isnan(found.dimension) or found.dimension > found.low
    signal = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    every = signal_spectrum(
        signal + 0.1 * torch.randn(2, 40, 60, generator=generator), neurons="sampled"
    ).dimension_of_all_neurons
    assert every.high == np.inf
    assert every.low > 10


@pytest.mark.parametrize("scale", [1e-90, 1.0, 1e90])
def test_units_of_measurement_do_not_matter(generator, scale):
    code = latent_code(generator, 60, 40)
    one, two = dimension_of_all_units(code), dimension_of_all_units(code * scale + 0.0)
    assert (two.dimension, two.low, two.high) == pytest.approx((one.dimension, one.low, one.high), rel=1e-9)


def test_intervals_hold_the_truth_of_all_neurons(generator, monkeypatch):
    monkeypatch.setattr(sampled_units, "_GROUPS", 20)
    held = {"units": 0, "signal": 0, "recorded": 0}
    for _ in range(12):
        code = latent_code(generator, 120, 80)
        units = dimension_of_all_units(code)
        held["units"] += units.low <= TRUTH <= units.high
        noisy = code + 2 * torch.randn(2, 120, 80, generator=generator, dtype=torch.float64)
        signal = signal_spectrum(noisy, neurons="sampled")
        all_neurons = signal.dimension_of_all_neurons
        held["signal"] += all_neurons.low <= TRUTH <= all_neurons.high
        recorded = signal_spectrum(noisy)
        assert signal.alpha.high - signal.alpha.low > recorded.alpha.high - recorded.alpha.low
        held["recorded"] += recorded.dimension.low <= TRUTH <= recorded.dimension.high
    assert min(held["units"], held["signal"]) >= 9
    assert held["recorded"] < held["signal"]  # of these neurons, whose dimension is smaller


def test_what_is_refused(generator):
    noisy = latent_code(generator, 30, 9) + torch.randn(2, 30, 9, generator=generator, dtype=torch.float64)
    with pytest.raises(SpectrumError, match="Measure with neurons='sampled'"):
        _ = signal_spectrum(noisy).dimension_of_all_neurons
    with pytest.raises(SpectrumError, match="an interval over neurons needs 8 that vary; got 5"):
        signal_spectrum(noisy[:, :, :5], neurons="sampled")
    with pytest.raises(SpectrumError, match="neurons"):
        signal_spectrum(noisy, neurons="all")
    for code in (noisy[0, :7], noisy[0, :, :7], noisy):
        with pytest.raises(SpectrumError, match="with at least 8 of each"):
            dimension_of_all_units(code)
    with pytest.raises(SpectrumError, match="must be finite"):
        dimension_of_all_units(noisy[0] / 0)
    with pytest.raises(SpectrumError, match="they are all the same"):
        dimension_of_all_units(torch.full((20, 20), 0.1))
    with pytest.raises(SpectrumError, match="must not be negative; got -3"):
        signal_spectrum(noisy, removed=-3)
    with pytest.raises(SpectrumError, match="9 neurons of which 2 directions were taken away depend on each other"):
        signal_spectrum(noisy, neurons="sampled", removed=2)
