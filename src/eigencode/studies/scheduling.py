"""A study -> groups of cells that are not finished yet -> an engine -> the store."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from torch.utils.flop_counter import FlopCounterMode

from eigencode import datasets, models
from eigencode.datasets import ImageSet
from eigencode.errors import DataError, EigencodeError, ModelError
from eigencode.studies.engines import Engine, Task
from eigencode.studies.materials import Report
from eigencode.studies.running import stack_size, states_of
from eigencode.studies.store import Store
from eigencode.studies.study import Images, Plan, Study, groups_of

_BACKWARD = 3
"""A training step is a forward pass and a backward pass of twice its arithmetic."""

_CLASSES = 10

_PATIENCE = 2.0
"""Seconds between two looks at what other processes are at work on."""

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
    store: Store | None,
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
        store: Where finished cells are; None if there are none.
        again: Count finished cells as missing.
        retry: Count failed cells as missing.
        stack: Networks of a stack. Default: as many as is fast on this device.
        data_root: Folder of data sets.
        device: Where to run.

    Returns:
        Groups; those of which the data or the network is not there have a stack of one.
    """
    there = store.finished() if store else {}
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
    passes = 0.0 if plan.network.weights else plan.training.epochs * (_step_cost(plan) * len(training) + len(test))
    for perturbed in plan.reading.perturbations:
        images = min(perturbed.count or (plan.reading.count if perturbed.spectra else len(test)), len(test))
        steps = {"pgd": perturbed.steps, "fgsm": 1}.get(perturbed.kind, 0)  # images made by others are made once, for all cells
        sites = len(plan.reading.layers.split(",")) if perturbed.kind.startswith("layer_") else 1
        passes += len(perturbed.strengths) * images * sites * (1 + _BACKWARD * steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    units = test.inputs[0].numel() + parameters / max(1, test.inputs[0].numel())
    return forward * passes, 4 * (6 * parameters + 6 * plan.training.batch_size * units) + training.inputs.nbytes


def _step_cost(plan: Plan) -> float:
    """Forward passes that a training step costs for each image."""
    told, cost = plan.training, float(_BACKWARD)
    if told.adversarial.epsilon:
        cost += _BACKWARD * told.adversarial.steps
    if plan.member.jacobian:  # differentiated twice
        rows = {"exact": _CLASSES, "projected": told.jacobian.projections}.get(told.jacobian.kind, 1)
        cost += _BACKWARD * (1 + rows)
    return cost


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


class _Claims:
    """Tasks that no other process is at work on, each locked from when an engine takes it until it is released.

    The locks are the system's, on files beside the states: they end with the process, however it ends.

    Args:
        tasks: Tasks.
        store: Asked for cells that another process has finished meanwhile.
        before: Cells that were there when the tasks were planned, and why those failed that did.

    Attributes:
        busy: Tasks that others are at work on.
        found: Cells that others have finished.
        served: Tasks that an engine took.
    """

    def __init__(self, tasks: Sequence[Task], store: Store, before: Mapping[str, str | None]) -> None:
        self._tasks, self._store, self._before = tasks, store, before
        self._locks: dict[Path, FileLock] = {}
        self.busy: list[Task] = []
        self.found = self.served = 0

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            folder = states_of(task.plans, task.states)
            if folder:
                folder.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder.with_suffix(".lock"))
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    self.busy.append(task)
                    continue
                self._locks[folder] = lock
            now = self._store.finished()
            if any(now.get(plan.identity, "") != self._before.get(plan.identity, "") for plan in task.plans):
                self.found += len(task.plans)  # groups are stored whole
                self.release(task)
                continue
            self.served += 1
            yield task

    def release(self, task: Task, *, keep: bool = False) -> None:
        """Lets others have a task, and, unless it is to be kept, removes what is left of its training: its cells are stored."""
        folder = states_of(task.plans, task.states)
        if folder is None:
            return
        lock = self._locks.pop(folder)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)
        lock.release()

    def close(self) -> None:
        """Lets others have what has not ended; what was kept of its training stays."""
        for lock in self._locks.values():
            lock.release()


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
    before = store.finished()
    groups = plan_groups(study, store, again=again, retry=retry, stack=stack, data_root=data_root, device=device)
    identities = [plan.identity for group in groups for plan in group.plans]
    summary = Summary(len(identities))
    progress = {"done": len(identities) - sum(len(group.missing) for group in groups), "failed": 0}

    def tell() -> None:
        if ended:
            ended(progress["done"], progress["failed"], len(identities))

    tell()
    waiting = [Task(group.missing, data_root, device, states) for group in groups if group.missing]
    while waiting:
        claims = _Claims(waiting, store, before)
        try:
            for outcome in engine.run(claims, report):
                if outcome.reason:
                    summary.unstarted[outcome.reason] = summary.unstarted.get(outcome.reason, 0) + len(outcome.task.plans)
                else:
                    store.save(outcome.records, again=again)
                    failures = sum(record.error is not None for record in outcome.records)
                    summary.new += len(outcome.records) - failures
                    progress["done"] += len(outcome.records)
                    progress["failed"] += failures
                claims.release(outcome.task, keep=bool(outcome.reason))
                tell()
        finally:
            claims.close()
        progress["done"] += claims.found
        waiting = claims.busy
        if waiting and not claims.served:
            if report:
                report("waiting for another process", 0, 1)
            time.sleep(_PATIENCE)
    tell()
    there = store.finished()
    summary.failed = {identity: error for identity in identities if (error := there.get(identity))}
    summary.finished = sum(identity in there and there[identity] is None for identity in identities)
    summary.seconds = time.perf_counter() - started
    return summary
