"""What the demonstration shows, as checks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from eigencode.papers.demo.study import EPSILON
from eigencode.studies.results.claim import Claim, Finding, Part, finding
from eigencode.studies.results.statistics import Paired, highest, lowest
from eigencode.studies.results.table import NotTestedError, StudyResults

_REACHED = 0.2
_PRICE = 0.05


def _reached(evidence: StudyResults) -> Finding:
    rows = evidence.select("alpha", perturbation="training")
    rows = rows[rows["beta"] > 0]
    if rows.empty:
        raise NotTestedError("regularised networks")
    distances = (rows["value"] - rows["target"]).abs()
    found = f"largest distance of α from its target {distances.max():.3f}, n = {len(distances)} networks"
    return finding(found, f"every network within {_REACHED:g}, in the last epoch's batches", bool((distances < _REACHED).all()))


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


def _costs(evidence: StudyResults) -> Finding:
    layout = _layout(evidence, perturbation="held_out")
    costs = {target: layout.difference(0.0, target) for target in layout.table if target}
    target, most = highest(costs)
    found = f"largest price in accuracy (target {target:g}): {most.told()}"
    return finding(found, f"below {_PRICE:g} (paired over seeds)", *(cost.below(_PRICE) for cost in costs.values()))


def _more_robust(evidence: StudyResults) -> Finding:
    layout = _layout(evidence, perturbation="pgd", strength=EPSILON)
    targets = sorted(target for target in list[Any](layout.table) if target)
    steps = {f"{first:g} to {second:g}": layout.difference(second, first) for first, second in pairwise(targets)}
    which, least = lowest(steps)
    found = f"smallest step of accuracy under PGD from target to target ({which}): {least.told()}"
    return finding(found, "above 0 (paired over seeds)", *(step.above() for step in steps.values()))


CLAIMS = (
    Claim("D1", "spectra", "The penalty pulls the exponent to its target.", (Part("of every network", _reached),), window="own"),
    Claim("D2", "outcome", "Accuracy hardly suffers.", (Part("at any target", _costs),), window="none"),
    Claim("D3", "outcome", "Steeper codes are more robust.", (Part(f"to PGD at {EPSILON:g}", _more_robust),), window="none"),
)
