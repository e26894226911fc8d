"""The population's spectrum from a sample: known truths, tails, gains, dependence, copies, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

import eigencode as ec
from eigencode.cli import main
from eigencode.errors import SpectrumError
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator, fit_power_law, load_spectra, population_spectrum
from eigencode.spectra.gains import Gains

RANKS = (6, 50)


def code_of(kind, alpha, n_samples, n_features, seed):
    generator = np.random.default_rng(seed)
    values = np.arange(1, n_features + 1.0) ** -alpha
    if kind == "t5":
        return generator.standard_t(5, (n_samples, n_features)) * np.sqrt(values * 3 / 5)
    rows = generator.standard_normal((n_samples, n_features)) * np.sqrt(values)
    return rows * np.sqrt(3 / generator.chisquare(5, (n_samples, 1))) if kind == "gain" else rows


def spectrum_of(code, **options):
    return Eigenspectrum.from_activations(code, **options)


@pytest.mark.parametrize(
    ("kind", "alpha", "n_samples", "n_features"),
    [
        ("gaussian", 0.3, 200, 500),
        ("gaussian", 1.0, 200, 500),
        ("gaussian", 2.0, 400, 100),
        ("gaussian", 0.5, 400, 100),
        ("gain", 0.7, 200, 500),
        ("gain", 1.0, 500, 200),
        ("t5", 1.0, 200, 500),
        ("t5", 1.0, 500, 200),
    ],
)
def test_exponent_has_hardly_any_bias(kind, alpha, n_samples, n_features):
    found = []
    for seed in range(4):
        spectrum = spectrum_of(code_of(kind, alpha, n_samples, n_features, seed), half_samples=2)
        found.append(spectrum.population_spectrum().exponent(RANKS))
    assert abs(np.mean(found) - alpha) < 0.015 + 3 * np.std(found) / 4**0.5
    assert np.std(found) < 0.06


def test_expected_spectra_give_their_population_back():
    """Without noise: the sample's logarithms are those expected, so the law comes back to the smoothing's error."""
    from eigencode.spectra.sampling import Sampling

    for alpha in (0.5, 1.0, 1.5):
        ranks = np.arange(1, 301)
        each = Sampling(degrees=199, n_features=300, bins=np.arange(1, 201), gains=Gains())
        sums = np.concatenate([[0], (-alpha * np.log(ranks)).cumsum()])
        expected = each.expected(np.diff(sums[each.edges - 1]) / each.sizes)
        found = population_spectrum(np.exp(expected.logarithms), n_samples=200, n_features=300)
        assert found.exponent(RANKS) == pytest.approx(alpha, abs=0.005)
        assert found.misfit < 0.1


def test_a_bend_a_step_and_a_floor_come_back():
    ranks = np.arange(1, 301.0)
    truths = {
        "bend": np.where(ranks < 20, (ranks / 20) ** -0.5, (ranks / 20) ** -2.0),
        "step": np.where(ranks < 6, 40.0, 1.0) * ranks**-1,
        "floor": ranks**-1 + 0.02,
    }
    for values in truths.values():
        found = []
        for seed in range(4):
            rows = np.random.default_rng(seed).standard_normal((250, 300)) * np.sqrt(values)
            found.append(spectrum_of(rows, half_samples=0).population_spectrum().exponent(RANKS))
        assert np.mean(found) == pytest.approx(fit_power_law(values, ranks=RANKS).alpha, abs=0.06)


def test_eigenvalues_fall_sum_to_the_variance_and_have_the_units_of_the_sample():
    spectrum = spectrum_of(code_of("gaussian", 1.0, 150, 300, 0), half_samples=0)
    found = spectrum.population_spectrum()
    assert found.eigenvalues.shape == (300,)
    assert bool((found.eigenvalues[1:] <= found.eigenvalues[:-1] * (1 + 1e-9)).all())
    assert float(found.eigenvalues.sum()) == pytest.approx(spectrum.total_variance, rel=0.2)
    larger = population_spectrum(spectrum.eigenvalues[:149] * 1e8, n_samples=150, n_features=300, gains=spectrum.gains)
    assert larger.eigenvalues.numpy() == pytest.approx(found.eigenvalues.numpy() * 1e8, rel=1e-6)


def test_units_that_are_dead_or_doubled_change_nothing():
    code = code_of("gaussian", 1.0, 400, 60, 1)
    plain = spectrum_of(code, half_samples=0).population_spectrum().exponent((2, 40))
    dead = spectrum_of(np.hstack([code, np.zeros((400, 30))]), half_samples=0).population_spectrum().exponent((2, 40))
    doubled = spectrum_of(np.hstack([code, code[:, ::-1]]), half_samples=0).population_spectrum().exponent((2, 40))
    assert dead == pytest.approx(plain, abs=1e-6)
    assert doubled == pytest.approx(plain, abs=0.02)


def test_a_cliff_comes_back():
    """Thirty directions and what a nonlinearity adds far below them, as in a wide layer behind a narrow one."""
    values = np.where(np.arange(400) < 32, 1.0, 1e-5) * np.arange(1, 401.0) ** -1
    for seed in range(4):
        rows = np.random.default_rng(seed).standard_normal((300, 400)) * np.sqrt(values)
        interval = spectrum_of(rows).alpha_interval((2, 25))
        assert interval.alpha == pytest.approx(1.0, abs=0.2)
        assert interval.low < 1.0 < interval.high


def test_a_network_whose_layer_is_narrower_than_the_next_has_a_curve():
    images = ec.datasets.load("digits", count=200)
    code = ec.collect(ec.models.load("gerum_cnn", image_shape=images.shape), images, layer="tanh3")
    table = ec.stimulus_curve(code, counts=[60, 120, 200], ranks=(2, 25), repeats=3)
    assert np.isfinite(table["alpha_population"]).all()


@pytest.mark.parametrize("n_samples", [8, 12, 14, 15, 17, 30])
def test_few_independent_images_are_independent(n_samples):
    for seed in range(4):
        spectrum = spectrum_of(code_of("gaussian", 1.0, n_samples, 5, seed))
        assert spectrum.gains.independent == 1
        assert np.isfinite(spectrum.population_spectrum().exponent((1, 3)))


@pytest.mark.parametrize("scale", [1e-120, 1e-30, 1e30, 1e150])
def test_any_scale(scale):
    code = code_of("gain", 1.0, 200, 100, 0)
    plain, scaled = spectrum_of(code), spectrum_of(code * scale)
    assert scaled.gains.second_moment == pytest.approx(plain.gains.second_moment, rel=1e-9)
    assert scaled.alpha_interval(RANKS).alpha == pytest.approx(plain.alpha_interval(RANKS).alpha, rel=1e-9)
    if 1e-31 < scale < 1e31:
        single = spectrum_of((code * scale).astype(np.float32))
        assert single.alpha_interval(RANKS).alpha == pytest.approx(plain.alpha_interval(RANKS).alpha, rel=1e-3)


@pytest.mark.parametrize(
    "code", [np.eye(64), np.vstack([np.sign(code_of("gaussian", 0, 50, 256, 0)), -np.sign(code_of("gaussian", 0, 50, 256, 0))])]
)
def test_samples_of_equal_length_have_equal_gains(code):
    assert spectrum_of(code).gains.second_moment == 1


def test_few_sets_are_refused():
    rows = np.repeat(code_of("gaussian", 1.0, 6, 100, 0), 40, axis=0) + 1e-3 * code_of("gaussian", 1.0, 240, 100, 1)
    spectrum = spectrum_of(rows, groups=np.repeat(np.arange(6), 40))
    with pytest.raises(SpectrumError, match="belong together in so few sets that they count as 4 independent; 16 are needed"):
        spectrum.population_spectrum()


def test_units_that_are_doubled_change_no_stimulus_curve():
    code = code_of("gaussian", 1.0, 300, 80, 0)
    once, twice = (ec.stimulus_curve(each, counts=[300], ranks=RANKS) for each in (code, np.hstack([code, code])))
    assert twice["alpha_population"][0] == pytest.approx(once["alpha_population"][0], abs=0.03)


@pytest.mark.parametrize(("n_samples", "n_features"), [(5, 4), (6, 30), (12, 1000), (30, 3), (200, 10), (24, 24)])
def test_small_samples_have_a_spectrum(n_samples, n_features):
    found = spectrum_of(code_of("gaussian", 1.0, n_samples, n_features, 0), half_samples=0).population_spectrum()
    assert bool(torch.isfinite(found.eigenvalues).all())
    assert bool((found.eigenvalues > 0).all())


class TestGains:
    @pytest.mark.parametrize("shape", [(300, 600), (600, 150)])
    def test_of_the_images_are_found(self, shape):
        generator = np.random.default_rng(3)
        gains = generator.gamma(2, 0.5, shape[0])
        rows = code_of("gaussian", 0.7, *shape, 5) * np.sqrt(gains)[:, None]
        found = spectrum_of(rows).gains
        assert found.second_moment == pytest.approx(np.mean(gains**2) / gains.mean() ** 2, rel=0.12)
        assert np.dot(found.values, found.shares) == pytest.approx(1)
        assert found.error > 0

    @pytest.mark.parametrize("kind", ["gaussian", "t5"])
    def test_are_not_found_where_there_are_none(self, kind):
        assert spectrum_of(code_of(kind, 1.0, 400, 300, 0)).gains.second_moment < 1.1

    def test_samples_of_one_image_count_once(self):
        """Four equal rows of each image: as if there were a quarter of them, by positions or by groups."""
        code = code_of("gaussian", 0.7, 200, 100, 2)
        once = spectrum_of(code).population_spectrum().exponent(RANKS)
        four = np.repeat(code, 4, axis=0)
        groups = np.repeat(np.arange(200), 4)
        for found in (
            spectrum_of(four, groups=groups),
            spectrum_of(four.reshape(200, 4, 100), mask=np.ones((200, 4), bool)),
        ):
            assert found.gains.second_moment == pytest.approx(4, rel=0.15)
            assert found.population_spectrum().exponent(RANKS) == pytest.approx(once, abs=0.03)

    def test_are_the_same_however_often_the_spectrum_is_asked_for(self):
        metric = SpectrumAccumulator(half_samples=20)
        metric.update(code_of("gain", 1.0, 300, 100, 0))
        first, again = metric.compute(), metric.compute()
        assert first.gains == again.gains
        assert first.alpha_interval(RANKS) == again.alpha_interval(RANKS)
        metric.update(code_of("gain", 1.0, 300, 100, 1))
        assert metric.compute().gains != first.gains

    def test_do_not_depend_on_how_samples_were_cut(self):
        code = torch.from_numpy(code_of("gain", 1.0, 300, 400, 0)).float()
        whole, cut = SpectrumAccumulator(half_samples=4), SpectrumAccumulator(half_samples=4)
        whole.update(code)
        for batch in code.split(37):
            part = SpectrumAccumulator(half_samples=4)
            part.update(batch)
            cut.merge(copy.deepcopy(part))
        assert cut.compute().gains.values == pytest.approx(whole.compute().gains.values, rel=1e-6)

    @pytest.mark.parametrize("ending", ["npz", "parquet"])
    def test_are_kept_in_files(self, tmp_path, ending):
        spectrum = spectrum_of(code_of("gain", 1.0, 200, 100, 0))
        spectrum.save(tmp_path / f"s.{ending}")
        again = load_spectra(tmp_path / f"s.{ending}")[spectrum.name]
        assert again.gains == spectrum.gains
        assert again.alpha_interval(RANKS) == spectrum.alpha_interval(RANKS)


class TestCopies:
    @pytest.mark.parametrize("shape", [(300, 600), (800, 200)])
    @pytest.mark.parametrize(("several", "jitter"), [(2, 0.0), (2, 0.1), (5, 0.1)])
    def test_near_copies_open_the_interval(self, shape, several, jitter):
        few = code_of("gaussian", 1.0, shape[0] // several, shape[1], 0)
        rows = np.repeat(few, several, axis=0)
        rows = rows + jitter * code_of("gaussian", 1.0, *rows.shape, 1)
        interval = spectrum_of(rows).alpha_interval(RANKS)
        assert (interval.low, interval.high) == (-np.inf, np.inf)
        assert (
            "of them are nearly the same as another. If some are copies of others or belong together, pass `groups`"
            in interval.note
        )
        with pytest.raises(
            SpectrumError, match="the dimension of the population is not determined by these .* nearly the same as"
        ):
            spectrum_of(rows).population_dimension()
        told = spectrum_of(rows, groups=np.repeat(np.arange(len(few)), several)).alpha_interval((2, 20))
        assert told.note == ""
        assert told.low < 1.0 < told.high
        dimension = spectrum_of(rows, groups=np.repeat(np.arange(len(few)), several)).population_dimension(level=0.999)
        law = np.arange(1, shape[1] + 1.0) ** -1
        assert dimension.low < law.sum() ** 2 / (law**2).sum() < dimension.high

    @pytest.mark.parametrize("units", [120, 149, 155, 200, 600])
    def test_equal_images_that_are_told_count_once(self, units):
        found = []
        for seed in range(4):
            rows = np.repeat(code_of("gaussian", 0.5, 150, units, seed), 2, axis=0)
            found.append(spectrum_of(rows, groups=np.repeat(np.arange(150), 2)).alpha_interval((4, 40)))
        assert np.mean([each.alpha for each in found]) == pytest.approx(0.5, abs=0.035)
        assert max(each.misfit for each in found) < 1.5

    @pytest.mark.parametrize("shape", [(300, 1000), (300, 299), (300, 200)])
    @pytest.mark.parametrize("count", [1, 20])
    def test_a_few_that_are_equal_do_no_harm(self, shape, count):
        rows = code_of("gaussian", 0.5, *shape, 0)
        rows[-count:] = rows[:count]
        population = spectrum_of(rows).population_spectrum()
        assert population.exponent(RANKS) == pytest.approx(0.5, abs=0.05)
        assert population.misfit < 2

    @pytest.mark.parametrize("kind", ["gaussian", "t5", "gain"])
    @pytest.mark.parametrize("shape", [(300, 600), (800, 200), (1000, 20)])
    def test_there_are_none_by_chance(self, kind, shape):
        assert spectrum_of(code_of(kind, 1.0, *shape, 0)).gains.copies < 0.02

    def test_pictures_of_a_kind_are_no_copies(self):
        images = ec.datasets.load("digits").inputs
        assert spectrum_of(images.flatten(1)).gains.copies < 0.02

    def test_copies_that_few_components_hide_show_in_the_spectrum(self):
        rows = np.tile(code_of("gaussian", 0.5, 150, 600, 0), (2, 1))
        rows = rows + 0.6 * code_of("gaussian", 0.5, *rows.shape, 1)
        interval = spectrum_of(rows).alpha_interval(RANKS)
        assert interval.high == np.inf
        assert "no smooth spectrum explains theirs and that of their halves (misfit " in interval.note


class TestSeries:
    """Rows of a time series, each of which remembers the one before."""

    @pytest.mark.parametrize("shape", [(300, 600), (2000, 100)])
    @pytest.mark.parametrize("memory", [0.5, 0.8, 0.95])
    def test_opens_the_interval(self, shape, memory):
        steps = code_of("gaussian", 1.0, shape[0] + 200, shape[1], 0) * np.sqrt(1 - memory**2)
        rows = lfilter([1.0], [1.0, -memory], steps, axis=0)[200:]
        assert np.isinf(spectrum_of(rows).alpha_interval(RANKS).high)
        with pytest.raises(
            SpectrumError, match="(each resembles the next more than later ones|nearly the same as another).* or belong together"
        ):
            spectrum_of(rows).population_dimension()
        assert spectrum_of(np.random.default_rng(0).permutation(rows)).gains.serial == 0

    def test_is_seen_whatever_was_merged(self):
        rows = lfilter([1.0], [1.0, -0.8], code_of("gaussian", 1.0, 400, 600, 0), axis=0)
        parts = [SpectrumAccumulator(half_samples=0) for _ in range(4)]
        for part, some in zip(parts, np.split(rows, 4), strict=True):
            part.update(torch.from_numpy(some))
        for part in parts[1:]:
            parts[0].merge(part)
        assert parts[0].compute().gains.serial == pytest.approx(spectrum_of(rows).gains.serial, abs=1e-6)

    def test_classes_one_after_the_other_are_none(self):
        centres, inside = code_of("gaussian", 1.0, 20, 300, 0), code_of("gaussian", 1.0, 1000, 300, 1)
        assert spectrum_of(np.repeat(2 * centres, 50, axis=0) + inside).gains.serial < 0.25
        digits = ec.datasets.load("digits")
        assert not spectrum_of(digits.inputs.flatten(1)[digits.labels.argsort(stable=True)]).gains.objection


@pytest.mark.parametrize("shape", [(300, 256), (300, 290), (300, 299), (300, 300), (300, 305)])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_as_many_units_as_images(alpha, shape):
    found = [spectrum_of(code_of("gaussian", alpha, *shape, seed)).population_spectrum() for seed in range(4)]
    assert np.mean([each.exponent(RANKS) for each in found]) == pytest.approx(alpha, abs=0.025)
    assert max(each.misfit for each in found) < 1.5


def test_summaries_say_why_an_interval_is_open():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(100, 100)

        def forward(self, x):
            return self.layer(x)

    inputs = torch.from_numpy(np.repeat(code_of("gaussian", 1.0, 100, 100, 0), 2, axis=0)).float()
    row = ec.measure(Twice(), inputs, layers="layer").summary((2, 20)).iloc[0]
    assert (row["alpha_low"], row["alpha_high"]) == (-np.inf, np.inf)
    assert (
        "layer: alpha of the population is not determined by these 200 samples: 100% of them are nearly the same" in row["note"]
    )


def test_tables_say_that_an_interval_is_open(capsys, tmp_path):
    images = np.repeat(ec.datasets.load("digits", count=80).inputs.numpy(), 2, axis=0)
    np.savez(tmp_path / "twice.npz", inputs=images, labels=np.zeros(160, dtype=np.int64))
    words = [
        "measure",
        "--model",
        "schaeffer_cnn",
        "--data",
        f"tensors:{tmp_path / 'twice.npz'}",
        "--layers",
        "relu4",
        "--ranks",
        "2-20",
    ]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "not determined" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>not determined</td>" in page or ">not determined<" in page


def test_what_has_no_population_spectrum_is_refused():
    code = code_of("gaussian", 1.0, 400, 3000, 0)
    sketched = spectrum_of(code, memory_limit=2**20, half_samples=4)
    assert sketched.method == "sketch"
    with pytest.raises(SpectrumError, match="no population spectrum is estimated from a sketch spectrum. Raise `memory_limit`"):
        sketched.population_spectrum()
    with pytest.raises(SpectrumError, match="Raise `memory_limit`"):
        sketched.alpha_interval((2, 20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "alpha", "n_samples", "n_features", "ranks"),
    [
        ("t5", 1.0, 800, 500, (10, 316)),
        ("t5", 1.0, 300, 1000, RANKS),
        ("gaussian", 0.3, 300, 1000, RANKS),
        ("gain", 1.0, 300, 1000, RANKS),
    ],
)
def test_intervals_cover_where_they_did_not(kind, alpha, n_samples, n_features, ranks):
    hits = 0
    for seed in range(100):
        interval = spectrum_of(code_of(kind, alpha, n_samples, n_features, seed), seed=seed).alpha_interval(ranks)
        hits += interval.low <= alpha <= interval.high
    assert hits >= 88  # of 95 expected: fewer have a probability of 0.3 %
