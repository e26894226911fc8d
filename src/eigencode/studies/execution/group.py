"""A group of cells -> records: trains the networks as stacks, then reads what the plan asks for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from eigencode._digests import short_digest
from eigencode._grammar import names_in
from eigencode.activations import select_sites, trace
from eigencode.errors import ActivationError, DiskError, EigencodeError
from eigencode.provenance import code_revision, computed_with
from eigencode.studies.cell import RESULT_VERSION, CellConfig
from eigencode.studies.execution.materials import GroupResources, Report, code_digest
from eigencode.studies.execution.readout import ROW, UNPERTURBED, SpectrumRecord, as_table, attacked, read
from eigencode.training import MemberSettings
from eigencode.training.grouping import Trained, group_size
from eigencode.training.saving import save_member

TRAINING, HELD_OUT = "training", "held_out"


@dataclass(frozen=True)
class CellRecord:
    """What a finished cell leaves.

    Attributes:
        plan: The cell's configuration.
        rows: Columns layer, perturbation, strength, epoch, quantity, value; "training" and "held_out" rows have their epoch,
            those read after training the last one, 0 for a network that is not trained.
        spectra: Spectra.
        error: Why the cell failed; None if it did not.
        seconds: Seconds of training and reading, shared equally by the networks of a stack; before a kill too, as far as the
            state goes.
        computed_with: Code revision, versions and hardware of the process that made it.
    """

    plan: CellConfig
    rows: pd.DataFrame
    spectra: list[SpectrumRecord] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0
    computed_with: dict[str, Any] = field(default_factory=computed_with)


@dataclass(frozen=True)
class Task:
    """A group of cells to be trained as one stack.

    Attributes:
        plans: The cells, which differ in ``member`` alone.
        data_root: Folder of data sets.
        device: Where to run. Default: CUDA where there is one.
        states: Folder for unfinished training, and for images that were made, which groups share.
        folder: Folder for this group's unfinished training, in it; if it was killed it goes on from there.
        weights: Folder for the weights of trained networks. Default: they are not kept.
    """

    plans: tuple[CellConfig, ...]
    data_root: str | None = None
    device: str | None = None
    states: Path | None = None
    folder: Path | None = None
    weights: Path | None = None


def run_group(task: Task, report: Report | None = None) -> list[CellRecord]:
    """Trains and reads cells of one group.

    Args:
        task: The cells, and where everything is.
        report: Called while it works.

    Returns:
        A record for each cell; one that failed has its error.

    Raises:
        EigencodeError: data or a network that cannot be loaded, or settings that no cell of the group can be trained with.
    """
    started, plans = time.perf_counter(), task.plans
    code_revision()  # as it is now: the source may change in the hours that follow
    materials = GroupResources(plans[0], data_root=task.data_root, device=task.device, states=task.states, report=report)
    cells = [plan.member for plan in plans]
    if reason := _unreadable(materials):  # told before hours of training
        return failed_group(plans, reason)
    trained, earlier = _trained(task, materials)
    tables = {cell: [_history(trained.histories[cell])] if cell in trained.histories else [] for cell in cells}
    spectra: dict[MemberSettings, list[SpectrumRecord]] = {}
    errors = dict(trained.failed)
    for number, (cell, network) in enumerate(trained.networks.items()):
        materials.say("reading", number, len(trained.networks))
        try:
            rows, spectra[cell] = read(network, materials)
        except DiskError:
            raise
        except EigencodeError as error:
            errors[cell] = str(error)
            continue
        tables[cell].append(as_table(rows, _last_epoch(trained, cell)))
    for cell, rows in attacked(trained.networks, materials).items():
        if rows:
            tables[cell].append(as_table(rows, _last_epoch(trained, cell)))
    seconds = (time.perf_counter() - started + earlier) / len(plans)

    def record_of(plan: CellConfig) -> CellRecord:
        if error := errors.get(plan.member):
            return CellRecord(plan, _nothing(), error=error, seconds=seconds)
        return CellRecord(plan, pd.concat(tables[plan.member], ignore_index=True), spectra[plan.member], seconds=seconds)

    return [record_of(plan) for plan in plans]


def _unreadable(materials: GroupResources) -> str:
    """Why a group cannot be read; empty if it can."""
    plan = materials.plan
    try:
        _ = materials.released
        traced = trace(materials.network(plan.member), materials.test.inputs[:2].to(materials.device))
        select_sites(traced, plan.reading.layers)
    except ActivationError as error:
        return str(error)
    if (most := max(plan.reading.stimuli, default=0)) > len(materials.test):
        return f"`reading.stimuli` asks for {most} test images; there are {len(materials.test)}"
    return ""


def _trained(task: Task, materials: GroupResources) -> tuple[Trained, float]:
    """The networks of a group, and the seconds of training before it was killed and went on, if it was."""
    cells = [plan.member for plan in task.plans]
    if materials.plan.network.weights:
        return Trained({cell: materials.network(cell) for cell in cells}), 0.0
    begun = time.perf_counter()
    trained = materials.trained(cells, task.folder)
    for plan in task.plans:
        if task.weights and plan.member in trained.networks:
            save_member(task.weights / f"{plan.identity}.safetensors", trained.networks[plan.member])
    return trained, _seconds_before(trained, time.perf_counter() - begun)


def _seconds_before(trained: Trained, here: float) -> float:
    """Seconds of training before it was killed and went on, if it was; ``here``: of what was done since."""
    all_epochs = sum(history.drop_duplicates("epoch")["seconds"].sum() for history in trained.histories.values())
    return max(0.0, float(all_epochs) - here)


def failed_group(plans: Sequence[CellConfig], reason: str) -> list[CellRecord]:
    """Records of cells that all failed for one reason."""
    return [CellRecord(plan, _nothing(), error=reason) for plan in plans]


def without_exponent(record: CellRecord) -> list[str]:
    """Layers whose spectrum of test images has too few ranks for the fit; if there is no spectrum at all, what was to be read."""
    if record.error:
        return []
    fitted = record.rows[(record.rows["perturbation"] == UNPERTURBED) & (record.rows["quantity"] == "alpha")]
    measured = [each.layer for each in record.spectra if each.perturbation == UNPERTURBED]
    return [layer for layer in measured or names_in(record.plan.reading.layers) if layer not in set(fitted["layer"])]


def stack_size(
    plan: CellConfig, *, data_root: str | None = None, device: str | None = None, asked: int | None = None, download: bool = True
) -> int:
    """Networks of this plan that are trained as one stack; as many as are asked for, if any.

    Raises:
        TrainingError: fewer than 1 asked for.
        NotDownloadedError: images are not there, and ``download`` is false.
        EigencodeError: data or a network that is not there.
    """
    if plan.network.weights and (asked is None or asked > 0):
        return asked or 1  # nothing is trained
    materials = GroupResources(plan, data_root=data_root, device=device, download=download)
    network = materials.network(plan.member)
    penalised = bool(plan.member.jacobian)
    return group_size(network, materials.training, plan.training, device=materials.device, asked=asked, jacobian=penalised)


def states_of(plans: Sequence[CellConfig], states: Path | None) -> Path | None:
    """Folder for a group's unfinished training, the same whenever the same cells are grouped; it is of one result version.

    Relative where ``states`` is: a cluster's workers may have another working directory.
    """
    if states is None:
        return None
    cells = short_digest(" ".join(plan.identity for plan in plans))
    return states / f"{RESULT_VERSION}-{plans[0].group}-{cells}{code_digest(plans[0])}"


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=ROW)


def _last_epoch(trained: Trained, cell: MemberSettings) -> int:
    """Of all layers together, where one is trained after the other; 0 for a network that was not trained."""
    return int(trained.histories[cell]["epoch"].max()) if cell in trained.histories else 0


_HISTORY = {
    "loss": (TRAINING, "loss"),
    "accuracy": (TRAINING, "accuracy"),
    "alpha": (TRAINING, "alpha"),
    "skipped": (TRAINING, "skipped"),
    "held_out_accuracy": (HELD_OUT, "accuracy"),
    "held_out_alpha": (HELD_OUT, "alpha"),
}
"""Column of a training history -> condition and quantity of its tidy rows."""


def _history(history: pd.DataFrame) -> pd.DataFrame:
    """Training history as tidy rows."""
    tables = [
        history[["layer", "epoch"]].assign(perturbation=condition, strength=0.0, quantity=quantity, value=history[name])
        for name, (condition, quantity) in _HISTORY.items()
    ]
    return pd.concat(tables, ignore_index=True)[list(ROW)].dropna(subset="value")


def history_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The training history that tidy rows of one cell are of: epoch, layer, and a column for each number, NaN where missing."""
    columns = {condition: name for name, condition in _HISTORY.items()}
    names = pd.Series(map(columns.get, zip(rows["perturbation"], rows["quantity"], strict=True)), rows.index)
    own = rows.assign(name=names).dropna(subset="name")
    order = {layer: number for number, layer in enumerate(dict.fromkeys(own["layer"]))}
    table = own.pivot(index=["epoch", "layer"], columns="name", values="value").reindex(columns=list(_HISTORY)).reset_index()
    table = table.sort_values(["epoch", "layer"], key=lambda column: column.map(order) if column.name == "layer" else column)
    return table.astype({"skipped": int}).rename_axis(columns=None).reset_index(drop=True)
