"""What the demonstration shows, as checks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd

from eigencode.papers.demo.study import EPSILON
from eigencode.studies.results.claim import Claim, Finding, finding
from eigencode.studies.results.statistics import Paired
from eigencode.studies.results.table import NotTestedError, StudyResults

_REACHED = 0.2
_PRICE = 0.05


def _d1(evidence: StudyResults) -> Finding:
    rows = evidence.select("alpha", perturbation="training")
    rows = rows[rows["beta"] > 0]
    if rows.empty:
        raise NotTestedError("regularised networks")
    means = rows.groupby("target")["value"].agg(["mean", "std"])
    means["shown"] = means["mean"].map("{:.2f}".format) + means["std"].map(lambda sd: "" if pd.isna(sd) else f" ± {sd:.2f}")
    found = ", ".join(f"{shown} (target {target})" for target, shown in means["shown"].items())
    reached = bool(((rows["value"] - rows["target"]).abs() < _REACHED).all())
    test = f"every network within {_REACHED:g} of its target"
    return finding(f"α of the last epoch's batches, mean ± standard deviation over seeds: {found}", test, reached)


def _layout(evidence: StudyResults, **where: Any) -> Paired:
    """Accuracies, seeds x targets; of the baseline at 0.

    Raises:
        NotTestedError: no baseline, or fewer than two targets.
    """
    rows = evidence.select("accuracy", **where)
    layout = Paired.of(rows.assign(target=rows["target"].where(rows["beta"] > 0, 0.0)), ["target"], "value")
    if 0.0 not in layout.table or layout.table.shape[1] < 3:
        raise NotTestedError("a baseline, and networks of two targets at least")
    return layout


def _shown(layout: Paired) -> str:
    means = layout.table.mean()
    targets = ", ".join(f"{value:.3f} (target {target})" for target, value in means.drop(0.0).items())
    return f"baseline {means[0.0]:.3f}; {targets}"


def _d2(evidence: StudyResults) -> Finding:
    layout = _layout(evidence, perturbation="held_out")
    costs = {target: layout.difference(0.0, target) for target in layout.table if target}
    found = f"{_shown(layout)}; costs " + ", ".join(f"{cost.text()} (target {target})" for target, cost in costs.items())
    return finding(found, f"no target costs more than {_PRICE:g} (paired over seeds)", *(c.below(_PRICE) for c in costs.values()))


def _d3(evidence: StudyResults) -> Finding:
    layout = _layout(evidence, perturbation="pgd", strength=EPSILON)
    targets = sorted(target for target in list[Any](layout.table) if target)
    steps = [layout.difference(second, first) for first, second in pairwise(targets)]
    found = f"{_shown(layout)}; steps from target to target {', '.join(step.text() for step in steps)}"
    return finding(found, "accuracy under PGD grows from target to target (paired over seeds)", *(s.above() for s in steps))


CLAIMS = (
    Claim("D1", "spectra", "The penalty pulls the exponent to its target.", _d1, window="own"),
    Claim("D2", "outcome", "Accuracy hardly suffers.", _d2, window="none"),
    Claim("D3", "outcome", f"The steeper the code, the more robust to PGD at {EPSILON:g}.", _d3, window="none"),
)
