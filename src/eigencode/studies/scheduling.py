"""A study -> groups of cells that are not finished yet -> an engine -> the store."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from eigencode import datasets, models
from eigencode.datasets import ImageSet
from eigencode.errors import DataError, EigencodeError, ModelError
from eigencode.studies.engines import Engine, Task
from eigencode.studies.running import Report, stack_size, states_of
from eigencode.studies.store import Store
from eigencode.studies.study import Images, Plan, Study, groups_of

_BACKWARD = 3
"""A training step is a forward pass and a backward pass of twice its arithmetic."""

_SHARE_OF_PEAK = 0.4
"""Of a matrix product's speed that trainings of small networks reached."""

Ended = Callable[[int, int, int], None]
"""Called with cells finished, failed, and in all."""


@dataclass(frozen=True)
class Group:
    """Cells that are trained as one stack.

    Attributes:
        plans: The cells.
        missing: Those that are not in the store.
        stack: Networks that a stack may have here.
        seconds: Estimated time for the missing ones on this machine; NaN where it cannot be estimated.
        memory: Estimated bytes.
    """

    plans: tuple[Plan, ...]
    missing: tuple[Plan, ...]
    stack: int
    seconds: float = math.nan
    memory: float = math.nan


@dataclass
class Summary:
    """What a run of a study came to.

    Attributes:
        cells: Cells in all.
        finished: Cells in the store without an error.
        new: Cells that this run finished.
        failed: Identity -> why, of cells in the store with an error.
        unstarted: Reasons why groups could not start -> cells concerned.
        seconds: Seconds of this run.
    """

    cells: int
    finished: int = 0
    new: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    unstarted: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def plan_groups(
    study: Study,
    store: Store,
    *,
    again: bool = False,
    retry: bool = False,
    stack: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
) -> list[Group]:
    """Groups of a study's cells, the same whatever is finished already.

    Args:
        study: Study.
        store: Where finished cells are.
        again: Count finished cells as missing.
        retry: Count failed cells as missing.
        stack: Networks of a stack. Default: as many as is fast on this device.
        data_root: Folder of data sets.
        device: Where to run.

    Returns:
        Groups; those of which the data or the network is not there have a stack of one.
    """
    there = store.finished()
    kept = {} if again else {identity: error for identity, error in there.items() if not (retry and error)}
    groups = []
    for plans in groups_of(study.cells()):
        try:
            size = stack_size(plans[0], data_root=data_root, device=device, asked=stack)
        except (DataError, ModelError):
            size = 1  # the engine says why
        for start in range(0, len(plans), size):
            part = tuple(plans[start : start + size])
            groups.append(Group(part, tuple(plan for plan in part if plan.identity not in kept), size))
    return groups


def estimated(groups: Sequence[Group], *, data_root: str | None = None) -> list[Group]:
    """Groups with a rough time on one CPU process of this machine, and memory: arithmetic over measured speed."""
    speed = _SHARE_OF_PEAK * _products_per_second()
    found = []
    for group in groups:
        try:
            operations, memory = _cost(group.plans[0], data_root)
        except EigencodeError:
            found.append(group)
            continue
        seconds = operations * len(group.missing) / speed
        found.append(Group(group.plans, group.missing, group.stack, seconds, memory * min(group.stack, len(group.plans))))
    return found


def _cost(plan: Plan, data_root: str | None) -> tuple[float, float]:
    """Operations and bytes for one cell."""
    training, test = (_images(plan.images, split, data_root) for split in ("train", "test"))
    options: dict[str, int | float] = dict(plan.network.options)
    network = models.load(plan.network.model, image_shape=test.shape, **options)  # type: ignore[arg-type]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(test.inputs[:1])
    forward = counter.get_total_flops()
    passes = plan.training.epochs * (_BACKWARD * len(training) + len(test))
    for perturbed in plan.reading.perturbations:
        images = min(perturbed.count or (plan.reading.count if perturbed.spectra else len(test)), len(test))
        steps = {"pgd": perturbed.steps, "fgsm": 1}.get(perturbed.kind, 0)
        sites = len(plan.reading.layers.split(",")) if perturbed.kind.startswith("layer_") else 1
        passes += len(perturbed.strengths) * images * sites * (1 + _BACKWARD * steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    units = test.inputs[0].numel() + parameters / max(1, test.inputs[0].numel())
    return forward * passes, 4 * (6 * parameters + 6 * plan.training.batch_size * units) + training.inputs.nbytes


@lru_cache(maxsize=4)
def _images(told: Images, split: Literal["train", "test"], data_root: str | None) -> ImageSet:
    count = told.train_count if split == "train" else told.test_count
    return datasets.load(told.data, split=split, count=count, root=data_root)


def _products_per_second(order: int = 1000) -> float:
    matrix = torch.randn(order, order)
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * order**3 / best


def run_study(
    study: Study,
    store: Store,
    engine: Engine,
    *,
    again: bool = False,
    retry: bool = False,
    stack: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
    states: Path | None = None,
    report: Report | None = None,
    ended: Ended | None = None,
) -> Summary:
    """Runs the cells of a study that are not in the store yet, and stores each group as it ends.

    Args:
        study: Study.
        store: Where finished cells are and go.
        engine: Runs the groups.
        again: Run finished cells again, and replace them.
        retry: Run cells again that failed.
        stack: Networks of a stack. Default: as many as is fast on this device.
        data_root: Folder of data sets.
        device: Where to run. Default: CUDA where there is one.
        states: Folder for unfinished training; a run that was killed goes on from there.
        report: Called while a group is worked on.
        ended: Called whenever a group has ended.

    Returns:
        Summary.
    """
    started = time.perf_counter()
    groups = plan_groups(study, store, again=again, retry=retry, stack=stack, data_root=data_root, device=device)
    identities = [plan.identity for group in groups for plan in group.plans]
    tasks = [Task(group.missing, data_root, device, states) for group in groups if group.missing]
    summary = Summary(len(identities))
    missing = sum(len(task.plans) for task in tasks)
    done = len(identities) - missing
    failures = 0
    if ended:
        ended(done, failures, len(identities))
    for outcome in engine.run(tasks, report):
        if outcome.reason:
            summary.unstarted[outcome.reason] = summary.unstarted.get(outcome.reason, 0) + len(outcome.task.plans)
            continue
        store.save(outcome.records, again=again)
        folder = states_of(outcome.task.plans, states)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        failures += sum(record.error is not None for record in outcome.records)
        summary.new += sum(record.error is None for record in outcome.records)
        done += len(outcome.records)
        if ended:
            ended(done, failures, len(identities))
    there = store.finished()
    summary.failed = {identity: error for identity in identities if (error := there.get(identity))}
    summary.finished = sum(identity in there and there[identity] is None for identity in identities)
    summary.seconds = time.perf_counter() - started
    return summary
