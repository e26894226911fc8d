"""Intervals of networks, and what they say of limits."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eigencode.studies.results.claim import finding
from eigencode.studies.results.statistics import (
    Paired,
    correlation,
    interval,
    jackknife,
    kleene_and,
    kleene_not,
    kleene_or,
    level,
    rank_correlation,
)
from eigencode.studies.results.table import NotTestedError

NO, OPEN = "does not hold", "undecided"


def test_interval_is_students():
    found = interval([1.0, 2.0, 3.0, np.nan])
    assert (found.mean, found.count) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, rel=1e-6)
    limits = (found.above(), found.below(), found.above(-3), found.below(-3), found.within(5), found.between(-1, 1))
    assert [each.decided() for each in limits] == [None, None, True, False, True, None]
    assert found.above(2 + 4.31 / 3**0.5).decided() is False
    assert np.isnan(interval([1.0]).low)
    assert rank_correlation(pd.DataFrame([[1, 2, 3], [2, 4, 9]])).mean == 1


def test_several_limits_are_told_at_one_level():
    """Of twenty means that all lie on their limits, one lies beyond it in one sample of twenty, not in eight of twenty."""
    draw = np.random.default_rng(0)
    against = 0
    for _ in range(200):
        limits = [interval(draw.standard_normal(8)).above() for _ in range(20)]
        against += finding("", "", *limits).verdict == NO
    assert against / 200 < 0.05
    assert finding("", "above 0", *limits).test == "above 0; 20 intervals, level 5 % for all together"
    wide, alone = interval([1.0, 2.0, 3.0]).widened(20), interval([1.0, 2.0, 3.0]).widened(1)
    assert (alone.low, alone.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)
    assert wide.high - 2 == pytest.approx(stats.t.ppf(1 - 0.025 / 20, 2) / 3**0.5)


def test_a_pilot_says_how_many_networks_decide():
    """With as many as it says, of the same spread, the interval leaves the limit outside; with one less it does not."""
    pilot = np.array([0.2, -0.1, 0.5, 0.1])
    found = finding("", "", interval(pilot).above())
    assert found.verdict == OPEN
    for count, decided in ((found.networks, True), (found.networks - 1, None)):
        many = np.random.default_rng(0).standard_normal(count)
        many = pilot.mean() + (many - many.mean()) * pilot.std(ddof=1) / many.std(ddof=1)
        assert interval(many).above().decided() is decided
    assert finding("", "", interval(pilot).above(), interval(pilot).above(0.1)).networks > found.networks
    assert finding("", "", interval(pilot).above(pilot.mean())).networks is None  # it lies on the limit
    assert finding("", "", interval([0.3] * 3).above()).networks is None  # a spread that is not known
    assert finding("", "", interval(pilot).above(-5)).networks is None  # nothing is open


def test_a_level_contains_the_choice_of_test_images():
    """Networks whose accuracy on all images there are is 0.9, on 400 of them that all networks are shown."""
    draw, inside, alone = np.random.default_rng(1), 0, 0
    for _ in range(400):
        hard = draw.beta(9, 1, 400)  # how often a network is right about an image
        accuracies = (draw.random((5, 400)) < hard).mean(axis=1)
        found, narrow = level(accuracies, 400), interval(accuracies)
        inside += found.low < 0.9 < found.high
        alone += narrow.low < 0.9 < narrow.high
    assert inside / 400 > 0.93
    assert alone < inside


def test_two_settings_differ_as_in_a_paired_t_test():
    values = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, 1.0, 3.5]})
    found, paired = Paired(values).difference("a", "b"), interval(values["a"] - values["b"])
    assert (found.mean, found.low, found.high) == pytest.approx((paired.mean, paired.low, paired.high))


def test_several_settings_are_averaged_within_each_seed():
    values = pd.DataFrame([[1.0, 2.0, 4.0], [2.0, 3.5, 4.5]], columns=["a", "b", "c"])
    found = Paired(values).difference("c", ["a", "b"])
    assert (found.mean, found.count) == (pytest.approx(2.125), 2)
    assert found.high - found.mean == pytest.approx(12.706205 * np.std([2.5, 1.75], ddof=1) / 2**0.5, rel=1e-6)
    assert (Paired(values).best("ab"), Paired(values).lead(["c"]).mean) == ("b", pytest.approx(1.5))


def test_equal_values_of_few_networks_decide_nothing():
    assert interval([0.3] * 5).above().decided() is None
    assert interval([0.3] * 5).below(1).decided() is None
    assert interval([0.3] * 6).above().decided() is True
    assert interval([0.0] * 6).above().decided() is False
    assert interval([0.3, 0.3, 0.3001]).above().decided() is True


def test_few_rank_correlations_say_nothing_of_their_spread():
    rows = pd.DataFrame([[1, 2, 4, 3], [1, 2, 4, 3], [1, 2, 4, 3]])
    assert rank_correlation(rows).above().decided() is None  # which agree by chance
    assert rank_correlation(pd.DataFrame([[1, 2, 3, 4]] * 2)).above().decided() is None
    perfect = rank_correlation(pd.DataFrame([[1, 2, 3, 4]] * 3))
    almost = rank_correlation(pd.DataFrame([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 3]]))
    assert (perfect.mean, perfect.low, perfect.high) == (1, pytest.approx(almost.low), 1)
    assert perfect.above().decided() is True
    assert perfect.above(0.8).decided() is None


def test_leaving_out_each_network_gives_the_interval_of_a_mean():
    values = dict(enumerate([1.0, 2.0, 4.0, 3.0]))
    found = jackknife(lambda some: float(np.mean([values[each] for each in some])), list(values))
    mean = interval(list(values.values()))
    assert (found.mean, found.low, found.high) == pytest.approx((mean.mean, mean.low, mean.high))
    with pytest.raises(NotTestedError, match="three networks"):
        jackknife(lambda some: 1.0, [0, 1])


def test_a_correlation_has_fishers_interval():
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(200):  # of pairs whose rank correlation is 6 / pi * arcsin(0.6 / 2)
        first = draw.standard_normal(30)
        second = 0.6 * first + 0.8 * draw.standard_normal(30)
        found = correlation(pd.Series(first), pd.Series(second))
        inside += found.low < 6 / np.pi * np.arcsin(0.3) < found.high
    assert 180 <= inside <= 198
    with pytest.raises(NotTestedError, match="five settings"):
        correlation(pd.Series([1.0, 2.0, 3.0, 4.0]), pd.Series([1.0, 2.0, 3.0, 4.0]))


def test_decisions_of_three_values():
    assert (kleene_and(True, None), kleene_and(None, False), kleene_and(True, True), kleene_and()) == (None, False, True, True)
    assert (kleene_not(None), kleene_not(True), kleene_not(False)) == (None, False, True)
    assert (kleene_or(False, None), kleene_or(True, None), kleene_or(False), kleene_or()) == (None, True, False, False)
