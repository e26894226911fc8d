"""Is it a power law? Size, power, breaks, and when no answer is given."""

import math

import numpy as np
import pytest

import eigencode as ec
from eigencode.errors import SpectrumError
from eigencode.reports.tables import cells
from eigencode.spectra import Eigenspectrum, power_law_test

RANKS = (6, 50)


def code_of(alpha, n_samples, n_features, seed, *, bend=0.0, at=20, heavy=False):
    generator = np.random.default_rng(seed)
    ranks = np.arange(1, n_features + 1.0) / at
    values = ranks ** np.where(ranks < 1, -alpha, -alpha - bend)
    rows = generator.standard_t(5, (n_samples, n_features)) if heavy else generator.standard_normal((n_samples, n_features))
    return rows * np.sqrt(values)


def answer_of(rows, ranks=RANKS, **options):
    return Eigenspectrum.from_activations(rows).power_law_test(ranks, **options)


@pytest.mark.parametrize(("shape", "ranks"), [((300, 600), RANKS), ((600, 300), (10, 150))])
@pytest.mark.parametrize(
    ("alpha", "heavy"),
    [
        (0.5, False),
        (1.0, True),
        (2.0, False),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0.5, True), (1.0, False), (2.0, True))),
    ],
)
def test_a_straight_line_is_rarely_rejected(shape, ranks, alpha, heavy):
    found = [answer_of(code_of(alpha, *shape, seed, heavy=heavy), ranks) for seed in range(5)]
    assert sum(each.p < 0.05 for each in found) <= 1
    errors = [(each.bend.high - each.bend.low) / 4.19 for each in found]
    assert abs(np.mean([each.bend.value for each in found])) < 3 * np.mean(errors) / 5**0.5
    for each in found:
        assert each.bend.value == pytest.approx(each.second.value - each.first.value)
        assert (each.answer == "bends") == (each.p < 0.05)
    for half in ("first", "second"):
        intervals = [getattr(each, half) for each in found]
        assert sum(each.low < alpha < each.high for each in intervals) >= 4


@pytest.mark.parametrize(
    ("at", "ranks", "shape"), [(12, RANKS, (1000, 300)), (30, RANKS, (300, 600)), (60, (10, 250), (800, 300))]
)
def test_a_break_is_found_where_it_is(at, ranks, shape):
    found = [answer_of(code_of(1.0, *shape, seed, bend=0.8, at=at), ranks) for seed in range(5)]
    assert all(each.answer == "bends" for each in found)
    assert sum(each.rank.low <= at <= each.rank.high for each in found) >= 4
    assert np.median([each.rank.value for each in found]) == pytest.approx(at, rel=0.25)
    assert np.median([each.before for each in found]) == pytest.approx(1.0, abs=0.2)
    assert np.median([each.after for each in found]) == pytest.approx(1.8, abs=0.2)


def test_a_flatter_end_is_a_bend_too():
    found = answer_of(code_of(1.5, 1000, 300, 0, bend=-1.0))
    assert found.answer == "bends"
    assert found.bend.high < 0
    assert found.after < found.before


def test_few_images_cannot_tell():
    few, many = (answer_of(code_of(1.0, count, 400, 1), (6, 25)) for count in (60, 3000))
    assert few.answer == "cannot tell"
    assert few.bend.high - few.bend.low > 1
    assert many.answer == "no bend"
    assert answer_of(code_of(1.0, 3000, 400, 1), (6, 25), relevant=1e-3).answer == "cannot tell"


def test_what_belongs_together_gives_no_answer():
    copies = np.repeat(code_of(1.0, 150, 300, 0, bend=1.0), 2, axis=0)
    found = answer_of(copies)
    assert found.answer == "cannot tell"
    assert math.isnan(found.p)
    assert (found.bend.low, found.bend.high) == (-math.inf, math.inf)
    assert (found.rank.low, found.rank.high) == RANKS
    assert "nearly the same as another" in found.note
    told = Eigenspectrum.from_activations(copies, groups=np.repeat(np.arange(150), 2)).power_law_test((4, 40))
    assert told.note == ""


@pytest.mark.parametrize("spikes", [0, 5])
@pytest.mark.parametrize("shape", [(300, 600), (600, 200)])
def test_flat_spectra_do_not_bend(spikes, shape):
    variances = np.ones(shape[1])
    variances[:spikes] = 30
    found = []
    for seed in range(4):
        rows = np.random.default_rng(seed).standard_normal(shape) * np.sqrt(variances)
        found.append(answer_of(rows, (8, 50)))
    assert sum(each.answer == "bends" for each in found) <= 1
    assert all(each.note or each.bend.low < each.bend.value < each.bend.high for each in found)


def test_a_break_near_an_end_may_be_the_end():
    found = [answer_of(code_of(1.0, 600, 300, seed, bend=1.0, at=44)) for seed in range(3)]
    assert sum(each.rank.low <= 44 <= each.rank.high for each in found) >= 2


def test_equal_halves_give_no_answer():
    spectrum = Eigenspectrum.from_activations(code_of(1.0, 300, 200, 0))
    same = spectrum.half_samples[:1].repeat(6, 1)
    found = power_law_test(spectrum.population_spectrum(), same, ranks=RANKS, half_counts=(150,) * 6)
    assert found.answer == "cannot tell"


def test_short_windows_give_no_answer():
    found = answer_of(code_of(1.0, 400, 100, 0), (20, 24))
    assert found.answer == "cannot tell"
    assert "`ranks` 20-24 are too few to tell a bend from a straight line. Take a longer window." in found.note


def test_the_first_rank_and_all_units():
    whole = answer_of(code_of(1.0, 2000, 40, 0), (1, 40))
    assert whole.answer == "no bend"
    assert whole.first.value == pytest.approx(1, abs=0.2)


def test_rotations_and_units_change_nothing():
    rows = code_of(1.0, 400, 120, 0, bend=0.5)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((120, 120)))[0]
    plain, turned = answer_of(rows, (4, 60)), answer_of(1e3 * rows @ rotation, (4, 60))
    assert turned.bend.value == pytest.approx(plain.bend.value, abs=1e-4)
    assert turned.rank.value == pytest.approx(plain.rank.value, rel=1e-3)


def test_what_is_refused():
    spectrum = Eigenspectrum.from_activations(code_of(1.0, 200, 100, 0))
    with pytest.raises(SpectrumError, match="`relevant` must be above 0; got 0.0"):
        spectrum.power_law_test(RANKS, relevant=0.0)
    with pytest.raises(SpectrumError, match=r"power_law_test: `level` must lie between 0 and 1; got 2.0"):
        spectrum.power_law_test(RANKS, level=2.0)
    with pytest.raises(SpectrumError, match=r"power_law_test: `ranks` 6-99 must end at 98 or below"):
        spectrum.power_law_test((6, 99))
    with pytest.raises(SpectrumError, match="no half-samples were kept"):
        Eigenspectrum.from_activations(code_of(1.0, 200, 100, 0), half_samples=0).power_law_test(RANKS)
    with pytest.raises(SpectrumError, match="at least 2 half-samples are needed"):
        power_law_test(spectrum.population_spectrum(), spectrum.half_samples[:1], ranks=RANKS, half_counts=(100,))


def test_summaries_and_tables_show_it():
    import torch

    rows = torch.from_numpy(code_of(1.0, 800, 60, 0, bend=1.5, at=10)).float()
    layer = torch.nn.Linear(60, 60, bias=False)
    torch.nn.init.eye_(layer.weight)
    row = ec.measure(torch.nn.Sequential(layer), rows, layers="0").summary((2, 40)).iloc[0]
    assert row["power_law"] == "bends"
    assert row["break_low"] <= 10 <= row["break_high"]
    assert cells(row)["bend"].startswith(f"{row['alpha_before']:.2f} to {row['alpha_after']:.2f} at ")
    assert row["alpha_second"] > row["alpha_first"]
    assert row["bend_p"] < 1e-3
