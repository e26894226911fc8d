"""A group of cells -> records: trains the networks as stacks, then reads what the plan asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from eigencode import datasets, models
from eigencode.attacks import by_name
from eigencode.datasets import ImageSet
from eigencode.errors import EigencodeError
from eigencode.measurement import collect, measure
from eigencode.perturbations import PrincipalComponents
from eigencode.perturbed import perturbed_spectra
from eigencode.spectra import Eigenspectrum, stimulus_curve
from eigencode.studies.study import RESULT_VERSION, Perturbed, Plan
from eigencode.training import Cell, robust_accuracies
from eigencode.training.grouping import Trained, group_size, train_group

TRAINING, HELD_OUT, UNPERTURBED, STIMULI = "training", "held_out", "unperturbed", "stimuli"

STATE = "group.safetensors"

ROW = ("layer", "perturbation", "strength", "epoch", "quantity", "value")

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is."""


@dataclass(frozen=True)
class SpectrumRecord:
    """Eigenvalues of one layer under one condition.

    Attributes:
        layer: Layer.
        perturbation: What was done; "unperturbed" for nothing.
        strength: How much.
        spectrum: Eigenspectrum.
    """

    layer: str
    perturbation: str
    strength: float
    spectrum: Eigenspectrum


@dataclass(frozen=True)
class CellRecord:
    """What a finished cell leaves.

    Attributes:
        plan: The cell's configuration.
        rows: Columns layer, perturbation, strength, epoch, quantity, value; "training" and "held_out" rows have their epoch,
            those read after training the last one.
        spectra: Spectra.
        error: Why the cell failed; None if it did not.
        seconds: Seconds of training and reading, shared equally by the networks of a stack.
    """

    plan: Plan
    rows: pd.DataFrame
    spectra: list[SpectrumRecord] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0


def run_group(
    plans: Sequence[Plan],
    *,
    data_root: str | None = None,
    device: str | None = None,
    states: Path | None = None,
    report: Report | None = None,
) -> list[CellRecord]:
    """Trains and reads cells of one group.

    Args:
        plans: Cells that differ in ``member`` alone.
        data_root: Folder of data sets.
        device: Where to run. Default: CUDA where there is one.
        states: Folder for the state of unfinished training; a group that was killed goes on from there.
        report: Called while it works.

    Returns:
        A record for each cell; one that failed has its error.

    Raises:
        EigencodeError: data or a network that cannot be loaded, or settings that no cell of the group can be trained with.
    """
    return _Group(plans, data_root=data_root, device=device, states=states, report=report).run()


def failed_group(plans: Sequence[Plan], reason: str) -> list[CellRecord]:
    """Records of cells that all failed for one reason."""
    return [CellRecord(plan, pd.DataFrame(columns=ROW), error=reason) for plan in plans]


def stack_size(plan: Plan, *, data_root: str | None = None, device: str | None = None, asked: int | None = None) -> int:
    """Networks of this plan that are trained as one stack; as many as are asked for, if any.

    Raises:
        TrainingError: fewer than 1 asked for.
        EigencodeError: data or a network that is not there.
    """
    group = _Group([plan], data_root=data_root, device=device, states=None, report=None)
    return group_size(group.network(plan.member), group.images("train"), plan.training, device=group.device, asked=asked)


class _Group:
    def __init__(
        self, plans: Sequence[Plan], *, data_root: str | None, device: str | None, states: Path | None, report: Report | None
    ) -> None:
        self.plans, self.plan, self.data_root, self.states, self.report = list(plans), plans[0], data_root, states, report
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.shape = self.images("test").shape
        self.components = cache(lambda: PrincipalComponents.fit(self.images("train")))

    def run(self) -> list[CellRecord]:
        """Records of all cells."""
        started = time.perf_counter()
        training, held_out = self.images("train"), self.images("test")
        cells = [plan.member for plan in self.plans]
        folder = states_of(self.plans, self.states)
        trained = train_group(
            self.network,
            training,
            settings=self.plan.training,
            cells=cells,
            held_out=held_out,
            checkpoint=folder / STATE if folder else None,
            discard=True,
            progress=self._training_progress,
        )
        rows = {cell: [_history(history)] for cell, history in trained.histories.items()}
        spectra: dict[Cell, list[SpectrumRecord]] = {cell: [] for cell in rows}
        errors = dict(trained.failed)
        for number, (cell, network) in enumerate(trained.networks.items()):
            self._say("reading", number, len(trained.networks))
            try:
                found, kept = self._read(network, held_out, epoch=_last_epoch(trained, cell))
            except EigencodeError as error:
                errors[cell] = str(error)
                continue
            rows[cell].append(found)
            spectra[cell] += kept
        self._attack_stacks(trained, held_out, rows)
        seconds = (time.perf_counter() - started) / len(self.plans)
        return [
            CellRecord(
                plan,
                pd.concat(rows[plan.member], ignore_index=True) if plan.member not in errors else pd.DataFrame(columns=ROW),
                [] if plan.member in errors else spectra[plan.member],
                errors.get(plan.member),
                seconds,
            )
            for plan in self.plans
        ]

    def images(self, split: str) -> ImageSet:
        """Training or test images of the plan."""
        told = self.plan.images
        count = told.train_count if split == "train" else told.test_count
        return datasets.load(told.data, split=split, count=count, root=self.data_root)  # type: ignore[arg-type]

    def network(self, cell: Cell) -> nn.Module:
        """A network with the initial weights that its seed decides."""
        told = self.plan.network
        options: dict[str, Any] = dict(told.options)
        return models.load(told.model, image_shape=self.shape, seed=cell.seed, **options).to(self.device)

    def _read(self, network: nn.Module, held_out: ImageSet, *, epoch: int) -> tuple[pd.DataFrame, list[SpectrumRecord]]:
        """Spectra of a network, unperturbed and under every perturbation that is read with spectra."""
        reading = self.plan.reading
        images = held_out.subset(min(reading.count, len(held_out)), seed=0)
        kept = [
            SpectrumRecord(layer, UNPERTURBED, 0.0, spectrum)
            for layer, spectrum in measure(network, images, layers=reading.layers.split(","), half_samples=0).items()
        ]
        rows: list[tuple[str, str, float, str, float]] = []
        for told in reading.perturbations:
            if not told.spectra:
                continue
            subset = images if told.count is None else held_out.subset(min(told.count, len(held_out)), seed=0)
            found = perturbed_spectra(
                network,
                subset,
                self._perturbation(told),
                strengths=told.strengths,
                layers=reading.layers.split(","),
                half_samples=0,
                probe=0,
                name=told.kind,
            )
            for condition in found.conditions:
                if condition.perturbation != UNPERTURBED:
                    kept += [
                        SpectrumRecord(layer, told.kind, condition.strength, spectrum)
                        for layer, spectrum in condition.spectra.items()
                    ]
                rows += [
                    (layer, told.kind, condition.strength, "accuracy", accuracy) for layer, accuracy in condition.accuracy.items()
                ]
        if reading.stimuli:
            for layer in list(dict.fromkeys(record.layer for record in kept)):
                curve = stimulus_curve(collect(network, held_out, layer=layer), counts=reading.stimuli, ranks=reading.ranks)
                for found_at in curve.to_dict("records"):
                    rows += [(layer, STIMULI, found_at["count"], name, found_at[name]) for name in ("alpha", "alpha_sd")]
        for record in kept:
            numbers = _numbers(record.spectrum, reading.ranks)
            rows += [(record.layer, record.perturbation, record.strength, name, value) for name, value in numbers.items()]
        table = pd.DataFrame(rows, columns=["layer", "perturbation", "strength", "quantity", "value"])
        return table.assign(epoch=epoch)[list(ROW)].dropna(subset="value"), kept

    def _attack_stacks(self, trained: Trained, held_out: ImageSet, rows: dict[Cell, list[pd.DataFrame]]) -> None:
        """Accuracies of all networks under attacks whose images are not measured."""
        cells = list(trained.networks)
        for told in self.plan.reading.perturbations:
            if told.spectra or not cells:
                continue
            attack = self._perturbation(told)
            subset = held_out.subset(min(told.count or len(held_out), len(held_out)), seed=0)
            networks = [trained.networks[cell] for cell in cells]
            for epsilon in told.strengths:
                self._say(f"{told.kind} {epsilon:g}", 0, 1)
                table = robust_accuracies(networks, subset, attack, epsilons=[epsilon])
                for _, row in table.iterrows():
                    cell = cells[int(row["member"])]
                    values = ("", told.kind, float(epsilon), _last_epoch(trained, cell), "accuracy", float(row["accuracy"]))
                    rows[cell].append(pd.DataFrame([values], columns=ROW))

    def _perturbation(self, told: Perturbed) -> Any:
        return by_name(told.kind, components=self.components, norm=told.norm, steps=told.steps, step_size=told.step_size)

    def _training_progress(self, done: int, total: int, seen: dict[str, float]) -> None:
        del seen
        self._say("training", done, total)

    def _say(self, stage: str, done: int, total: int) -> None:
        if self.report:
            self.report(stage, done, total)


def _last_epoch(trained: Trained, cell: Cell) -> int:
    """Of all layers together, where one is trained after the other."""
    return int(trained.histories[cell]["epoch"].max())


def states_of(plans: Sequence[Plan], states: Path | None) -> Path | None:
    """Folder for a group's unfinished training, the same whenever the same cells are grouped; it is of one result version."""
    if states is None:
        return None
    return states.absolute() / "-".join((str(RESULT_VERSION), plans[0].group, str(len(plans)), plans[0].identity))


def _numbers(spectrum: Eigenspectrum, ranks: Any) -> dict[str, float]:
    """Exponent, its fit, and dimension; an exponent that cannot be fitted is left out."""
    found = {"dimension": spectrum.dimension, "variance_first_ten": spectrum.variance_explained(10)}
    found["total_variance"] = spectrum.total_variance
    try:
        fit = spectrum.fit(ranks)
    except EigencodeError:
        return found
    return found | {"alpha": fit.alpha, "r2": fit.r2, "stderr": fit.stderr}


def _history(history: pd.DataFrame) -> pd.DataFrame:
    """Training history as tidy rows."""
    names = {
        "loss": (TRAINING, "loss"),
        "accuracy": (TRAINING, "accuracy"),
        "alpha": (TRAINING, "alpha"),
        "skipped": (TRAINING, "skipped"),
        "held_out_accuracy": (HELD_OUT, "accuracy"),
        "held_out_alpha": (HELD_OUT, "alpha"),
    }
    tables = [
        history[["layer", "epoch"]].assign(perturbation=condition, strength=0.0, quantity=quantity, value=history[name])
        for name, (condition, quantity) in names.items()
    ]
    return pd.concat(tables, ignore_index=True)[list(ROW)].dropna(subset="value")
