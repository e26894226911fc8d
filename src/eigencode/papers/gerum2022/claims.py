"""The findings of Gerum et al. 2022, as checks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from eigencode.papers.gerum2022.networks import (
    BASELINE,
    STRONG,
    TESTS,
    WEAK,
    Best,
    attack_column,
    deviations_of,
    differences_of,
    in_words,
    means_of,
    networks,
    paired,
    targets_of,
    told_of,
)
from eigencode.studies.results.claim import Claim, Finding, finding
from eigencode.studies.results.statistics import Decision, Interval, interval, kleene_and, rank_correlation, spread
from eigencode.studies.results.table import NotTestedError, StudyResults, single

_CLOSE = 0.1
"""Distance from its target within which an exponent has reached it."""

_AS_ROBUST = 0.02
"""Difference of accuracies under attack up to which two networks are equally robust."""

_NEAR = 0.2
"""Distance up to which two exponents are called equal."""

_HIGH = 3.0
"""Targets from here on are called high."""

_STEEP = 1.5
"""Targets above this one are those at which weak regularisation is said to help accuracy."""

_BEST, _ABOUT_TWO, _ABOUT_THREE = (2.5, 3.5), (1.5, 2.5), (2.5, 3.5)
"""What counts as near the best target, and as an exponent of about 2 and 3."""

_MONOTONE = 0.8
"""Rank correlation from which a quantity is said to grow with another."""

_ALL_FAIL = 0.02
"""Accuracy under attack below which networks are no longer compared."""

_ENTIRE_RANGE = 0.1
"""Largest strength at which the order of the networks is compared: beyond it none classifies."""


def _g1(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    targets_of(table, *_BEST, around=True)
    weak, strong = means_of(table, WEAK, "accuracy"), means_of(table, STRONG, "accuracy")
    base = table[table["beta"] == 0]["accuracy"].mean()
    layout = paired(table, "accuracy")
    steep = [target for target in targets_of(table, _STEEP) if target > _STEEP]
    gains = differences_of(layout, WEAK, steep)
    losses = differences_of(layout, STRONG, targets_of(table, 0))
    low, high = _BEST
    every = {target: (WEAK, target) for target in targets_of(table, 0)}
    near = [setting for target, setting in every.items() if low <= target <= high]
    ahead = layout.difference(layout.best(near), layout.best(set(every.values()) - set(near)))
    inside = bool(table["accuracy"].between(0.93, 0.95).all())
    found = (
        f"baseline {base:.4f}; weak, by target {in_words(weak, 4)}; strong {in_words(strong, 4)}; all between "
        f"{table['accuracy'].min():.3f} and {table['accuracy'].max():.3f}; weak minus baseline {told_of(gains, 4)}; best weak of "
        f"targets {low:g} to {high:g} minus best of the other targets {ahead.text(4)}; strong minus baseline at most "
        f"{max(losses.values(), key=lambda each: each.high).text(4)}"
    )
    test = (
        f"all in 0.93-0.95; weak above the baseline at every target above {_STEEP:g}, best between {low:g} and {high:g}; strong "
        f"always below it; {TESTS}"
    )
    decisions = [*(gain.above() for gain in gains.values()), ahead.above(), *(loss.below() for loss in losses.values())]
    return finding(found, test, inside, *decisions)


def _g2(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    parts: list[str] = []
    decisions: list[Decision] = []
    high = targets_of(table, _HIGH)
    for kind in ("fgsm", "pgd"):
        column = attack_column(table, kind, "gerum_shallow_mlp")
        base = table[table["beta"] == 0][column].mean()
        for beta in (WEAK, STRONG):
            growth = _growth(table, beta, column)
            decisions.append(growth.above(_MONOTONE))
            parts.append(
                f"{column}, β = {beta:g}: {in_words(means_of(table, beta, column))}, correlation with α {growth.text(2)}"
            )
        layout = paired(table, column)
        above = {
            "strong minus weak": differences_of(layout, STRONG, high, WEAK),
            "weak minus baseline": differences_of(layout, WEAK, high),
        }
        for name, differences in above.items():
            decisions += [each.above() for each in differences.values()]
            parts.append(f"{name} {told_of(differences)}")
        parts.append(f"baseline {base:.3f}; {spread(deviations_of(table, column))}")
    test = (
        f"rank correlation with α over each seed's targets above {_MONOTONE:g}; strong above weak above baseline for targets of "
        f"{_HIGH:g} and more; {TESTS}"
    )
    return finding("; ".join(parts), test, *decisions)


def _growth(table: pd.DataFrame, beta: float, column: str) -> Interval:
    """Rank correlation of a quantity with the exponent over each seed's targets: mean and interval over seeds.

    Raises:
        NotTestedError: fewer than three targets, or an exponent is missing.
    """
    own = table[table["beta"] == beta]
    order = own.groupby("target")["alpha"].mean()
    if len(order) < 3 or own["alpha"].isna().any():
        raise NotTestedError("three targets at least, with an exponent for each network")
    values = own.pivot_table(index="seed", columns="target", values=column)[list(order.sort_values().index)].dropna()
    return rank_correlation(values)


def _g3(evidence: StudyResults) -> Finding:
    where = {"model": "gerum_shallow_mlp", "data": "mnist", "form": "exponent"}
    rows = evidence.select("alpha", perturbation="training", epoch=None, **where)
    keys = ["seed", "target", "beta"]
    rows = single(rows[rows["beta"] > 0], *keys, "epoch")
    close = rows[(rows["value"] - rows["target"]).abs() < _CLOSE]
    never = rows.groupby(keys)["epoch"].max() + 1
    first = close.groupby(keys)["epoch"].min().reindex(never.index).fillna(never).unstack("beta")
    if not {WEAK, STRONG} <= set(first):
        raise NotTestedError("weakly and strongly regularised networks")
    first = first.dropna()
    last = int(rows["epoch"].max())
    means = first.groupby("target").mean()
    earlier = interval((first[WEAK] - first[STRONG]).groupby("seed").mean())

    def shown(epochs: pd.Series) -> str:
        return ", ".join(f"{'never' if epoch > last else f'{epoch:.0f}'} ({target:g})" for target, epoch in epochs.items())

    found = (
        f"first epoch within {_CLOSE:g} of the target, mean over networks: weak {shown(means[WEAK])}; strong "
        f"{shown(means[STRONG])}; weak minus strong, mean over targets {earlier.text(1)}"
    )
    test = f"strong earlier than weak, mean over targets (paired over seeds; never counts as epoch {last + 1})"
    return finding(found, test, earlier.above())


def _g4(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    parts: list[str] = []
    decisions: list[Decision] = []
    high = targets_of(table, _HIGH)
    for column in table.columns:
        kind, _, strength = str(column).partition(" ")
        if kind not in ("fgsm", "pgd") or float(strength) > _ENTIRE_RANGE or table[column].max() < _ALL_FAIL:
            continue
        layout = paired(table, column)
        weak, strong = ([(beta, target) for target in high] for beta in (WEAK, STRONG))
        steps = layout.difference(strong, weak), layout.difference(weak, BASELINE)
        decisions += [step.above() for step in steps]
        parts.append(f"{column}: strong minus weak {steps[0].text()}, weak minus baseline {steps[1].text()}")
    if not parts:
        raise NotTestedError("attacked networks")
    test = (
        f"baseline below weak below strong, mean over targets of {_HIGH:g} and more, at every strength up to {_ENTIRE_RANGE:g} "
        f"at which not all fail; {TESTS}"
    )
    return finding("; ".join(parts), test, *decisions)


_CHOSEN = "the best of settings are chosen by their means"


def _g5(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_deep_mlp")
    low, high = _ABOUT_TWO
    targets_of(table, low, high, around=True)
    best = Best.of(table, "accuracy", lambda beta, _: beta == WEAK)
    base = interval(table[table["beta"] == 0]["accuracy"])
    robust = {
        column: Best.of(table, column, lambda _, alpha: low <= alpha <= high)
        for column in (attack_column(table, kind, "gerum_deep_mlp") for kind in ("fgsm", "pgd"))
    }
    detail = "; ".join(f"best {column} {each.text()}, of each seed at α {each.place.text(2)}" for column, each in robust.items())
    found = (
        f"best accuracy {best.text(4)} (baseline {base.text(4)}), best weak minus best of the rest {best.ahead.text(4)}; {detail}"
    )
    test = (
        f"the best weak networks more accurate than the best of the rest; each seed's most robust at α of {low:g} to {high:g}; "
        f"{TESTS}; {_CHOSEN}"
    )
    places = [kleene_and(each.place.above(low), each.place.below(high)) for each in robust.values()]
    return finding(found, test, best.ahead.above(), *places)


def _g6(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_cnn")
    column = attack_column(table, "pgd", "mnist")
    falls = {beta: _growth(table, beta, "accuracy") for beta in (WEAK, STRONG)}
    layout = paired(table, column)
    gain = layout.difference([(STRONG, target) for target in targets_of(table, 0)], BASELINE)
    found = (
        "; ".join(
            f"accuracy, β = {beta:g}: {in_words(means_of(table, beta, 'accuracy'), 4)}, correlation with α {fall.text(2)}"
            for beta, fall in falls.items()
        )
        + f"; {spread(deviations_of(table, 'accuracy'), 4)}; strong, mean over targets, minus baseline, {column}: {gain.text()}"
    )
    test = (
        "rank correlation of accuracy with α over each seed's targets below 0 for both β; strong, mean over targets, above the "
        f"baseline under PGD; {TESTS}"
    )
    return finding(found, test, *(fall.below() for fall in falls.values()), gain.above())


def _g7(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_cnn", "cifar10")
    low, high = _ABOUT_THREE
    targets_of(table, low, high, around=True)
    targets_of(table, 0, 0.9)
    best = Best.of(table, "accuracy", lambda beta, alpha: beta == WEAK and alpha < 1)
    robust = {
        column: Best.of(table, column, lambda beta, _: beta == STRONG)
        for column in (attack_column(table, kind, "cifar10") for kind in ("fgsm", "pgd"))
    }
    detail = "; ".join(
        f"best {column} {each.text()}, best strong minus best of the rest {each.ahead.text()}, of each seed at α "
        f"{each.place.text(2)}"
        for column, each in robust.items()
    )
    found = f"best accuracy {best.text(4)}, best weak with α below 1 minus best of the rest {best.ahead.text(4)}; {detail}"
    test = (
        "the best weak networks with α below 1 more accurate than the best of the rest; the best strong ones more robust than "
        f"the best of the rest, and each seed's most robust at α of {low:g} to {high:g}; {TESTS}; {_CHOSEN}"
    )
    places = [kleene_and(each.ahead.above(), each.place.above(low), each.place.below(high)) for each in robust.values()]
    return finding(found, test, best.ahead.above(), *places)


def _g8(evidence: StudyResults) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    alpha = table[table["beta"] == 0]["alpha"].mean()
    own = means_of(table, WEAK, "alpha")
    nearest: Any = (own - alpha).abs().idxmin()
    if abs(own[nearest] - alpha) > _NEAR:
        raise NotTestedError(f"a weakly regularised network with α within {_NEAR:g} of the baseline's {alpha:.2f}")
    differences = {
        column: paired(table, column).difference((WEAK, nearest), BASELINE)
        for column in (attack_column(table, kind, "gerum_shallow_mlp") for kind in ("fgsm", "pgd"))
    }
    found = f"baseline α {alpha:.2f}; weak at α {own[nearest]:.2f} minus baseline: " + ", ".join(
        f"{column} {difference.text()}" for column, difference in differences.items()
    )
    test = f"differences of accuracy under attack below {_AS_ROBUST:g}, with their intervals"
    return finding(found, test, *(difference.within(_AS_ROBUST) for difference in differences.values()))


CLAIMS = (
    Claim(
        "G1",
        "fig2",
        "Accuracy lies in 0.93-0.95; weak regularisation beats the baseline above 1.5, best near 3; strong never.",
        _g1,
        window="none",
    ),
    Claim("G2", "fig2", "Robustness to FGSM and PGD at 0.05 grows with α; strong above weak above baseline at high α.", _g2),
    Claim("G3", "fig2d", "Strong regularisation reaches its target earlier in training than weak.", _g3, window="own"),
    Claim("G4", "fig2d", "The ordering of robustness holds over the range of ε.", _g4, window="none"),
    Claim(
        "G5",
        "fig3a",
        "Deep MLP: weak regularisation gives the best accuracy; robustness is best at α of about 2.",
        _g5,
        window="own",
    ),
    Claim("G6", "fig3d", "CNN on MNIST: lower α, better accuracy; strong regularisation helps against PGD.", _g6),
    Claim(
        "G7",
        "fig3g",
        "CNN on CIFAR-10: accuracy best for weak and α below 1; robustness at 0.01 best for strong and α near 3.",
        _g7,
        window="own",
    ),
    Claim("G8", "fig2", "A weakly regularised network whose target is the baseline's α is as robust as the baseline.", _g8),
)
