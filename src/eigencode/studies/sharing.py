"""Groups of cells shared between processes: each is trained by one of them at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from eigencode.studies.engines import Task
from eigencode.studies.running import states_of
from eigencode.studies.store import Store


class FreeTasks:
    """Tasks that no other process is at work on, each locked from when an engine takes it until it is released.

    The locks are on files beside the states, and the system's own: it takes them back from a process that has been killed.

    Args:
        tasks: Tasks.
        store: Asked for cells that other processes have finished meanwhile.
        before: When the cells were finished that were there when the tasks were planned.

    Attributes:
        busy: Tasks that others are at work on.
        taken: Tasks that an engine took.
    """

    def __init__(self, tasks: Sequence[Task], store: Store, before: Mapping[str, str]) -> None:
        self._tasks, self._store, self._before = tasks, store, before
        self._locks: dict[Path, tuple[FileLock, Path]] = {}
        self.busy: list[Task] = []
        self.taken = 0

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            folder = states_of(task.plans, task.states)
            lock = None
            if folder:
                folder.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder.with_suffix(".lock"))
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    self.busy.append(task)
                    continue
            now = self._store.stamps()
            missing = tuple(plan for plan in task.plans if now.get(plan.identity) == self._before.get(plan.identity))
            rest = replace(task, plans=missing or task.plans)
            own = states_of(rest.plans, rest.states)
            if lock and folder and own:
                self._locks[own] = lock, folder
            if missing:
                self.taken += 1
                yield rest
            else:
                self.release(rest, keep=True)  # whoever stored these cells may have kept their training, for a retry

    def release(self, task: Task, *, keep: bool = False) -> None:
        """Lets others have a task, and, unless it is to be kept, removes what is left of its training: its cells are stored."""
        folder = states_of(task.plans, task.states)
        if folder is None:
            return
        lock, locked = self._locks.pop(folder)
        if not keep:
            for path in {folder, locked}:
                shutil.rmtree(path, ignore_errors=True)
        if not folder.exists() and not locked.exists():
            locked.with_suffix(".lock").unlink(missing_ok=True)  # who waits for it will find the cells in the store
        lock.release()

    def close(self) -> None:
        """Lets others have what has not ended; what was kept of its training stays."""
        for lock, _ in self._locks.values():
            lock.release()
