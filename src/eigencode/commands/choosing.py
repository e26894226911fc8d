"""The study that a command names, and what is said of its cells in a store. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from eigencode.commands.options import StudyChoice
from eigencode.commands.progress import tell
from eigencode.errors import StudyError, UsageError
from eigencode.papers.registry import from_yaml, load
from eigencode.studies.definition import SCALES, Study, smoke_version
from eigencode.studies.yaml import overridden

if TYPE_CHECKING:
    from eigencode.studies import Store, StudyResults


def chosen_study(config: StudyChoice) -> Study:
    """The study that a command names, with its fields changed and in the size asked for.

    Raises:
        StudyError: no such study.
        UsageError: none named, or ``--set`` says what a study cannot be.
    """
    if config.name is None:
        from eigencode.studies.results.database import without_password

        command = shlex.join(["eigencode", "study", "list", "--store", without_password(config.store)])
        raise UsageError(
            f"name a study, such as jiang2020.fig5, or a YAML file. See them all, and what the store has of them, with: {command}"
        )
    is_file = config.name.endswith((".yaml", ".yml"))
    study = from_yaml(Path(config.name)) if is_file else load(config.name, config.scale)
    try:
        if config.set:
            study = overridden(study, config.set)
        if config.smoke:
            study = smoke_version(study)
            if config.set:  # what is said is so in any size
                study = replace(overridden(study, config.set), scale=study.scale)
    except StudyError as error:
        raise UsageError(str(error)) from None
    return study


def refuse_none(evidence: StudyResults, config: StudyChoice, study: Study, store: Store) -> None:
    """Refuses to read a study of which nothing is there.

    Raises:
        StudyError: no cell is finished.
    """
    if not evidence.cells.empty:
        return
    asked = [str(config.name), *(["--smoke"] if config.smoke else [])]
    if config.scale != "cpu" and not str(config.name).endswith((".yaml", ".yml")):
        asked += ["--scale", config.scale]
    if config.set:
        asked += ["--set", config.set]
    what = f"{study.name} ({study.scale}) is finished in {store.address}"
    command = shlex.join(["eigencode", "study", "run", *asked, "--store", store.address])
    if reasons := _reasons(study, store):
        counted = "; ".join(f"{count} failed: {reason.rstrip('.')}" for reason, count in reasons.items())
        raise StudyError(f"no cell of {what}: {counted}. Try again with: {command} --retry")
    raise StudyError(f"no cell of {what}. {_at_other_scales(study, store)}Run it with: {command}")


def _at_other_scales(study: Study, store: Store) -> str:
    """In words, what the store has of a paper's study at its scales."""
    if not study.paper:
        return ""
    shipped = {f"--scale {scale}": study.paper.study(study.figure, scale) for scale in sorted(SCALES)}  # cpu, the default, first
    shipped["--smoke"] = smoke_version(shipped["--scale cpu"])
    there, found = set(store.finished()), dict[frozenset[str], str]()
    for words, other in shipped.items():
        cells = frozenset(plan.identity for plan in other.cells())
        if own := len(cells & there):
            found.setdefault(cells, f"{own} of {len(cells)} cells of {words}")
    return f"It has {' and '.join(found.values())}. " if found else ""


def say_failed(study: Study, store: Store, then: str = "") -> None:
    """How many cells failed, and why, on stderr."""
    for reason, count in _reasons(study, store).items():
        remedy = "" if then else " Run them again with --retry."
        tell(f"{count} failed{then}: {reason.rstrip('.')}.{remedy}")


def _reasons(study: Study, store: Store) -> dict[str, int]:
    """Why cells of a study have failed -> how many."""
    there = store.finished()
    return dict(Counter(reason for plan in study.cells() if (reason := there.get(plan.identity))))


def say_outdated(files: dict[str, int]) -> None:
    """Which files are newer than cells that name them, on stderr."""
    for path, count in files.items():
        tell(f"{path} was changed after {count} of the cells were finished. Run them again with --again.")
