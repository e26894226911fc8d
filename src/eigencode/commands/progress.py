"""Progress on stderr: a bar on a terminal, a line a minute in a log file."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from eigencode._text import printable

_BETWEEN_LINES = 60.0
"""Seconds between two lines where stderr is no terminal."""


class ProgressBar(Protocol):
    """Shows a stage, how much of it is done, how much there is, and a note."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Shows where a stage is."""


@dataclass
class Stage:
    """How far a stage is, and since when.

    Attributes:
        total: How much there is; 0 if unknown.
        first: How much was done when it was seen first.
        done: How much is done.
        note: A note.
        started: When it was seen first, in seconds of a monotonic clock.
        changed: When ``done`` grew last.
    """

    total: int
    first: int
    done: int
    note: str = ""
    started: float = field(default_factory=lambda: time.monotonic())
    changed: float = field(default_factory=lambda: time.monotonic())

    @property
    def left(self) -> float:
        """Seconds left at the pace so far; NaN before anything was done, or when the last is overdue."""
        if self.total <= self.done or self.done <= self.first:
            return math.nan
        pace = (self.changed - self.started) / (self.done - self.first)
        others = pace * (self.total - self.done - 1)  # the one that is being done may be overdue
        seconds = max(others + pace - (time.monotonic() - self.changed), others)
        return seconds if seconds > 0 else math.nan


class Stages(dict[str, Stage]):
    """Stages by name."""

    def update_stage(self, name: str, done: int, total: int, note: str = "") -> Stage:
        """The stage as it is now; one that starts over or has another size is a new one."""
        known = self.get(name)
        if known is None or done < known.done or total != known.total:
            known = self[name] = Stage(total, done, done)
        elif done > known.done:
            known.done, known.changed = done, time.monotonic()
        known.note = note
        return known


def duration(seconds: float) -> str:
    """Seconds in words, such as 1.5 h; "?" for NaN."""
    if math.isnan(seconds):
        return "?"
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


def tell(text: str) -> None:
    """A line on stderr, in which the names that others chose are text and nothing else."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressBar]:
    """Progress on stderr with the time left: a bar for each stage, or lines, a minute apart, where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        stages, tasks = Stages(), dict[str, TaskID]()

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            stages.update_stage(stage, done, total, note)
            if stage not in tasks:
                tasks[stage] = bar.add_task("", total=total or None, left="")
            described = printable(f"{title}: {stage}  {note}".rstrip())
            bar.update(tasks[stage], completed=done, total=total or None, description=described)
            for name, task in tasks.items():
                bar.update(task, left=_left(stages[name]))

        yield report


class _Lines:
    """Progress for log files."""

    def __init__(self, title: str) -> None:
        self.title, self.stages, self.said = title, Stages(), time.monotonic()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Says where all stages are, if the last line is long ago."""
        self.stages.update_stage(stage, done, total, note)
        if time.monotonic() - self.said >= _BETWEEN_LINES:
            self.said = time.monotonic()
            parts = [" ".join(f"{name} {_counted(each)} {each.note} {_left(each)}".split()) for name, each in self.stages.items()]
            tell(f"{self.title}: {'; '.join(parts)}")


def _counted(stage: Stage) -> str:
    if stage.total:
        return f"{stage.done} of {stage.total}"
    return str(stage.done or "")


def _left(stage: Stage) -> str:
    seconds = stage.left
    return "" if math.isnan(seconds) else f"({duration(seconds)} left)"
