"""Where groups of cells run: in this process, or on the machines of a Ray cluster. The results are the same."""

from __future__ import annotations

import errno
import itertools
import math
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from eigencode import _signals
from eigencode._allocator import keep_freed_memory
from eigencode._arguments import checked
from eigencode.errors import DataError, DiskError, EigencodeError, ModelError, StudyError
from eigencode.studies.execution.group import CellRecord, Task, failed_group, run_group
from eigencode.studies.execution.materials import Report

_PATIENCE = 5.0
"""Seconds in which a cluster must answer."""

_LOOK = 2.0
"""Seconds between two looks at what a cluster is using."""

_AHEAD = 2
"""Tasks that a cluster is given for each that it has room for: some wait there, so that it grows if it can; the others are left
to other processes."""


@dataclass(frozen=True)
class TaskResult:
    """A task that has ended.

    Attributes:
        task: The task.
        records: Its cells' records; empty if it could not start.
        reason: Why it could not start: data or a network that is not there.
        interrupted: Whether it came to an end that none of its settings explains, such as out of memory: what it had trained is
            kept, for when it is tried again.
    """

    task: Task
    records: list[CellRecord]
    reason: str | None = None
    interrupted: bool = False


class Engine(Protocol):
    """Runs tasks."""

    def run(self, tasks: Iterable[Task], report: Report | None = None) -> Iterator[TaskResult]:
        """Yields each task as it ends; a task is locked from when it is taken, so take no more than will soon be run."""
        ...


class Local:
    """One task after the other, in this process."""

    def run(self, tasks: Iterable[Task], report: Report | None = None) -> Iterator[TaskResult]:
        """See ``Engine``."""
        for task in tasks:
            yield run_task(task, report)


class RayEngine:
    """Tasks on a Ray cluster, as many at once as its resources allow.

    Args:
        address: Of a running cluster, such as 10.0.0.1:6379 or auto. Default: a cluster of this machine alone, for this run.
        cpus: Cores of each task.
        gpus: GPUs of each task, or a fraction of one.
        retries: Times that a task is started again when its worker dies.

    Raises:
        StudyError: Ray is not installed, no such share of a machine can be had, or the cluster cannot be reached (told now, or
            when it runs).
    """

    @checked(StudyError)
    def __init__(self, address: str | None = None, *, cpus: float = 1, gpus: float = 0, retries: int = 3) -> None:
        try:
            import ray
        except ImportError:
            raise StudyError("--engine ray needs Ray. Install it with: pip install 'eigencode[cluster]'") from None
        _refuse_no_share(cpus, gpus, retries)
        self._ray, self._address, self._cpus, self._gpus, self._retries = ray, address, cpus, gpus, retries
        if self._address and "://" not in self._address and ":" in self._address:
            host, _, port = self._address.rpartition(":")
            try:  # Ray itself tries for minutes
                socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
            except (OSError, ValueError) as error:
                raise StudyError(
                    f"--address {self._address}: no Ray cluster can be reached there ({error}). Check the address."
                ) from None

    def run(self, tasks: Iterable[Task], report: Report | None = None) -> Iterator[TaskResult]:
        """See ``Engine``."""
        given = iter(tasks)
        first = next(given, None)
        if first is None:
            return
        ray = self._ray
        self._start()
        lacking = self._lacking()
        if lacking and not self._address:
            ray.shutdown()
            raise StudyError(f"--engine ray: {lacking}. Ask for less with --cpus and --gpus.")
        remote = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=self._retries)(_run_in_worker)
        folder = Path.cwd()
        waiting: dict[Any, Task] = {remote.remote(first, folder): first}
        try:
            while waiting:
                for task in itertools.islice(given, max(0, _AHEAD * self._at_once() - len(waiting))):
                    waiting[remote.remote(task, folder)] = task
                while not (ready := ray.wait(list(waiting), num_returns=1, timeout=_LOOK)[0]):
                    if report:  # of tasks elsewhere nothing is known until they end
                        report(", ".join(filter(None, (self._in_use(), self._lacking()))), 0, 0, "")
                (ended,) = ready
                task = waiting.pop(ended)
                try:
                    yield ray.get(ended)
                except ray.exceptions.WorkerCrashedError:
                    yield TaskResult(
                        task, failed_group(task.plans, f"the worker died {self._retries + 1} times"), interrupted=True
                    )
                except ray.exceptions.RayError as error:
                    yield TaskResult(task, [], f"Ray: {' '.join(str(error).split())[:200]}")
        finally:
            ray.shutdown()

    def _at_once(self) -> int:
        """Tasks that the cluster has room for, as it is now."""
        there = self._ray.cluster_resources()
        wanted = {"CPU": self._cpus, "GPU": self._gpus}
        return max(1, int(min(there.get(name, 0) / amount for name, amount in wanted.items() if amount)))

    def _lacking(self) -> str:
        """What no machine that is there now has, in words; of a cluster that grows, one may come."""
        wanted = {"CPU": self._cpus, "GPU": self._gpus}
        machines = [machine["Resources"] for machine in self._ray.nodes() if machine["Alive"]]
        if any(all(machine.get(name, 0) >= amount for name, amount in wanted.items()) for machine in machines):
            return ""
        return f"no machine has {self._cpus:g} cores" + (f" and {self._gpus:g} GPUs" if self._gpus else "")

    def _in_use(self) -> str:
        """Cores and GPUs at work, of those there are."""
        there, free = self._ray.cluster_resources(), self._ray.available_resources()
        names = {"CPU": "cores", "GPU": "GPUs"}
        return ", ".join(
            f"{there[key] - free.get(key, 0):g} of {there[key]:g} {name}" for key, name in names.items() if key in there
        )

    def _start(self) -> None:
        options: dict[str, Any] = {"address": self._address} if self._address else {"include_dashboard": False}
        try:
            with _signals.kept():
                self._ray.init(log_to_driver=False, configure_logging=False, **options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StudyError(
                f"--address {self._address}: no Ray cluster can be reached there ({reason}). Check the address."
            ) from None


def _refuse_no_share(cpus: float, gpus: float, retries: int) -> None:
    if not 0 < cpus < math.inf:
        raise StudyError(f"--cpus must be above 0, or a machine is given all groups at once; got {cpus:g}. Leave it out for 1.")
    if not (0 <= gpus <= 1 or (gpus > 1 and float(gpus).is_integer())):
        raise StudyError(f"--gpus must be 0, a fraction of a GPU or a whole number of them; got {gpus:g}.")
    if retries < 0:
        raise StudyError(f"--retries must be at least 0; got {retries}.")


def _run_in_worker(task: Task, folder: Path) -> TaskResult:
    """Runs a task in a process that is the cluster's; where the caller's folder is there too, its files are found from it."""
    keep_freed_memory()
    if folder.is_dir():
        os.chdir(folder)
    return run_task(task)


def run_task(task: Task, report: Report | None = None) -> TaskResult:
    """Runs a task; what goes wrong becomes part of the records."""
    try:
        records = run_group(task, report)
    except (DataError, DiskError, ModelError) as error:
        return TaskResult(task, [], str(error))
    except torch.OutOfMemoryError as error:  # of a GPU that others use too, or of an estimate that was too low
        if len(task.plans) == 1:
            return TaskResult(task, failed_group(task.plans, " ".join(str(error).split())[:300]), interrupted=True)
    except Exception as error:  # out of memory, a defect: the other groups go on
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return TaskResult(
                task, [], f"{error.filename or 'a file'} cannot be written ({error.strerror}). Make room and start again."
            )
        reason = (
            str(error) if isinstance(error, EigencodeError) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        )
        return TaskResult(task, failed_group(task.plans, reason), interrupted=True)
    else:
        return TaskResult(task, records)
    return _in_halves(task, report)  # here, where the error is gone and with it all that its frames held on the GPU


def _in_halves(task: Task, report: Report | None) -> TaskResult:
    """Runs a task as two smaller stacks, whose unfinished training is kept in the folder of the whole."""
    torch.cuda.empty_cache()
    middle = len(task.plans) // 2
    halves = [
        run_task(replace(task, plans=plans, folder=task.folder and task.folder / name), report)
        for name, plans in (("first", task.plans[:middle]), ("second", task.plans[middle:]))
    ]
    reason = next((half.reason for half in halves if half.reason), None)
    interrupted = any(half.interrupted for half in halves)
    return TaskResult(task, [] if reason else [record for half in halves for record in half.records], reason, interrupted)
