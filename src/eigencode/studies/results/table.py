"""What claims and figures are made from: finished cells with the fields that they vary, and their tidy results."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eigencode.errors import StudyError
from eigencode.spectra.window import Ranks, Window
from eigencode.studies.cell import NAMES, CellConfig
from eigencode.studies.results.recorded import RecordedSpectrum
from eigencode.studies.results.refitting import refitted
from eigencode.studies.results.store import Store
from eigencode.training.settings import WEIGHTS

_KEYS = ("cell", "layer", "perturbation", "strength", "epoch", "quantity", "value")


class StudyResults:
    """Results of a set of cells.

    Args:
        store: Where they are.
        plans: The cells; those that are not finished, or failed, are left out.
        recording: A recording that figures draw beside the networks.

    Attributes:
        cells: One row for each cell: cell, model, width, data, form, epochs, jacobian_kind, adversarial, trained (norm and
            budget of adversarial training, or the file of weights), beta (weight of the
            spectral penalty), seed, target, covariance, jacobian, network (cells that have it in common differ in what was read
            alone), every other field that varies by its dotted name (of
            the reading, ranks and count, and in words those perturbations that are not done in the same way in all cells),
            finished, seconds, code_revision, hardware.
        rows: Tidy results joined with these; a network that was read in several cells is there once.
        missing: Cells asked for that are not finished.
        ranks: First and last rank over which spectra were fitted again (see ``over``); None for the study's.
        studied: The ranks over which the study read them, in words.
        window: Those of ``ranks`` in words, with the number of spectra that do not reach so far; None for the study's.
        alpha_condition: Condition whose exponents networks are compared by where the paper takes those of the last epoch's
            batches: "training"; "unperturbed", the test images, where spectra are fitted again, since those of batches are not
            kept.
    """

    def __init__(self, store: Store, plans: Sequence[CellConfig], *, recording: RecordedSpectrum | None = None) -> None:
        self.recording = recording
        found = store.cells([plan.identity for plan in plans])
        found = found[found["error"].isna()]
        self._ways = _disputed(plans)
        varied = _varied(plans, self._ways)
        listed = [
            {"cell": row["id"], **varied[row["id"]], **{name: row[name] for name in _ABOUT}} for row in found.to_dict("records")
        ]
        columns = ["cell", *(next(iter(varied.values())) if varied else {}), *_ABOUT]
        self._store = store
        self._results = store.results([row["cell"] for row in listed]) if listed else pd.DataFrame(columns=list(_KEYS))
        self._hold(plans, pd.DataFrame(listed, columns=columns))

    def _hold(self, plans: Sequence[CellConfig], cells: pd.DataFrame) -> None:
        identities = {plan.identity for plan in plans}
        self.cells = cells[cells["cell"].isin(identities)]
        self.missing = len(identities) - len(self.cells)
        self.ranks: tuple[int, int] | None = None
        self.window: str | None = None
        self.alpha_condition = "training"
        self._as_read = self
        self._fits: Window | None = None
        self._own = {Window.of(plan.reading.ranks) for plan in plans}
        self.studied = " or ".join(sorted(map(str, self._own)))
        self._results = self._results[self._results["cell"].isin(identities)]
        self._set_rows(self._joined(self._results, _KEYS[1:-1]))
        self._last_epochs = self.rows.groupby("network")["epoch"].max()

    def _set_rows(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self._chosen: dict[tuple[str, bool], pd.DataFrame] = {}

    def of(self, plans: Sequence[CellConfig]) -> StudyResults:
        """Of some of the cells alone, over the same ranks.

        Args:
            plans: These cells.

        Returns:
            StudyResults.
        """
        other = copy.copy(self)
        for cached in ("_kept", "spectra"):
            vars(other).pop(cached, None)
        other._hold(plans, self.cells)
        if self.ranks:
            other._as_read = self._as_read.of(plans)
            if other._own == {self._fits}:
                return other._as_read
            other.ranks, other.window, other.alpha_condition = self.ranks, self.window, self.alpha_condition
            other._fits = self._fits
        return other

    def over(self, ranks: Ranks) -> StudyResults:
        """The same cells with the exponents that their kept spectra have over other ranks (see ``refitted``).

        Args:
            ranks: Window of the fits.

        Returns:
            StudyResults; as it was read, if all cells were read over that window.

        Raises:
            StudyError: no spectrum has these ranks above rounding error.
        """
        window = Window.of(ranks)
        if self._own == {window}:
            return self._as_read
        other = copy.copy(self._as_read)
        vars(other).pop("spectra", None)
        other._results, unreached = refitted(other._results, self._kept, window)
        other.cells = other.cells.drop(columns="reading.ranks", errors="ignore")
        other._set_rows(other._joined(other._results, _KEYS[1:-1]))
        other.ranks, other.alpha_condition, other._fits = window.ranks, "unperturbed", window
        other.window = str(window)
        if unreached:
            other.window += f" ({unreached} of {len(self._kept)} spectra do not reach rank {window.last})"
        return other

    def _joined(self, table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
        """With the cells' fields; a network that was read in several cells is there once."""
        joined = table.merge(self.cells.drop(columns=list(_ABOUT)), on="cell", how="left")
        if _HOW in joined:
            each = zip(joined["cell"], joined["perturbation"], joined["strength"], strict=True)
            joined[_HOW] = [self._ways.get(entry) for entry in each]
        ways = [name for name in _READ_SO if name in joined]
        return joined.drop_duplicates(["network", *ways, *keys], ignore_index=True)

    @cached_property
    def _kept(self) -> pd.DataFrame:
        return self._store.spectra(list(self.cells["cell"]))

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """Spectra joined with the cells' fields."""
        return self._joined(self._kept, ("layer", "perturbation", "strength"))

    @property
    def fit_window(self) -> Window | None:
        """Window of the fits; None if cells were read over several."""
        return self._fits or (next(iter(self._own)) if len(self._own) == 1 else None)

    @property
    def fitted(self) -> tuple[int, int] | None:
        """First and last rank of the fits; None if cells were read over several windows."""
        return self.fit_window.ranks if self.fit_window else None

    def select(self, quantity: str, **where: Any) -> pd.DataFrame:
        """Rows of a quantity whose columns equal ``where``; a list matches any of its values.

        Of the last epoch alone, unless ``epoch`` is given as None.

        Raises:
            StudyError: no such column.
        """
        unknown = [name for name in where if name not in self.rows]
        if unknown and not self.rows.empty:
            raise StudyError(f"There is no column {unknown[0]!r}. Columns are {', '.join(map(str, self.rows))}.")
        rows = self._of_quantity(quantity, every_epoch="epoch" in where and where.pop("epoch") is None)
        wanted = {name: value if isinstance(value, (list, tuple, set)) else [value] for name, value in where.items()}
        masks = [rows[name].isin(list(values)).to_numpy() for name, values in wanted.items()]
        return rows[np.logical_and.reduce(masks)] if masks else rows.copy()

    def _of_quantity(self, quantity: str, *, every_epoch: bool) -> pd.DataFrame:
        """All rows of a quantity, which claims ask for many times."""
        if (quantity, every_epoch) not in self._chosen:
            rows = self.rows[self.rows["quantity"] == quantity]
            last = rows if every_epoch else rows[rows["epoch"] == rows["network"].map(self._last_epochs)]
            self._chosen[quantity, every_epoch] = last
        return self._chosen[quantity, every_epoch]

    def of_each_cell(self, quantity: str) -> pd.DataFrame:
        """Rows of a quantity as every cell has read it, also where a network was read in several."""
        return self._results[self._results["quantity"] == quantity]

    def differing(self, axes: Sequence[str], kinds: Sequence[str]) -> list[str]:
        """Columns, beside these axes and seeds, in which networks differ that are of one kind by some of the axes."""
        others = [str(name) for name in self.cells if name not in ("cell", "network", "seed", *axes, *_ABOUT)]
        grouped = self.cells.assign(_all=0).groupby(["_all", *kinds], dropna=False)
        return [name for name in others if (grouped[name].nunique(dropna=name == _HOW) > 1).any()]

    def with_alpha(self, rows: pd.DataFrame, perturbation: str) -> pd.DataFrame:
        """Rows with a column alpha, their network's exponent under a condition.

        Raises:
            NotTestedError: a network has several: of several layers, or read in several ways.
        """
        alpha = single(self.select("alpha", perturbation=perturbation), "network").set_index("network")["value"]
        return rows.assign(alpha=rows["network"].map(alpha))

    def table(self, quantity: str, *, columns: str, index: str = "seed", **where: Any) -> pd.DataFrame:
        """``select`` as a table, as ``table_of``."""
        return table_of(self.select(quantity, **where), index=index, columns=columns)


_ABOUT = ("finished", "seconds", "code_revision", "hardware")


_HOW = "reading.perturbations"

_READ_SO = ("reading.ranks", "reading.count", _HOW)
"""Fields that decide what the same reading of the same network gives."""


class NotTestedError(Exception):
    """Results that a claim needs are not there."""


def table_of(rows: pd.DataFrame, *, columns: str, index: str | list[str] = "seed") -> pd.DataFrame:
    """Values of rows, one row for each value of ``index``; rows with a missing value are left out.

    Raises:
        NotTestedError: networks that differ in something else share an entry.
    """
    keys = [index] if isinstance(index, str) else index
    return single(rows, *keys, columns).pivot_table(index=keys, columns=columns, values="value").dropna()


def setting(table: pd.DataFrame, of: Any) -> pd.Series:
    """The column of a table that is one setting's.

    Raises:
        NotTestedError: no network has it.
    """
    if of not in table:
        raise NotTestedError(f"networks with {table.columns.name} {of}")
    column: pd.Series = table[of]
    return column


def single(rows: pd.DataFrame, *entry: str) -> pd.DataFrame:
    """The rows, if no two of them share an entry: a seed and a layer, say.

    Raises:
        NotTestedError: two do, of networks that differ in something else, or of one that was read in several ways.
    """
    if rows.duplicated(list(entry)).any():
        raise NotTestedError(f"networks that differ in {' and '.join(entry)} alone; these differ in more")
    return rows


def _disputed(plans: Sequence[CellConfig]) -> dict[tuple[str, str, float], str]:
    """(Identity, kind, strength) of perturbations that not all plans do in the same way -> that way in words."""
    ways: dict[tuple[str, float], dict[str, str]] = {}
    for plan in plans:
        for spec in plan.reading.perturbations:
            way = spec.variant
            for strength in spec.strengths:
                ways.setdefault((spec.kind, strength), {})[plan.identity] = way
    return {
        (identity, kind, strength): way
        for (kind, strength), own in ways.items()
        if len(set(own.values())) > 1
        for identity, way in own.items()
    }


def _varied(plans: Sequence[CellConfig], ways: dict[tuple[str, str, float], str]) -> dict[str, dict[str, Any]]:
    """Identity -> named fields, and by their dotted names those others that are not the same in all plans."""
    told: dict[str, set[str]] = {}
    for (identity, kind, _strength), way in ways.items():
        told.setdefault(identity, set()).add(f"{kind}: {way}")

    def values_of(plan: CellConfig) -> dict[str, Any]:
        own = flat(asdict(plan)) | {_HOW: "; ".join(sorted(told.get(plan.identity, ()))) or None}
        return own | {name: str(Window.of(value)) for name, value in own.items() if name.endswith(".ranks") and value}

    values = {plan.identity: values_of(plan) for plan in plans}
    named = {NAMES[column] for column in NAMES.keys() & _fields(CellConfig()).keys()} | {"network.weights"}
    names = sorted({name for own in values.values() for name in own})
    others = [name for name in names if len({repr(own.get(name)) for own in values.values()}) > 1]
    others = [name for name in others if name not in named and (name in _READ_SO or not name.startswith("reading."))]
    return {plan.identity: {**_fields(plan), **{name: values[plan.identity].get(name) for name in others}} for plan in plans}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _fields(plan: CellConfig) -> dict[str, Any]:
    member = asdict(plan.member)
    return {
        "model": plan.network.model,
        "width": plan.network.options.get("width", np.nan),
        "data": plan.images.data,
        "form": plan.training.spectral.form,
        "epochs": 0 if plan.network.weights else plan.training.epochs,
        "jacobian_kind": plan.training.jacobian.kind,
        "adversarial": plan.training.adversarial.epsilon,
        "trained": plan.network.weights or f"{plan.training.adversarial.norm} {plan.training.adversarial.epsilon:g}",
        "beta": member["beta"],
        "network": plan.network_identity,
        **{name: member[name] for name in ("seed", "target", *WEIGHTS)},
    }
