"""Which accuracies under attack of a study's cells are not to be trusted, from what the store keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigencode.attacks.reliability import FLAGS
from eigencode.perturbations.specification import PerturbationSpec, step_length
from eigencode.studies.cell import CellConfig
from eigencode.studies.results.table import StudyResults

_MORE = 0.01
"""Accuracy by which an attack must be weaker than FGSM before it is told: a few images are chance."""


def attack_warnings(evidence: StudyResults, plans: Sequence[CellConfig]) -> list[dict[str, str]]:
    """Flags of ``attacks.FLAGS`` that PGD raises: steps too short for the budget, and accuracy above FGSM's of the same budget.

    The other flags need the attacked images, which are not kept: ``eigencode attack`` looks for them.

    Args:
        evidence: Results.
        plans: Cells.

    Returns:
        For each strength and flag: attack, flag, networks (such as "2 of 8"), meaning, remedy.
    """
    finished, gaps = set(evidence.cells["cell"]), _gaps(evidence)
    raised: dict[tuple[str, str], set[str]] = {}
    attacked: dict[str, set[str]] = {}
    for plan in (plan for plan in plans if plan.identity in finished):
        fgsm = {
            (spec.norm, spec.count, spec.spectra, each)
            for spec in plan.reading.perturbations
            for each in spec.strengths
            if spec.kind == "fgsm"
        }
        for spec in plan.reading.perturbations:
            for strength in spec.strengths if spec.kind == "pgd" else ():
                name = f"pgd {strength:g}"
                attacked.setdefault(name, set()).add(plan.network_identity)
                if _out_of_reach(spec, strength):
                    raised.setdefault((name, "budget_out_of_reach"), set()).add(plan.network_identity)
                on_the_same = (spec.norm, spec.count, spec.spectra, strength) in fgsm
                if on_the_same and gaps.get((plan.identity, strength), 0.0) > _MORE:
                    raised.setdefault((name, "weaker_than_fgsm"), set()).add(plan.network_identity)
    return [
        {"attack": name, "flag": flag, "networks": f"{len(networks)} of {len(attacked[name])}", **vars(FLAGS[flag])}
        for (name, flag), networks in raised.items()
    ]


def _out_of_reach(spec: PerturbationSpec, strength: float) -> bool:
    step = step_length(spec.norm, strength, spec.n_steps, spec.step_size, relative=spec.relative_step)
    return spec.start == "input" and spec.n_steps * step < strength * (1 - 1e-9)


def _gaps(evidence: StudyResults) -> dict[Any, float]:
    """(Cell, strength) -> accuracy under PGD minus that under FGSM."""
    rows = evidence.of_each_cell("accuracy")
    rows = rows[rows["perturbation"].isin(["pgd", "fgsm"])]
    table = rows.pivot_table(index=["cell", "strength"], columns="perturbation", values="value").dropna()
    if not {"pgd", "fgsm"} <= set(table):
        return {}
    return dict((table["pgd"] - table["fgsm"]).items())
