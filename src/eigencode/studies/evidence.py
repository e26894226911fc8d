"""What claims and figures are made from: finished cells with the fields that they vary, and their tidy results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eigencode.studies.store import Store
from eigencode.studies.study import Plan

AFTER = ("unperturbed", "held_out", "training")
_KEYS = ("cell", "layer", "perturbation", "strength", "epoch", "quantity", "value")


class Evidence:
    """Results of a set of cells.

    Args:
        store: Where they are.
        plans: The cells; those that are not finished, or failed, are left out.

    Attributes:
        cells: One row for each cell: cell, model, width, data, form, epochs, jacobian_kind, adversarial, beta (strength of the
            spectral penalty), seed, target, covariance, jacobian, and ``finished``, ``seconds``, ``code_revision``, ``hardware``.
        rows: Tidy results joined with these.
        missing: Cells asked for that are not finished.
    """

    def __init__(self, store: Store, plans: Sequence[Plan]) -> None:
        identities = [plan.identity for plan in plans]
        found = store.cells(identities)
        found = found[found["error"].isna()]
        by_identity = {plan.identity: plan for plan in plans}
        told = [
            {"cell": row["id"], **_fields(by_identity[row["id"]]), **{name: row[name] for name in _ABOUT}}
            for row in found.to_dict("records")
        ]
        columns = ["cell", *_fields(Plan()), *_ABOUT]
        self.cells = pd.DataFrame(told, columns=columns)
        self.missing = len(set(identities)) - len(found)
        self._store = store
        results = store.results(list(self.cells["cell"])) if told else pd.DataFrame(columns=list(_KEYS))
        self.rows = results.merge(self.cells.drop(columns=list(_ABOUT)), on="cell", how="left")

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """Spectra joined with the cells' fields."""
        found = self._store.spectra(list(self.cells["cell"]))
        return found.merge(self.cells.drop(columns=list(_ABOUT)), on="cell", how="left")

    def select(self, quantity: str, **where: Any) -> pd.DataFrame:
        """Rows of a quantity whose columns equal ``where``; a list matches any of its values.

        Of training and held-out rows the last epoch alone, unless ``epoch`` is given as None.
        """
        rows = self.rows[self.rows["quantity"] == quantity]
        every_epoch = "epoch" in where and where.pop("epoch") is None
        for name, value in where.items():
            wanted = value if isinstance(value, (list, tuple, set)) else [value]
            rows = rows[rows[name].isin(list(wanted))]
        return rows if every_epoch else rows[rows["epoch"] == rows["epochs"]]

    def table(self, quantity: str, *, columns: str, index: str = "seed", **where: Any) -> pd.DataFrame:
        """``select`` as a table, one row for each value of ``index``; rows with a missing value are left out."""
        return self.select(quantity, **where).pivot_table(index=index, columns=columns, values="value").dropna()


_ABOUT = ("finished", "seconds", "code_revision", "hardware")


def _fields(plan: Plan) -> dict[str, Any]:
    member = asdict(plan.member)
    return {
        "model": plan.network.model,
        "width": plan.network.options.get("width", np.nan),
        "data": plan.images.data,
        "form": plan.training.spectral.form,
        "epochs": plan.training.epochs,
        "jacobian_kind": plan.training.jacobian.kind,
        "adversarial": plan.training.adversarial.epsilon,
        "beta": member["strength"],
        **{name: member[name] for name in ("seed", "target", "covariance", "jacobian")},
    }
