"""The findings of Gerum et al. 2022, as checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eigencode.papers.gerum2022.study import EPSILONS
from eigencode.studies.results.claim import Claim, Finding, Published, finding
from eigencode.studies.results.statistics import Decision, Interval, Paired, all_of, interval, rank_correlation, spread
from eigencode.studies.results.table import Evidence, NotTestedError, single

WEAK, STRONG = 0.1, 1.0

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


def networks(evidence: Evidence, model: str, data: str = "mnist", *, form: str = "exponent") -> pd.DataFrame:
    """One row for each network: seed, beta, target, alpha (last epoch's batches), accuracy, and fgsm and pgd at each strength.

    Raises:
        NotTestedError: no baseline, or no regularised network.
    """
    where = {"model": model, "data": data, "form": form}
    if evidence.select("accuracy", **where).empty:
        raise NotTestedError(f"networks {model} on {data}")
    clean = (("alpha", evidence.coded_on), ("accuracy", "held_out"))
    parts = [evidence.select(name, perturbation=condition, **where).assign(column=name) for name, condition in clean]
    attacked = evidence.select("accuracy", perturbation=["fgsm", "pgd"], **where)
    parts.append(attacked.assign(column=[f"{row.perturbation} {row.strength:g}" for row in attacked.itertuples()]))
    rows = single(pd.concat(parts), "seed", "beta", "target", "column")
    table = rows.pivot_table(index=["seed", "beta", "target"], columns="column", values="value").reset_index()
    if lacking := [name for name, _ in clean if name not in table]:
        raise NotTestedError(f"networks {model} on {data} with their {' and '.join(lacking)}")
    seeds = table.groupby(["beta", "target"])["seed"].nunique()
    targets = {beta: set(table[table["beta"] == beta]["target"]) for beta in (WEAK, STRONG)}
    if 0 not in set(table["beta"]) or not targets[WEAK] or targets[WEAK] != targets[STRONG] or seeds.min() < 2:
        raise NotTestedError(
            f"networks {model} on {data}: a baseline, weak and strong ones of the same targets, two seeds of each"
        )
    return table


def _targets(table: pd.DataFrame, low: float, high: float = math.inf, *, around: bool = False) -> list[float]:
    """Targets from low to high.

    Raises:
        NotTestedError: there are none, or, where a best one is to be found among them, none around them.
    """
    every = sorted(set(table[table["beta"] > 0]["target"]))
    found = [target for target in every if low <= target <= high]
    if not found:
        raise NotTestedError(f"networks with a target from {low:g}" + (f" to {high:g}" if high < math.inf else ""))
    if around and (every[0] >= low or every[-1] <= high):
        raise NotTestedError(f"networks with targets below {low:g} and above {high:g}")
    return found


def _means(table: pd.DataFrame, beta: float, quantity: str) -> pd.Series:
    return table[table["beta"] == beta].groupby("target")[quantity].mean()


def _deviations(table: pd.DataFrame, column: str) -> pd.Series:
    """Standard deviation over networks of each setting."""
    return table.groupby(["beta", "target"])[column].std()


def _shown(values: pd.Series, digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f} ({target:g})" for target, value in values.items())


def _attack(table: pd.DataFrame, kind: str, model: str) -> str:
    """Column of an attack at the strength that the figures use."""
    column = f"{kind} {EPSILONS[model]:g}"
    if column not in table:
        raise NotTestedError(f"networks attacked by {kind} at {EPSILONS[model]:g}")
    return column


def _paired(table: pd.DataFrame, column: str) -> Paired:
    """Values of every network, by seed and (beta, target); those of the baseline at (0, 0)."""
    return Paired.of(table.assign(target=table["target"].where(table["beta"] > 0, 0.0)), ["beta", "target"], column)


_BASELINE = (0.0, 0.0)


def _differences(layout: Paired, beta: float, targets: list[float], base: float | None = None) -> dict[float, Interval]:
    """Of each target: networks with one beta minus those with another, or minus the baseline."""
    return {target: layout.difference((beta, target), _BASELINE if base is None else (base, target)) for target in targets}


def _told(differences: dict[float, Interval], digits: int = 3) -> str:
    return ", ".join(f"{each.text(digits)} ({target:g})" for target, each in differences.items())


_TESTS = "differences are paired over seeds"


def _g1(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    _targets(table, *_BEST, around=True)
    weak, strong = _means(table, WEAK, "accuracy"), _means(table, STRONG, "accuracy")
    base = table[table["beta"] == 0]["accuracy"].mean()
    layout = _paired(table, "accuracy")
    steep = [target for target in _targets(table, _STEEP) if target > _STEEP]
    gains = _differences(layout, WEAK, steep)
    losses = _differences(layout, STRONG, _targets(table, 0))
    low, high = _BEST
    every = {target: (WEAK, target) for target in _targets(table, 0)}
    near = [setting for target, setting in every.items() if low <= target <= high]
    ahead = layout.difference(layout.best(near), layout.best(set(every.values()) - set(near)))
    inside = bool(table["accuracy"].between(0.93, 0.95).all())
    found = (
        f"baseline {base:.4f}; weak, by target {_shown(weak, 4)}; strong {_shown(strong, 4)}; all between "
        f"{table['accuracy'].min():.3f} and {table['accuracy'].max():.3f}; weak minus baseline {_told(gains, 4)}; best weak of "
        f"targets {low:g} to {high:g} minus best of the other targets {ahead.text(4)}; strong minus baseline at most "
        f"{max(losses.values(), key=lambda each: each.high).text(4)}"
    )
    test = (
        f"all in 0.93-0.95; weak above the baseline at every target above {_STEEP:g}, best between {low:g} and {high:g}; strong "
        f"always below it; {_TESTS}"
    )
    decisions = [*(gain.above() for gain in gains.values()), ahead.above(), *(loss.below() for loss in losses.values())]
    return finding(found, test, inside, *decisions)


def _g2(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    parts: list[str] = []
    decisions: list[Decision] = []
    high = _targets(table, _HIGH)
    for kind in ("fgsm", "pgd"):
        column = _attack(table, kind, "gerum_shallow_mlp")
        base = table[table["beta"] == 0][column].mean()
        for beta in (WEAK, STRONG):
            growth = _growth(table, beta, column)
            decisions.append(growth.above(_MONOTONE))
            parts.append(f"{column}, β = {beta:g}: {_shown(_means(table, beta, column))}, correlation with α {growth.text(2)}")
        layout = _paired(table, column)
        above = {
            "strong minus weak": _differences(layout, STRONG, high, WEAK),
            "weak minus baseline": _differences(layout, WEAK, high),
        }
        for name, differences in above.items():
            decisions += [each.above() for each in differences.values()]
            parts.append(f"{name} {_told(differences)}")
        parts.append(f"baseline {base:.3f}; {spread(_deviations(table, column))}")
    test = (
        f"rank correlation with α over each seed's targets above {_MONOTONE:g}; strong above weak above baseline for targets of "
        f"{_HIGH:g} and more; {_TESTS}"
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


def _g3(evidence: Evidence) -> Finding:
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


def _g4(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    parts: list[str] = []
    decisions: list[Decision] = []
    high = _targets(table, _HIGH)
    for column in table.columns:
        kind, _, strength = str(column).partition(" ")
        if kind not in ("fgsm", "pgd") or float(strength) > _ENTIRE_RANGE or table[column].max() < _ALL_FAIL:
            continue
        layout = _paired(table, column)
        weak, strong = ([(beta, target) for target in high] for beta in (WEAK, STRONG))
        steps = layout.difference(strong, weak), layout.difference(weak, _BASELINE)
        decisions += [step.above() for step in steps]
        parts.append(f"{column}: strong minus weak {steps[0].text()}, weak minus baseline {steps[1].text()}")
    if not parts:
        raise NotTestedError("attacked networks")
    test = (
        f"baseline below weak below strong, mean over targets of {_HIGH:g} and more, at every strength up to {_ENTIRE_RANGE:g} "
        f"at which not all fail; {_TESTS}"
    )
    return finding("; ".join(parts), test, *decisions)


@dataclass(frozen=True)
class _Best:
    """Where a quantity has its best.

    Attributes:
        beta: Of the setting whose mean is largest.
        alpha: Its mean exponent.
        mean: Its mean.
        ahead: How far the best of the settings that are named is ahead of the best of all others.
        place: Exponent at which each seed's networks are best: mean and interval.
    """

    beta: float
    alpha: float
    mean: Interval
    ahead: Interval
    place: Interval

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, named: Callable[[float, float], bool]) -> _Best:
        """Best of a quantity; settings are named by beta and mean exponent.

        Raises:
            NotTestedError: a setting has no exponent, or there is none of those named.
        """
        table = table.assign(target=table["target"].where(table["beta"] > 0, 0.0))
        alphas = table.groupby(["beta", "target"])["alpha"].mean()
        if alphas.isna().any():
            raise NotTestedError("an exponent of every kind of network")
        layout = Paired.of(table, ["beta", "target"], column)
        best = layout.best(layout.table)
        ahead = layout.lead(setting for setting, alpha in alphas.items() if named(setting[0], alpha))  # type: ignore[index]
        place = interval(_where_best(table, column))
        return cls(float(best[0]), float(alphas[best]), interval(layout.table[best]), ahead, place)

    def text(self, digits: int = 3) -> str:
        return f"{self.mean.text(digits)} at β = {self.beta:g}, α {self.alpha:.2f}"


def _where_best(table: pd.DataFrame, column: str) -> pd.Series:
    """Exponents at which seeds' networks are best, of the seeds that have every setting."""
    whole = table[table["seed"].isin(Paired.of(table, ["beta", "target"], column).table.index)]
    best: pd.Series = whole.loc[whole.groupby("seed")[column].idxmax(), "alpha"]
    return best


_CHOSEN = "the best of settings are chosen by their means"


def _g5(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_deep_mlp")
    low, high = _ABOUT_TWO
    _targets(table, low, high, around=True)
    best = _Best.of(table, "accuracy", lambda beta, _: beta == WEAK)
    base = interval(table[table["beta"] == 0]["accuracy"])
    robust = {
        column: _Best.of(table, column, lambda _, alpha: low <= alpha <= high)
        for column in (_attack(table, kind, "gerum_deep_mlp") for kind in ("fgsm", "pgd"))
    }
    told = "; ".join(f"best {column} {each.text()}, of each seed at α {each.place.text(2)}" for column, each in robust.items())
    found = (
        f"best accuracy {best.text(4)} (baseline {base.text(4)}), best weak minus best of the rest {best.ahead.text(4)}; {told}"
    )
    test = (
        f"the best weak networks more accurate than the best of the rest; each seed's most robust at α of {low:g} to {high:g}; "
        f"{_TESTS}; {_CHOSEN}"
    )
    places = [all_of(each.place.above(low), each.place.below(high)) for each in robust.values()]
    return finding(found, test, best.ahead.above(), *places)


def _g6(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_cnn")
    column = _attack(table, "pgd", "mnist")
    falls = {beta: _growth(table, beta, "accuracy") for beta in (WEAK, STRONG)}
    layout = _paired(table, column)
    gain = layout.difference([(STRONG, target) for target in _targets(table, 0)], _BASELINE)
    found = (
        "; ".join(
            f"accuracy, β = {beta:g}: {_shown(_means(table, beta, 'accuracy'), 4)}, correlation with α {fall.text(2)}"
            for beta, fall in falls.items()
        )
        + f"; {spread(_deviations(table, 'accuracy'), 4)}; strong, mean over targets, minus baseline, {column}: {gain.text()}"
    )
    test = (
        "rank correlation of accuracy with α over each seed's targets below 0 for both β; strong, mean over targets, above the "
        f"baseline under PGD; {_TESTS}"
    )
    return finding(found, test, *(fall.below() for fall in falls.values()), gain.above())


def _g7(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_cnn", "cifar10")
    low, high = _ABOUT_THREE
    _targets(table, low, high, around=True)
    _targets(table, 0, 0.9)
    best = _Best.of(table, "accuracy", lambda beta, alpha: beta == WEAK and alpha < 1)
    robust = {
        column: _Best.of(table, column, lambda beta, _: beta == STRONG)
        for column in (_attack(table, kind, "cifar10") for kind in ("fgsm", "pgd"))
    }
    told = "; ".join(
        f"best {column} {each.text()}, best strong minus best of the rest {each.ahead.text()}, of each seed at α "
        f"{each.place.text(2)}"
        for column, each in robust.items()
    )
    found = f"best accuracy {best.text(4)}, best weak with α below 1 minus best of the rest {best.ahead.text(4)}; {told}"
    test = (
        "the best weak networks with α below 1 more accurate than the best of the rest; the best strong ones more robust than "
        f"the best of the rest, and each seed's most robust at α of {low:g} to {high:g}; {_TESTS}; {_CHOSEN}"
    )
    places = [all_of(each.ahead.above(), each.place.above(low), each.place.below(high)) for each in robust.values()]
    return finding(found, test, best.ahead.above(), *places)


def _g8(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    alpha = table[table["beta"] == 0]["alpha"].mean()
    own = _means(table, WEAK, "alpha")
    nearest: Any = (own - alpha).abs().idxmin()
    if abs(own[nearest] - alpha) > _NEAR:
        raise NotTestedError(f"a weakly regularised network with α within {_NEAR:g} of the baseline's {alpha:.2f}")
    differences = {
        column: _paired(table, column).difference((WEAK, nearest), _BASELINE)
        for column in (_attack(table, kind, "gerum_shallow_mlp") for kind in ("fgsm", "pgd"))
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


def _baseline(model: str, data: str, kind: str | None = None) -> Callable[[Evidence], pd.Series]:
    """Accuracy of each baseline; of one attacked, as a share of its clean accuracy."""

    def measure(evidence: Evidence) -> pd.Series:
        where: dict[str, Any] = {"model": model, "data": data, "form": "exponent", "beta": 0.0}
        clean = evidence.select("accuracy", perturbation="held_out", **where).set_index("seed")["value"]
        if clean.empty:
            raise NotTestedError("baselines")
        if kind is None:
            return clean
        epsilon = EPSILONS.get(data if model == "gerum_cnn" else model)
        attacked = evidence.select("accuracy", perturbation=kind, strength=epsilon, **where).set_index("seed")["value"]
        return (attacked / clean).dropna()

    return measure


def _alpha_of_best(model: str, kind: str | None = None) -> Callable[[Evidence], pd.Series]:
    """Exponent at which a seed's networks are best: the most accurate weak one, or the most robust regularised one."""

    def measure(evidence: Evidence) -> pd.Series:
        table = networks(evidence, model)
        column = _attack(table, kind, model) if kind else "accuracy"
        return _where_best(table[table["beta"] > 0] if kind else table[table["beta"] == WEAK], column)

    return measure


_OF_FIGURE = {
    "fig2": ("shallow MLP", "gerum_shallow_mlp", "mnist"),
    "fig3a": ("deep MLP", "gerum_deep_mlp", "mnist"),
    "fig3d": ("CNN on MNIST", "gerum_cnn", "mnist"),
    "fig3g": ("CNN on CIFAR-10", "gerum_cnn", "cifar10"),
}

_STATED_BEST = {"gerum_shallow_mlp": (3.0, None), "gerum_deep_mlp": (2.4, 3.0)}
"""About 3; of the deep MLP "about 3" in the text, 2.4 in the caption of Fig. 3a."""

PUBLISHED = (
    Published("accuracy of the baseline, shallow MLP", "fig2", 0.93, 0.95, _baseline("gerum_shallow_mlp", "mnist")),
    *(
        Published(
            f"accuracy of the baseline under {kind.upper()} as a share of that without, {name}",
            figure,
            0.5,
            None,
            _baseline(model, data, kind),
        )
        for figure, (name, model, data) in _OF_FIGURE.items()
        for kind in ("fgsm", "pgd")
    ),
    *(
        Published(
            f"α of the best accuracy with weak regularisation, {name}", figure, *stated, _alpha_of_best(model), exponents=True
        )
        for figure, (name, model, _) in _OF_FIGURE.items()
        if (stated := _STATED_BEST.get(model))
    ),
    *(
        Published(
            f"α of the best accuracy under {kind.upper()}, deep MLP",
            "fig3a",
            2.1,
            None,
            _alpha_of_best("gerum_deep_mlp", kind),
            exponents=True,
        )
        for kind in ("fgsm", "pgd")
    ),
)
