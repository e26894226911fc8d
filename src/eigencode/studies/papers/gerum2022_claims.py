"""The findings of Gerum et al. 2022, as checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eigencode.studies.claims import Claim, Finding, Interval, Published, correlation, interval, spread, verdict
from eigencode.studies.evidence import Evidence, NotTestedError, single
from eigencode.studies.papers.gerum2022 import EPSILONS

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
    parts.append(attacked.assign(column=attacked["perturbation"] + " " + attacked["strength"].map("{:g}".format)))
    rows = single(pd.concat(parts), "seed", "beta", "target", "column")
    table = rows.pivot_table(index=["seed", "beta", "target"], columns="column", values="value").reset_index()
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


def _against_baseline(table: pd.DataFrame, beta: float, quantity: str, targets: Any = None) -> pd.DataFrame:
    """Differences from the baseline of the same seed: seeds x targets."""
    own = table[table["beta"] == beta]
    if targets is not None:
        own = own[own["target"].isin(targets)]
    values = own.pivot_table(index="seed", columns="target", values=quantity)
    base = table[table["beta"] == 0].set_index("seed")[quantity]
    return values.sub(base, axis=0).dropna(how="all")


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


def _g1(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    _targets(table, *_BEST, around=True)
    weak, strong = _means(table, WEAK, "accuracy"), _means(table, STRONG, "accuracy")
    base = table[table["beta"] == 0]["accuracy"].mean()
    steep = [target for target in _targets(table, _STEEP) if target > _STEEP]
    gain = interval(_against_baseline(table, WEAK, "accuracy", steep).mean(axis=1))
    best = float(weak.idxmax())  # type: ignore[arg-type]
    inside = bool(table["accuracy"].between(0.93, 0.95).all())
    found = (
        f"baseline {base:.4f}; weak, by target {_shown(weak, 4)}; strong {_shown(strong, 4)}; all between "
        f"{table['accuracy'].min():.3f} and {table['accuracy'].max():.3f}; weak minus baseline above {_STEEP:g} {gain.text(4)}"
    )
    better = gain.above_zero and bool((weak[steep] > base).all())
    low, high = _BEST
    test = (
        f"all in 0.93-0.95; weak above the baseline at every target above {_STEEP:g}, best between {low:g} and {high:g}; strong "
        "always below it"
    )
    return Finding(verdict(inside, better, low <= best <= high, bool((strong < base).all())), found, test)


def _g2(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    parts, conditions = [], []
    for kind in ("fgsm", "pgd"):
        column = _attack(table, kind, "gerum_shallow_mlp")
        base = table[table["beta"] == 0][column].mean()
        means = {beta: _means(table, beta, column) for beta in (WEAK, STRONG)}
        for beta, values in means.items():
            growth, _ = correlation(_means(table, beta, "alpha"), values)
            conditions.append(growth > 0.8)
            parts.append(f"{column}, β = {beta:g}: {_shown(values)}, rank correlation with α {growth:.2f}")
        high = _targets(table, _HIGH)
        conditions.append(bool((means[STRONG][high] > means[WEAK][high]).all() and (means[WEAK][high] > base).all()))
        parts.append(f"baseline {base:.3f}; {spread(_deviations(table, column))}")
    test = f"rank correlation with α above 0.8; strong above weak above baseline for targets of {_HIGH:g} and more"
    return Finding(verdict(*conditions), "; ".join(parts), test)


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
    return Finding(verdict(earlier.above_zero), found, test)


def _g4(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    ordered, compared, high = 0, [], _targets(table, _HIGH)
    for column in table.columns:
        kind, _, strength = str(column).partition(" ")
        if kind not in ("fgsm", "pgd") or float(strength) > _ENTIRE_RANGE:
            continue
        base = table[table["beta"] == 0][column].mean()
        weak, strong = (_means(table, beta, column)[high].mean() for beta in (WEAK, STRONG))
        steps = interval(_over(table, column, STRONG, high) - _over(table, column, WEAK, high))
        compared.append(f"{column}: {base:.3f} < {weak:.3f} < {strong:.3f}, strong minus weak {steps.text()}")
        ordered += strong > weak > base
    if not compared:
        raise NotTestedError("attacked networks")
    test = f"baseline below weak below strong, mean over targets of {_HIGH:g} and more, at every strength up to {_ENTIRE_RANGE:g}"
    return Finding(verdict(ordered == len(compared)), f"{ordered} of {len(compared)} in order: {'; '.join(compared)}", test)


def _over(table: pd.DataFrame, column: str, beta: float, targets: list[float]) -> pd.Series:
    """Mean over targets, of each seed."""
    own = table[(table["beta"] == beta) & table["target"].isin(targets)]
    return own.groupby("seed")[column].mean()


@dataclass(frozen=True)
class _Best:
    """The setting whose mean is largest: beta, mean exponent, and that mean with its interval."""

    beta: float
    alpha: float
    mean: Interval

    @classmethod
    def of(cls, table: pd.DataFrame, column: str) -> _Best:
        settings = table.groupby(["beta", "target"])
        best: Any = settings[column].mean().idxmax()
        if math.isnan(settings["alpha"].mean()[best]):
            raise NotTestedError("the exponent of the best network")
        return cls(float(best[0]), float(settings["alpha"].mean()[best]), interval(settings[column].get_group(best)))

    def text(self, digits: int = 3) -> str:
        return f"{self.mean.text(digits)} at β = {self.beta:g}, α {self.alpha:.2f}"


def _g5(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_deep_mlp")
    low, high = _ABOUT_TWO
    _targets(table, low, high, around=True)
    best = _Best.of(table, "accuracy")
    base = interval(table[table["beta"] == 0]["accuracy"])
    robust = {column: _Best.of(table, column) for column in (_attack(table, kind, "gerum_deep_mlp") for kind in ("fgsm", "pgd"))}
    found = f"best accuracy {best.text(4)} (baseline {base.text(4)}); " + _listed(robust)
    at_two = all(low <= each.alpha <= high for each in robust.values())
    test = f"best accuracy with weak regularisation; best robustness at α of {low:g} to {high:g}"
    return Finding(verdict(best.beta == WEAK, at_two), found, test)


def _listed(robust: dict[str, _Best]) -> str:
    return "; ".join(f"best {column} {best.text()}" for column, best in robust.items())


def _g6(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_cnn")
    column = _attack(table, "pgd", "mnist")
    regularised = table[table["beta"] > 0]
    fall, chance = correlation(regularised["alpha"], regularised["accuracy"])
    gain = interval(_against_baseline(table, STRONG, column).mean(axis=1))
    found = (
        f"accuracy, weak {_shown(_means(table, WEAK, 'accuracy'), 4)}; strong {_shown(_means(table, STRONG, 'accuracy'), 4)}; "
        f"rank correlation with α {fall:.2f} (p {chance:.2g}, {len(regularised)} networks); "
        f"strong minus baseline, {column} {gain.text()}"
    )
    return Finding(
        verdict(fall < 0 and chance < 0.05, gain.above_zero),
        found,
        "accuracy falls with α; strong helps against PGD",
    )


def _g7(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_cnn", "cifar10")
    low, high = _ABOUT_THREE
    _targets(table, low, high, around=True)
    _targets(table, 0, 0.9)
    best = _Best.of(table, "accuracy")
    robust = {column: _Best.of(table, column) for column in (_attack(table, kind, "cifar10") for kind in ("fgsm", "pgd"))}
    strong = all(each.beta == STRONG and low <= each.alpha <= high for each in robust.values())
    test = f"best accuracy with weak regularisation and α below 1; best robustness with strong and α of {low:g} to {high:g}"
    found = f"best accuracy {best.text(4)}; {_listed(robust)}"
    return Finding(verdict(best.beta == WEAK and best.alpha < 1, strong), found, test)


def _g8(evidence: Evidence) -> Finding:
    table = networks(evidence, "gerum_shallow_mlp")
    alpha = table[table["beta"] == 0]["alpha"].mean()
    own = _means(table, WEAK, "alpha")
    nearest: Any = (own - alpha).abs().idxmin()
    if abs(own[nearest] - alpha) > _NEAR:
        raise NotTestedError(f"a weakly regularised network with α within {_NEAR:g} of the baseline's {alpha:.2f}")
    differences = {
        column: interval(_against_baseline(table, WEAK, column, [nearest]).iloc[:, 0])
        for column in (_attack(table, kind, "gerum_shallow_mlp") for kind in ("fgsm", "pgd"))
    }
    found = f"baseline α {alpha:.2f}; weak at α {own[nearest]:.2f} minus baseline: " + ", ".join(
        f"{column} {difference.text()}" for column, difference in differences.items()
    )
    test = f"differences of accuracy under attack below {_AS_ROBUST:g}, with their intervals"
    return Finding(verdict(*(difference.within(_AS_ROBUST) for difference in differences.values())), found, test)


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


_OF_FIGURE = {
    "fig2": ("shallow MLP", "gerum_shallow_mlp", "mnist"),
    "fig3a": ("deep MLP", "gerum_deep_mlp", "mnist"),
    "fig3d": ("CNN on MNIST", "gerum_cnn", "mnist"),
    "fig3g": ("CNN on CIFAR-10", "gerum_cnn", "cifar10"),
}

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
)
