"""The numbers that Gerum et al. 2022 state, each beside what is measured here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from eigencode.papers.gerum2022.networks import WEAK, attack_column, networks, where_best
from eigencode.papers.gerum2022.study import EPSILONS
from eigencode.studies.results.claim import StatedNumber
from eigencode.studies.results.table import NotTestedError, StudyResults


def _baseline(model: str, data: str, kind: str | None = None) -> Callable[[StudyResults], pd.Series]:
    """Accuracy of each baseline; of one attacked, as a share of its clean accuracy."""

    def measure(evidence: StudyResults) -> pd.Series:
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


def _alpha_of_best(model: str, kind: str | None = None) -> Callable[[StudyResults], pd.Series]:
    """Exponent at which a seed's networks are best: the most accurate weak one, or the most robust regularised one."""

    def measure(evidence: StudyResults) -> pd.Series:
        table = networks(evidence, model)
        column = attack_column(table, kind, model) if kind else "accuracy"
        return where_best(table[table["beta"] > 0] if kind else table[table["beta"] == WEAK], column)

    return measure


_OF_FIGURE = {
    "fig2": ("shallow MLP", "gerum_shallow_mlp", "mnist"),
    "fig3a": ("deep MLP", "gerum_deep_mlp", "mnist"),
    "fig3d": ("CNN on MNIST", "gerum_cnn", "mnist"),
    "fig3g": ("CNN on CIFAR-10", "gerum_cnn", "cifar10"),
}

_STATED_BEST = {"gerum_shallow_mlp": (3.0, None), "gerum_deep_mlp": (2.4, 3.0)}
"""About 3; of the deep MLP "about 3" in the text, 2.4 in the caption of Fig. 3a."""

STATED = (
    StatedNumber(
        "accuracy of the baseline, shallow MLP", "fig2", 0.93, 0.95, _baseline("gerum_shallow_mlp", "mnist"), images=10_000
    ),
    *(
        StatedNumber(
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
        StatedNumber(
            f"α of the best accuracy with weak regularisation, {name}", figure, *stated, _alpha_of_best(model), exponents=True
        )
        for figure, (name, model, _) in _OF_FIGURE.items()
        if (stated := _STATED_BEST.get(model))
    ),
    *(
        StatedNumber(
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
