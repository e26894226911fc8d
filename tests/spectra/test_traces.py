"""The dimension of a population: sums over all tuples of distinct images, other people's code, and simulations."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import eigencode as ec
from eigencode.errors import SpectrumError
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator, dimension_interval, load_spectra
from eigencode.spectra.traces import Traces


def over_tuples(images):
    """Means of both products over all tuples of distinct images, each with any number of samples, but for one factor."""
    pairs = {
        (i, j): sum(np.outer(x - y, x - y) for x in images[i] for y in images[j]) / 2
        for i, j in itertools.permutations(range(len(images)), 2)
    }
    products = [
        (np.trace(pairs[i, j]) * np.trace(pairs[k, m]), np.trace(pairs[i, j] @ pairs[k, m]))
        for i, j, k, m in itertools.permutations(range(len(images)), 4)
    ]
    return np.mean(products, axis=0)


def code(generator, count, units, alpha=1.0):
    return torch.randn(count, units, generator=generator, dtype=torch.float64) * torch.arange(1, units + 1) ** (-alpha / 2) + 2


@pytest.mark.parametrize("count", [4, 5, 7, 9])
@pytest.mark.parametrize("units", [3, 40])
def test_equal_to_all_tuples_of_distinct_images(generator, count, units):
    """Through the covariance and the Gram matrix, with and without groups."""
    samples = code(generator, count, units)
    expected = over_tuples(samples[:, None].numpy())
    for halves in (0, 2):
        traces = Eigenspectrum.from_activations(samples, half_samples=halves).traces
        assert (traces.squared_trace, traces.trace_of_square) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("units", [3, 40])
def test_images_of_several_samples_are_never_paired_with_themselves(generator, units):
    counts = (1, 3, 2, 2, 1, 4)
    images = [code(generator, count, units).numpy() + 3 * np.arange(units) for count in counts]
    expected = over_tuples(images)
    groups = np.repeat(np.arange(len(counts)), counts)
    mask = np.arange(4) < np.array(counts)[:, None]
    padded = np.stack([np.pad(each, ((0, 4 - len(each)), (0, 0))) for each in images])
    for given in ({"groups": groups}, {"mask": mask}):
        samples = np.concatenate(images) if "groups" in given else padded
        traces = Eigenspectrum.from_activations(samples, half_samples=2, **given).traces
        assert traces.squared_trace / traces.trace_of_square == pytest.approx(expected[0] / expected[1], rel=1e-9)


@pytest.mark.parametrize(("count", "units"), [(30, 12), (30, 90), (200, 50)])
def test_equal_to_the_package_dimensionality(generator, count, units):
    dimensionality = pytest.importorskip("dimensionality")
    samples = code(generator, count, units, 0.5)
    traces = Eigenspectrum.from_activations(samples).traces
    theirs = dimensionality.participation_ratio(samples.numpy(), return_all=True)["row"]
    assert traces.squared_trace / traces.trace_of_square == pytest.approx(theirs, rel=1e-9)


def test_errors_are_those_of_leaving_out_one_image(generator):
    samples = code(generator, 40, 60)
    whole = Eigenspectrum.from_activations(samples)
    ratios = []
    for left in range(40):
        traces = Eigenspectrum.from_activations(torch.cat([samples[:left], samples[left + 1 :]]), half_samples=0).traces
        ratios.append(traces.squared_trace / traces.trace_of_square)
    ratio = whole.traces.squared_trace / whole.traces.trace_of_square
    assert whole.traces.ratio_bias == pytest.approx(39 * (np.mean(ratios) - ratio), rel=1e-6)
    jackknife = 39 / 40 * ((np.log(ratios) - np.log(ratios).mean()) ** 2).sum()
    centred = (samples - samples.mean(0)).numpy()
    pairs = (centred @ centred.T) ** 2
    np.fill_diagonal(pairs, 0)
    rest = pairs - pairs.sum(1)[:, None] / 38 - pairs.sum(1) / 38 + pairs.sum() / 39 / 38
    np.fill_diagonal(rest, 0)  # what pairs have and single images do not, which leaving out one counts twice
    of_pairs = 2 * (rest**2).sum() / (40 * 37) / (pairs.sum() / 39) ** 2
    assert whole.traces.stderr**2 == pytest.approx(jackknife - of_pairs, rel=1e-6)
    assert whole.population_dimension().dimension == pytest.approx(ratio - whole.traces.ratio_bias)


def test_batches_merges_and_forms_change_nothing(generator):
    samples = code(generator, 300, 30)
    whole = Eigenspectrum.from_activations(samples).traces
    parts = [SpectrumAccumulator(half_samples=20) for _ in range(3)]
    for part, rows in zip(parts, samples.split(100), strict=True):
        for batch in rows.split(7):
            part.update(batch)
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    found = merged.compute().traces
    for name in ("squared_trace", "trace_of_square", "ratio_bias", "stderr", "skewness", "freedom"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-7)


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_a_mean_far_from_zero_does_no_harm(generator, far):
    samples = code(generator, 400, 20)
    near, moved = (Eigenspectrum.from_activations(samples + shift).population_dimension() for shift in (0.0, far))
    assert (moved.dimension, moved.low, moved.high) == pytest.approx((near.dimension, near.low, near.high), rel=1e-6)


def test_relations(generator):
    samples = code(generator, 60, 80, 0.5)
    found = Eigenspectrum.from_activations(samples).population_dimension()
    turn = torch.linalg.qr(torch.randn(80, 80, generator=generator, dtype=torch.float64))[0]
    for same in (samples * 1e-20, samples * 1e20, samples @ turn, samples.flip(0), torch.nn.functional.pad(samples, (0, 9))):
        other = Eigenspectrum.from_activations(same).population_dimension()
        assert (other.dimension, other.low, other.high) == pytest.approx((found.dimension, found.low, found.high), rel=1e-9)
    assert found.low < found.dimension < found.high
    wider = Eigenspectrum.from_activations(samples).population_dimension(level=0.99)
    assert wider.low < found.low < found.high < wider.high


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("draw", ["standard_normal", "gain"])
def test_few_images_find_the_dimension_and_say_how_well(alpha, draw):
    """The participation ratio of these samples is up to nine times too small."""
    values = np.arange(1, 401) ** -alpha
    truth = values.sum() ** 2 / (values**2).sum()
    random = np.random.default_rng(4)
    found = []
    for _ in range(200):
        samples = random.standard_normal((60, 400)) * np.sqrt(values)
        if draw == "gain":
            samples *= np.sqrt(5 / random.chisquare(7, (60, 1)))
        found.append(Eigenspectrum.from_activations(samples, half_samples=0).population_dimension())
    assert abs(np.mean([each.dimension for each in found]) / truth - 1) < 0.03
    assert np.mean([each.low <= truth <= each.high for each in found]) > 0.9


def test_what_is_refused(generator, tmp_path):
    spectrum = Eigenspectrum.from_activations(code(generator, 3, 9))
    with pytest.raises(SpectrumError, match="the dimension of the population needs 4 images, and half-samples where"):
        spectrum.population_dimension()
    few = Eigenspectrum.from_activations(code(generator, 6, 9)).population_dimension()
    assert math.isnan(few.low)
    assert few.dimension > 0
    sketch = SpectrumAccumulator(memory_limit=2**17, name="wide")
    sketch.update(torch.randn(400, 3000, generator=generator))
    assert sketch.compute().method == "sketch"
    with pytest.raises(SpectrumError, match="wide: a sketch does not have the traces.*Raise `memory_limit`"):
        sketch.compute().population_dimension()
    with pytest.raises(SpectrumError, match="`level` must lie between 0 and 1; got 1"):
        dimension_interval(Traces(4.0, 2.0), level=1)
    with pytest.raises(SpectrumError, match="unbiased estimates of .* are 4 and -1"):
        dimension_interval(Traces(4.0, -1.0))


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_files_keep_it_and_older_ones_say_so(generator, tmp_path, ending):
    spectrum = Eigenspectrum.from_activations(code(generator, 50, 30), name="layer")
    spectrum.save(tmp_path / f"s.{ending}")
    assert Eigenspectrum.load(tmp_path / f"s.{ending}").population_dimension() == spectrum.population_dimension()
    older = Eigenspectrum(**{**vars(spectrum), "traces": None})
    older.save(tmp_path / f"o.{ending}")
    with pytest.raises(SpectrumError, match="layer: this spectrum was kept without the traces.* Measure it again"):
        load_spectra(tmp_path / f"o.{ending}")["layer"].population_dimension()


def test_summaries_have_it(generator):
    network = torch.nn.Sequential(torch.nn.Linear(20, 60), torch.nn.Tanh(), torch.nn.Linear(60, 4))
    spectra = ec.measure(network, torch.randn(200, 20, generator=generator), layers=["1"])
    row = spectra.summary((2, 10)).iloc[0]
    found = spectra["1"].population_dimension()
    assert (row.dimension_population, row.dimension_low, row.dimension_high) == (found.dimension, found.low, found.high)


@pytest.mark.slow
def test_the_simulations_that_the_documentation_cites_run():
    command = [sys.executable, "-m", "benchmarks.spectrum_bench", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-1000:]
    rows = done.stdout.splitlines()
    assert any(row.startswith("D, gaussian 0.5, 100 images, 1000 units: {'truth': 510.2") for row in rows)
