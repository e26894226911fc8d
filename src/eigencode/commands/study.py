"""``eigencode study``, and how other commands choose and run one."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from eigencode.commands.common import usable_device
from eigencode.commands.options import StudyChoice, StudyConfig, StudyRun
from eigencode.commands.progress import duration, progress_bar, tell
from eigencode.datasets import data_root
from eigencode.errors import StudyError, UsageError
from eigencode.models.loading import own_code
from eigencode.papers.listing import kind_of, listed
from eigencode.provenance import in_use
from eigencode.reports import print_rows
from eigencode.studies import (
    Local,
    RayEngine,
    Store,
    Study,
    StudyResults,
    from_yaml,
    load,
    overridden,
    plan_groups,
    run_study,
    smoke_version,
)
from eigencode.studies.definition import SCALES
from eigencode.studies.execution.engines import Engine
from eigencode.studies.execution.estimating import estimated
from eigencode.studies.execution.scheduling import Group, Summary, outdated
from eigencode.studies.results.database import without_password
from eigencode.studies.results.table import flat
from eigencode.studies.yaml import to_yaml


def run(config: StudyConfig) -> None:
    """Lists, shows, plans, runs or merges."""
    if config.action == "list":
        store = Store(config.store, make=False) if Store.is_there(config.store) else None
        title = "Studies that come with eigencode, with their cells at each scale"
        _print(listed(store), f"{title} that are finished in {store.address}" if store else title, as_json=config.json)
        return
    if config.action == "merge":
        _merge(config)
        return
    study = chosen_study(config)
    if config.action == "show":
        print(to_yaml(study), end="")
        return
    if config.action == "plan":
        _plan(config, study, Store(config.store, make=False) if Store.is_there(config.store) else None)
        return
    engine = engine_of(config)
    with keeping("finished cells are", config.store):
        store = Store(config.store)
        summary = run_chosen(config, study, store, engine)
        if config.json:
            print(json.dumps({"study": study.name, "scale": study.scale, **asdict(summary)}, indent=2))
        say(summary, store)


@contextmanager
def keeping(what: str, store: str) -> Iterator[None]:
    """Says what is kept in a store when the command is interrupted, unless something else is said already."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        told = f"{what} kept in {without_password(store)}: give the command again to go on."
        raise KeyboardInterrupt(str(interruption) or told) from None


def chosen_study(config: StudyChoice) -> Study:
    """The study that a command names, with its fields changed and in the size asked for.

    Raises:
        StudyError: no such study.
        UsageError: none named, or ``--set`` says what a study cannot be.
    """
    if config.name is None:
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


def run_chosen(config: StudyRun, study: Study, store: Store, engine: Engine) -> Summary:
    """Runs what is missing, with cells done, failed and time left in one view."""
    states, device = states_folder(config.store), device_of(config)
    with progress_bar(study.name) as show:
        counted = {"done": 0, "failed": 0, "all": 0}

        def ended(done: int, failed: int, total: int) -> None:
            counted.update(done=done, failed=failed, all=total)
            show("cells", done, total, f"{failed} failed" if failed else "")

        def report(stage: str, done: int, total: int) -> None:
            if config.engine == "ray":
                show("cluster", done, total, stage)
            else:
                show("this group", done, total, f"{stage}, {in_use(str(device))}")

        try:
            return run_study(
                study,
                store,
                engine,
                again=config.again,
                retry=config.retry,
                stack=config.stack,
                data_root=config.data_root,
                device=device,
                states=states,
                report=report,
                ended=ended,
            )
        except KeyboardInterrupt:
            done = (
                f"{counted['done']} of {counted['all']} cells are done and kept" if counted["all"] else "finished cells are kept"
            )
            then = "--again runs all of them once more" if config.again else "give the command again to go on"
            raise KeyboardInterrupt(f"{done} in {store.address}: {then}.") from None


def device_of(config: StudyRun) -> str | None:
    """Where cells run; None where workers of a cluster take the GPU that they were given."""
    if config.engine == "ray":  # whose machines may have other devices than this one
        return config.device or (None if config.gpus else "cpu")
    return usable_device(config.device)


def states_folder(store: str) -> Path:
    """Where unfinished training is kept: beside the store's file, or in this folder for a database elsewhere."""
    return Path("studies/states") if "://" in store else Path(store).with_suffix(".states")


def engine_of(config: StudyRun) -> Engine:
    """The engine that a command names.

    Raises:
        StudyError: a cluster that cannot be reached.
        UsageError: the address or a share of a cluster for another engine.
    """
    if config.engine == "ray":
        return RayEngine(config.address, cpus=config.cpus, gpus=config.gpus, retries=config.retries)
    if config.address:
        raise UsageError(f"--address {config.address} is the address of a Ray cluster. Pass --engine ray too.")
    if config.gpus or config.cpus != 1:
        raise UsageError("--cpus and --gpus apply only to --engine ray. Pass it too, or leave them out.")
    return Local()


def say(summary: Summary, store: Store) -> None:
    """What a run came to, on stderr; an error if cells are missing.

    Raises:
        StudyError: cells are missing, or were not run again that should have been.
    """
    text = f"{summary.finished} of {summary.cells} cells are finished ({summary.new} of them now, {summary.seconds:.0f} s)"
    tell(f"{text}, in {store.address}.")
    say_outdated(summary.outdated)
    for layer, count in summary.without_exponent.items():
        networks = "1 network has" if count == 1 else f"{count} networks have"
        tell(
            f"{networks} no exponent at {layer}, whose dimensions `reading.ranks` reach beyond. Choose lower ranks.",
        )
    reasons = Counter(summary.failed.values())
    for reason, count in reasons.items():
        tell(f"{count} failed: {reason}")
    for reason, count in summary.unstarted.items():
        tell(f"{count} could not start: {reason}")
    for reason, count in summary.kept.items():
        tell(f"{count} failed this time and keep their earlier result: {reason}")
    if summary.finished < summary.cells:
        remedy = " Cells that failed are run again with --retry." if reasons else ""
        raise StudyError(
            f"{summary.cells - summary.finished} of {summary.cells} cells are missing, for the reasons above.{remedy}"
        )
    if count := sum((*summary.unstarted.values(), *summary.kept.values())):
        raise StudyError(f"{count} of {summary.cells} cells were not run again, for the reasons above.")


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
        told = "; ".join(f"{count} failed: {reason.rstrip('.')}" for reason, count in reasons.items())
        raise StudyError(f"no cell of {what}: {told}. Try again with: {command} --retry")
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


def _merge(config: StudyConfig) -> None:
    if config.name is None:
        raise UsageError("name the store to copy from, such as: eigencode study merge theirs.sqlite --store mine.sqlite")
    if "://" not in config.name + config.store and Path(config.name).resolve() == Path(config.store).resolve():
        raise UsageError(
            f"{config.name} cannot be merged into itself. Name another store to copy from, or with --store to copy to."
        )
    other = Store(config.name, make=False)
    with keeping("what was copied is", config.store):
        store = Store(config.store)
        copied, now = store.merge(other), len(store.finished())
        _say_merged(config, other, store, copied, now)


def _say_merged(config: StudyConfig, other: Store, store: Store, copied: int, now: int) -> None:
    if config.json:
        print(json.dumps({"copied": copied, "cells": now}))
    tell(f"{copied} cells of {other.address} were copied into {store.address}, which has {now} now.")


def _plan(config: StudyConfig, study: Study, store: Store | None) -> None:
    settings = {name: getattr(config, name) for name in ("again", "retry", "stack", "data_root")}
    groups = estimated(
        plan_groups(study, store, **settings, device=device_of(config), look_only=True), data_root=config.data_root
    )
    kinds: dict[str, list[Group]] = {}
    for group in groups:
        kinds.setdefault(kind_of(asdict(group.plans[0])), []).append(group)
    rows = [
        {
            "networks": kind,
            "cells": sum(len(group.plans) for group in own),
            "to run": sum(len(group.missing) for group in own),
            "groups": len(own),
            "stack": own[0].stack or "?",
            "about": duration(sum(group.seconds for group in own)),
            "memory": "?" if own[0].memory != own[0].memory else f"{max(group.memory for group in own) / 2**20:.0f} MiB",
        }
        for kind, own in kinds.items()
    ]
    seconds = sum(group.seconds for group in groups)
    cells, missing = (sum(len(getattr(group, name)) for group in groups) for name in ("plans", "missing"))
    size = f"{cells} cells in {len(groups)} {'group' if len(groups) == 1 else 'groups'}, {missing} to run"
    title = f"{study.name} ({study.scale}): {size}, about {duration(seconds)} on this machine"
    if config.json:
        print(json.dumps({"title": title, "rows": rows, "groups": _groups(groups)}, indent=2))
    else:
        _print(pd.DataFrame(rows), title, as_json=False)
    for code in sorted({code for plan in study.cells() if (code := own_code(plan.network.model))}):
        tell(f"Running this study runs the code of {code}, with all that you may do yourself. Read it first.")
    for name in dict.fromkeys(group.absent for group in groups if group.absent and group.missing):
        tell(f"{name} is not under {data_root(config.data_root)}. A run downloads it; before that, times are not known.")
    for reason in dict.fromkeys(group.reason for group in groups if group.reason and group.missing):
        count = sum(len(group.missing) for group in groups if group.reason == reason)
        tell(f"{count} cannot start: {reason}")
    if store:
        say_failed(study, store, ", and are run again" if config.again or config.retry else "")
        say_outdated(outdated(study.cells(), store.stamps()))


def _groups(groups: list[Group]) -> list[dict[str, Any]]:
    """Each group with its cells, by what tells the study's cells apart."""
    cells = {plan.identity: flat(asdict(plan)) for group in groups for plan in group.plans}
    names = list(dict.fromkeys(name for own in cells.values() for name in own))
    varied = [name for name in names if len({repr(own.get(name)) for own in cells.values()}) > 1]
    return [
        {
            "cells": [
                {
                    "cell": plan.identity,
                    "to run": plan in group.missing,
                    **{name: cells[plan.identity].get(name) for name in varied},
                }
                for plan in group.plans
            ],
            "seconds": group.seconds if math.isfinite(group.seconds) else None,
            "memory": group.memory if math.isfinite(group.memory) else None,
            "cannot start": group.reason,
            "downloads first": group.absent,
        }
        for group in groups
    ]


def _print(table: pd.DataFrame, title: str, *, as_json: bool) -> None:
    if as_json:
        rows: list[dict[Any, Any]] = table.to_dict("records")
        print(json.dumps({"title": title, "rows": rows}, indent=2))
    else:
        print_rows(table.astype(str), title=title)
