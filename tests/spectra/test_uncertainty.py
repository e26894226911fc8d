from dataclasses import replace

import numpy as np
import pytest
import torch

from eigencode.errors import SpectrumError
from eigencode.spectra import (
    Eigenspectrum,
    expected_exponent,
    stimulus_curve,
)
from eigencode.spectra.resampling import degrees_of_freedom, draw_halves
from eigencode.spectra.window import Window


def spectrum(code, **options):
    return Eigenspectrum.from_activations(code, **options)


class TestDrawnExponents:
    """Data drawn with a known exponent give it back within the standard error that the interval states."""

    @pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
    def test_comes_back(self, power_law_code, alpha):
        interval = spectrum(power_law_code(alpha, 3000, 200)).alpha_interval("gerum")
        assert abs(interval.alpha - alpha) < 3 * interval.stderr
        assert interval.stderr < 0.02

    def test_identity_comes_back_flat(self, power_law_code):
        flat = spectrum(power_law_code(0.0, 20000, 60))
        # 60 units in 20000 images: sampling spreads equal eigenvalues over (1 +- sqrt(60 / 20000))^2, nearly +-11 %
        assert abs(flat.fit((6, 50)).alpha) < 0.1
        assert flat.dimension == pytest.approx(60, rel=0.02)


def coverage(draw, alpha, n_samples, n_features, ranks, trials):
    hits = 0
    for seed in range(trials):
        interval = spectrum(draw(alpha, n_samples, n_features), seed=seed).alpha_interval(ranks)
        hits += interval.low <= alpha <= interval.high
    return hits / trials


class TestInterval:
    def test_covers_in_a_short_run(self, power_law_code):
        # 15 trials of a 95 % interval: below 0.8 has a probability of about 1 %
        assert coverage(power_law_code, 1.0, 400, 100, (6, 50), 15) >= 0.8

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
    @pytest.mark.parametrize(
        ("n_samples", "n_features", "ranks"),
        [(2000, 200, (6, 50)), (2000, 200, (1, 10)), (500, 300, (6, 50)), (500, 1000, (6, 50))],
    )
    def test_covers(self, power_law_code, alpha, n_samples, n_features, ranks):
        assert coverage(power_law_code, alpha, n_samples, n_features, ranks, 200) >= 0.92

    @pytest.mark.parametrize("n_images", [4, 7, 20, 21, 99])
    def test_halves_are_halves(self, power_law_code, n_images):
        for units in (5, 200):
            found = spectrum(power_law_code(1.0, n_images, units))
            assert len(found.half_counts) == 20
            assert max(abs(count - n_images / 2) for count in found.half_counts) <= max(1, n_images / 20)

    def test_same_seed_same_interval(self, power_law_code):
        code = power_law_code(1.0, 300, 100)
        assert spectrum(code, seed=3).alpha_interval() == spectrum(code, seed=3).alpha_interval()
        assert spectrum(code, seed=3).alpha_interval() != spectrum(code, seed=4).alpha_interval()

    def test_shrinks_with_more_images(self, power_law_code):
        few, many = (spectrum(power_law_code(1.0, n, 100)).alpha_interval() for n in (1200, 19200))
        assert few.stderr / many.stderr == pytest.approx(4, rel=0.6)

    def test_wider_level_is_wider(self, power_law_code):
        code = spectrum(power_law_code(1.0, 300, 100))
        narrow, wide = code.alpha_interval(level=0.5), code.alpha_interval(level=0.99)
        assert wide.low < narrow.low < narrow.alpha < narrow.high < wide.high

    def test_images_are_resampled_not_positions(self, generator):
        # Positions of an image are equal here, so the 40 of them say no more than one: intervals must not shrink.
        image = torch.randn(300, 1, 60, generator=generator, dtype=torch.float64) * torch.arange(1, 61) ** -0.5
        from eigencode.spectra import SpectrumAccumulator

        intervals = []
        for positions in (1, 40):
            metric = SpectrumAccumulator(half_samples=20, positions=True)
            metric.update(image.expand(-1, positions, -1))
            intervals.append(metric.compute().alpha_interval((1, 10)))
        assert intervals[1].stderr == pytest.approx(intervals[0].stderr, rel=0.7)

    @pytest.mark.parametrize(
        ("options", "call", "text"),
        [
            (
                {"half_samples": 0},
                {},
                "activations: no half-samples were kept, so there is no interval. Measure with half_samples=20, at least 4 "
                "images, and memory for 4 covariance matrices.",
            ),
            ({}, {"level": 1.5}, "alpha_interval: `level` must lie between 0 and 1; got 1.5. Pass for example 0.95."),
            (
                {},
                {"ranks": (6, 45)},
                "alpha_interval: `ranks` 6-45 must end at 38 or below, the numerical rank of half of the images. "
                "Lower the last rank or pass more images.",
            ),
        ],
    )
    def test_errors(self, power_law_code, options, call, text):
        code = spectrum(power_law_code(1.0, 80, 200), **options)
        with pytest.raises(SpectrumError) as caught:
            code.alpha_interval(**{"ranks": (1, 10), **call})
        assert str(caught.value) == text


class TestStimulusCurve:
    def test_approaches_the_truth_and_settles(self, power_law_code):
        table = stimulus_curve(power_law_code(0.5, 1500, 150), counts=[100, 300, 1500], ranks=(6, 50), repeats=5)
        assert table["count"].tolist() == [100, 300, 1500]
        error = (table["alpha"] - 0.5).abs()
        assert error.is_monotonic_decreasing
        assert table["alpha_stderr"].iloc[:-1].is_monotonic_decreasing
        assert table["alpha_stderr"].isna().tolist() == [False, False, True]
        assert ((table["alpha_population"] - 0.5).abs() < error).all()

    def test_all_images_is_the_plain_fit(self, power_law_code):
        code = power_law_code(1.0, 200, 90)
        table = stimulus_curve(code, counts=[200], ranks="gerum")
        assert table["alpha"].iloc[0] == pytest.approx(spectrum(code).fit("gerum").alpha, rel=1e-9)
        corrected = spectrum(code).population_spectrum().exponent("gerum")
        assert table["alpha_population"].iloc[0] == pytest.approx(corrected, rel=1e-9)
        assert table.columns.tolist() == ["count", "alpha", "alpha_stderr", "alpha_population", "population_stderr"]
        plain = stimulus_curve(code, counts=[200], ranks="gerum", population=False)
        assert plain.equals(table[["count", "alpha", "alpha_stderr"]])

    @pytest.mark.slow
    def test_the_standard_error_is_that_of_fresh_images(self):
        generator = torch.Generator().manual_seed(0)
        scales = torch.arange(1, 61, dtype=torch.float64) ** -0.5

        def code(count):
            return torch.randn(count, 60, generator=generator, dtype=torch.float64) * scales

        fresh = np.std([spectrum(code(400)).fit((1, 20)).alpha for _ in range(200)], ddof=1)
        curves = [stimulus_curve(code(600), counts=[400], ranks=(1, 20), repeats=20) for _ in range(20)]
        found = np.sqrt(np.mean([curve["alpha_stderr"].iloc[0] ** 2 for curve in curves]))
        assert found == pytest.approx(fresh, rel=0.15)  # their plain spread is 0.58 of it

    def test_one_subset_has_no_spread(self, power_law_code):
        with pytest.raises(SpectrumError, match="`repeats` must be at least 2, for a standard error; got 1"):
            stimulus_curve(power_law_code(1.0, 200, 90), counts=[100], ranks="gerum", repeats=1)

    def test_counts_outside(self, power_law_code):
        with pytest.raises(SpectrumError) as caught:
            stimulus_curve(power_law_code(1.0, 90, 60), counts=[20, 90], ranks="gerum")
        assert str(caught.value) == (
            "stimulus_curve: `counts` must be whole numbers between 52 (for ranks 6-50) and 90, the images given; got [20, 90]. Change the "
            "counts or the window."
        )


def test_expected_exponent_is_what_samples_show(power_law_code):
    shown = [spectrum(power_law_code(0.5, 300, 100), half_samples=0).fit("gerum").alpha for _ in range(10)]
    found = expected_exponent(0.5, n_samples=300, n_features=100, ranks="gerum", draws=10)
    assert found.alpha == pytest.approx(np.mean(shown), abs=4 * found.stderr)
    assert found.spread == pytest.approx(np.std(shown, ddof=1), rel=0.8)
    assert found.stderr == pytest.approx(found.spread / 10**0.5)
    with pytest.raises(SpectrumError, match="`draws` must be at least 2, for a standard error; got 1"):
        expected_exponent(0.5, n_samples=300, n_features=100, ranks="gerum", draws=1)
    with pytest.raises(SpectrumError, match="with `alpha` = 14.0, the eigenvalue at rank 50 is lost in rounding"):
        expected_exponent(14.0, n_samples=300, n_features=100, ranks="gerum")
    with pytest.raises(SpectrumError, match=r"must lie within 1\.\.40 for 41 samples of 100 units"):
        expected_exponent(0.5, n_samples=41, n_features=100, ranks="gerum")


def test_degrees_of_freedom_are_those_of_the_variance_between_halves(generator):
    """A mean of 20 groups, from 20 random halves of them: how much their variance varies."""
    groups = torch.randn(4000, 20, generator=generator, dtype=torch.float64)
    signs = torch.rand(4000, 20, 20, generator=generator).argsort(-1) < 10
    halves = (groups[:, None] * signs).sum(-1) / 10
    variances = halves.var(1)
    assert 2 * float(variances.mean().square() / variances.var()) == pytest.approx(degrees_of_freedom(20, 20), rel=0.1)
    assert degrees_of_freedom(20, 20) == pytest.approx(9.03, abs=0.1)
    assert degrees_of_freedom(20, 10**6) == pytest.approx(19, rel=1e-4)


@pytest.mark.parametrize(("shape", "groups"), [((90, 300), 90), ((300, 60), 20), ((12, 40), 12)])
def test_spectra_say_of_what_halves_were_drawn(generator, shape, groups):
    activations = torch.randn(*shape, generator=generator)
    assert Eigenspectrum.from_activations(activations).half_groups == groups
    together = Eigenspectrum.from_activations(activations, groups=torch.arange(len(activations)) // 3)
    assert together.half_groups == min(groups, shape[0] // 3)


def test_halves_share_large_gains(generator):
    """Exponents of halves of images that differ in size do not vary with what large ones a half happens to have."""
    law = torch.arange(1, 401, dtype=torch.float64) ** -0.5
    found = []
    for seed in range(12):
        gains = torch.exp(torch.randn(150, 1, generator=generator, dtype=torch.float64))
        activations = torch.randn(150, 400, generator=generator, dtype=torch.float64) * law.sqrt() * gains.sqrt()
        spectrum = Eigenspectrum.from_activations(activations, seed=seed)
        fitted, window = spectrum.population_spectrum().fitted, Window.of((4, 30))
        moves, _ = fitted.moves_of(spectrum.half_samples.numpy(), degrees=74.0, within=74)
        found.append(float((fitted.moved_by(moves) @ fitted.slope(window)).std(ddof=1)))
    assert np.median(found) < 0.08  # 0.5 where halves have any images
    order = torch.randperm(31, generator=generator).numpy()
    for half in draw_halves(31, draws=5, seed=0, order=order):
        assert all(sum(member in half for member in pair) == 1 for pair in order[:30].reshape(-1, 2))


def test_fewer_groups_leave_wider_intervals(generator):
    spectrum = Eigenspectrum.from_activations(torch.randn(200, 400, generator=generator) / torch.arange(1, 401) ** 0.5)
    few = replace(spectrum, half_groups=20)
    for one, two in zip((spectrum, few), (few, spectrum), strict=True):
        assert one.alpha_interval((2, 20)).stderr == two.alpha_interval((2, 20)).stderr
    assert few.alpha_interval((2, 20)).high > spectrum.alpha_interval((2, 20)).high
    assert few.power_law_test((2, 20)).p >= spectrum.power_law_test((2, 20)).p
