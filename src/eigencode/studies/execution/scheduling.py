"""A study -> groups of cells that are not finished yet -> an engine -> the store."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eigencode._arguments import checked
from eigencode.errors import DataError, ModelError, NotDownloadedError, SpectrumError, StudyError
from eigencode.models.loading import own_code
from eigencode.penalties.forms import DEFAULT_WINDOW
from eigencode.spectra.window import Window
from eigencode.studies.cell import CellConfig, groups_of
from eigencode.studies.definition import Study
from eigencode.studies.execution.engines import Engine, TaskResult
from eigencode.studies.execution.group import Task, stack_size, without_exponent
from eigencode.studies.execution.materials import Report
from eigencode.studies.execution.sharing import UnclaimedTasks, remove_stale_locks, tidy
from eigencode.studies.results.store import Store

_PATIENCE = 2.0
"""Seconds between two looks at what other processes are at work on."""

Ended = Callable[[int, int, int], None]
"""Called with cells done, those of them that failed, and all."""


@dataclass(frozen=True)
class Group:
    """Cells that are trained as one stack.

    Attributes:
        plans: The cells.
        missing: Those that are not in the store.
        stack: Networks that a stack may have here; None where it cannot be known without running the network's own code.
        seconds: Estimated time for the missing ones on this machine; NaN where it cannot be estimated.
        memory: Estimated bytes.
        reason: Why the group cannot start here, if it cannot: data or a network that is not there.
        absent: What a run downloads first.
    """

    plans: tuple[CellConfig, ...]
    missing: tuple[CellConfig, ...]
    stack: int | None
    seconds: float = math.nan
    memory: float = math.nan
    reason: str | None = None
    absent: str | None = None


@dataclass
class Summary:
    """What a run of a study came to.

    Attributes:
        cells: Cells in all.
        finished: Cells in the store without an error.
        new: Cells that this run finished.
        failed: Identity -> why, of cells in the store with an error.
        unstarted: Reasons why groups could not start -> cells concerned.
        kept: Reasons why another try came to an end -> cells that keep their earlier result.
        outdated: File -> cells that were finished before it was last changed.
        without_exponent: Layer -> new cells whose spectrum of test images does not reach the ranks of the fit there.
        seconds: Seconds of this run.
    """

    cells: int
    finished: int = 0
    new: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    unstarted: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    outdated: dict[str, int] = field(default_factory=dict)
    without_exponent: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@checked(StudyError)
def plan_groups(
    study: Study,
    store: Store | None,
    *,
    again: bool = False,
    retry: bool = False,
    stack: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
    look_only: bool = False,
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
        look_only: Run no code that the study names, and download nothing; networks of which it is then not known how many fit
            in a stack are one group.

    Returns:
        Groups, those that cannot start with the reason.

    Raises:
        StudyError: ranks that are none, or beyond the images that are read.
    """
    for plan in study.cells():
        _check_ranks(plan, few_images=study.scale in ("smoke", "train"))
    there = store.finished() if store else {}
    kept = {} if again else {identity: error for identity, error in there.items() if not (retry and error)}
    groups = []
    for plans in groups_of(study.cells()):
        reason, absent, size = None, None, stack
        dearest = max(plans, key=lambda plan: plan.member.jacobian)
        try:
            if not (look_only and own_code(dearest.network.model)):
                size = stack_size(dearest, data_root=data_root, device=device, asked=stack, download=not look_only)
        except NotDownloadedError:
            absent = dearest.images.data
        except (DataError, ModelError) as error:
            size, reason = 1, str(error)
        for path in plans[0].named_files:
            if reason is None and not os.path.exists(path):
                reason = f"{path} does not exist. Bring it, or check the path."
        for start in range(0, len(plans), size or len(plans)):
            part = tuple(plans[start : start + (size or len(plans))])
            groups.append(
                Group(part, tuple(plan for plan in part if plan.identity not in kept), size, reason=reason, absent=absent)
            )
    return groups


def _check_ranks(plan: CellConfig, *, few_images: bool) -> None:
    """Refuses before hours of training what would have no exponent after them; with few images, some may have none."""
    spectral, reading = plan.training.spectral, plan.reading
    for place, ranks in (("training.spectral", spectral.ranks), ("reading", reading.ranks)):
        try:
            window = Window.of(ranks or DEFAULT_WINDOW[spectral.form])
        except SpectrumError as error:
            raise StudyError(f"{place}: {error}") from None
        if place == "training.spectral" and _is_penalised(plan) and not few_images:
            batch = min(plan.training.batch_size, plan.images.train_count or plan.training.batch_size)
            if window.last >= batch:
                raise StudyError(
                    f"training.spectral: `ranks` {window} need batches of {window.last + 1} images; got {batch}. "
                    "Enlarge the batch, or lower the last rank."
                )
    images = min(reading.count, plan.images.test_count or reading.count)
    if window.last >= images and not few_images:
        raise StudyError(
            f"reading: `ranks` {window} reach beyond the {images - 1} eigenvalues of a code of {images} "
            "images. Read more images, or lower the last rank."
        )


def _is_penalised(plan: CellConfig) -> bool:
    """Whether the network is trained with a spectral penalty."""
    return bool(plan.member.beta and plan.training.spectral.layers and not plan.network.weights)


def outdated(plans: Iterable[CellConfig], finished: Mapping[str, str]) -> dict[str, int]:
    """Files that were changed after cells that name them were finished: what is kept of those cells may not be of these files.

    Args:
        plans: Cells.
        finished: Identity -> when it was stored, as in ``Store.stamps``.

    Returns:
        File -> cells concerned.
    """
    found: Counter[str] = Counter()
    changed: dict[Path, datetime] = {}
    for plan in plans:
        for path in plan.files if plan.identity in finished else ():
            if path not in changed:
                changed[path] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if changed[path] > datetime.fromisoformat(finished[plan.identity]):
                found[str(path)] += 1
    return dict(found)


@checked(StudyError)
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
    weights: Path | None = None,
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
        weights: Folder for the weights of trained networks, as IDENTITY.safetensors. Default: they are not kept.
        report: Called while a group is worked on.
        ended: Called whenever a group has ended.

    Returns:
        Summary.
    """
    started = time.perf_counter()
    before, results = store.stamps(), {identity for identity, error in store.finished().items() if error is None}
    groups = plan_groups(study, store, again=again, retry=retry, stack=stack, data_root=data_root, device=device)
    identities = [plan.identity for group in groups for plan in group.plans]
    summary = Summary(len(identities))
    missing = [plan.identity for group in groups for plan in group.missing]
    failures = 0

    def tell() -> None:
        if ended:  # others may have finished some, too
            now = store.stamps()
            left = sum(now.get(identity) == before.get(identity) for identity in missing)
            ended(len(identities) - left, failures, len(identities))

    tell()
    remove_stale_locks(states)
    for group in groups:
        if not group.missing:
            tidy(group.plans, states, store)
    waiting = [Task(group.missing, data_root, device, states, weights=weights) for group in groups if group.missing]
    while waiting:
        free = UnclaimedTasks(waiting, store, before)
        try:
            for outcome in engine.run(free, report):
                failures += _taken(outcome, summary, store, results, again=again)
                whole = all(record.error for record in outcome.records)  # of a part, a retry makes a group of its own
                free.release(outcome.task, keep=bool(outcome.reason) or (outcome.interrupted and whole))
                tell()
        finally:
            free.close()
        waiting = free.busy
        if waiting and not free.taken:
            tell()
            if report:
                report("waiting for another process", 0, 1, "")
            time.sleep(_PATIENCE)
    tell()
    _add_up(summary, identities, store, again=again)
    summary.outdated = outdated(study.cells(), store.stamps())
    summary.seconds = time.perf_counter() - started
    return summary


def _add_up(summary: Summary, identities: Sequence[str], store: Store, *, again: bool) -> None:
    """Counts the cells that are in the store, whoever has run them."""
    there = store.finished()
    summary.failed = {identity: error for identity in identities if (error := there.get(identity))}
    summary.finished = sum(identity in there and there[identity] is None for identity in identities)
    if not again and summary.finished == summary.cells:
        summary.unstarted = {}  # another process has finished them


def _taken(outcome: TaskResult, summary: Summary, store: Store, results: set[str], *, again: bool) -> int:
    """Stores what a group left and counts it; returns how many cells failed that have no earlier result."""

    def count(counted: dict[str, int], reasons: Iterable[str]) -> None:
        for reason in reasons:
            counted[reason] = counted.get(reason, 0) + 1

    if outcome.reason:
        count(summary.unstarted, [outcome.reason] * len(outcome.task.plans))
        return 0
    store.save([each for each in outcome.records if not (each.error and outcome.interrupted)], again=again)
    lost = [each for each in outcome.records if each.error and outcome.interrupted]
    store.save(lost)  # a result that was there stays: it is worth more than the end of another try
    kept = [str(each.error) for each in lost if each.plan.identity in results]
    count(summary.kept, kept)
    count(summary.without_exponent, (layer for record in outcome.records for layer in without_exponent(record)))
    failed = sum(record.error is not None for record in outcome.records)
    summary.new += len(outcome.records) - failed
    return failed - len(kept)
