"""Groups of cells shared between processes: each is trained by one of them at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from eigencode._files import locked
from eigencode.studies.cell import CellConfig
from eigencode.studies.execution.group import Task, states_of
from eigencode.studies.results.store import Store


class UnclaimedTasks:
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
        self._held: dict[Path, dict[Path, FileLock]] = {}
        self.busy: list[Task] = []
        self.taken = 0

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            locks: dict[Path, FileLock] = {}
            rest = self._claimed(task, locks)
            if rest is None:
                _release(locks)
                self.busy.append(task)
                continue
            if rest.folder:
                self._held[rest.folder] = locks
            if rest.plans:
                self.taken += 1
                yield rest
            else:
                self.release(rest, keep=True)  # whoever stored these cells may have kept their training, for a retry

    def _claimed(self, task: Task, locks: dict[Path, FileLock]) -> Task | None:
        """What is left to do of a task, once it and that are locked; None while another process has either."""
        whole = states_of(task.plans, task.states)
        if not _locked(whole, locks):
            return None
        now = self._store.stamps()
        missing = tuple(plan for plan in task.plans if now.get(plan.identity) == self._before.get(plan.identity))
        rest = replace(task, plans=missing, folder=states_of(missing, task.states) if missing else whole)
        if not _locked(rest.folder, locks):
            return None
        if rest.folder:
            _remove_leftover(rest.folder, missing, self._store)
        return rest

    def release(self, task: Task, *, keep: bool = False) -> None:
        """Lets others have a task, and, unless it is to be kept, removes what is left of its training: its cells are stored."""
        if task.folder is None:
            return
        locks = self._held.pop(task.folder)
        if not keep:
            for folder in locks:
                shutil.rmtree(folder, ignore_errors=True)
        _let_go(locks)

    def close(self) -> None:
        """Lets others have what has not ended; what was kept of its training stays."""
        for locks in self._held.values():
            _release(locks)


def tidy(plans: Sequence[CellConfig], states: Path | None, store: Store) -> None:
    """Removes what a process left of a group's training that was killed right after it had stored the cells.

    Args:
        plans: The group's cells.
        states: Folder for unfinished training.
        store: Where the cells are.
    """
    folder, locks = states_of(plans, states), dict[Path, FileLock]()
    if folder and folder.exists() and _locked(folder, locks):
        _remove_leftover(folder, plans, store)
        _let_go(locks)


def remove_stale_locks(states: Path | None) -> None:
    """Removes the locks that killed processes left of groups without unfinished training."""
    for path in states.glob("*.lock") if states else ():
        folder, locks = path.with_suffix(""), dict[Path, FileLock]()
        if not folder.exists() and _locked(folder, locks):
            _let_go(locks)


def _locked(folder: Path | None, locks: dict[Path, FileLock]) -> bool:
    """Whether a group's folder is this process's, which adds its lock; False while it is another's."""
    if folder is None or folder in locks:
        return True
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        locks[folder] = locked(folder.with_suffix(".lock"), wait=False)
    except Timeout:
        return False
    return True


def _let_go(locks: Mapping[Path, FileLock]) -> None:
    """Releases the locks of what is stored, or kept for a retry."""
    for folder, lock in locks.items():
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)  # who waits for it will find the cells in the store
    _release(locks)


def _release(locks: Mapping[Path, FileLock]) -> None:
    for lock in locks.values():
        lock.release()


def _remove_leftover(folder: Path, plans: Sequence[CellConfig], store: Store) -> None:
    """Removes training older than the results of these cells, which came of it; what another try has trained is newer."""
    written = [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]
    stamps, errors = store.stamps(), store.finished()
    results = [datetime.fromisoformat(stamps[plan.identity]) for plan in plans if errors.get(plan.identity, "missing") is None]
    if results and datetime.fromtimestamp(max(written, default=0), UTC) < min(results):
        shutil.rmtree(folder, ignore_errors=True)
