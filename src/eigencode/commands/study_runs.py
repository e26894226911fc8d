"""``eigencode study plan``, ``run`` and ``merge``, and how ``reproduce`` runs a study."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from eigencode._running import usable_device
from eigencode.commands.choosing import say_failed, say_outdated
from eigencode.commands.options import StudyConfig, StudyRun
from eigencode.commands.progress import duration, progress_bar, tell
from eigencode.datasets import data_root
from eigencode.errors import StudyError, UsageError
from eigencode.models.loading import own_code
from eigencode.papers.listing import kind_of
from eigencode.provenance import in_use
from eigencode.reports.study_tables import varied_columns
from eigencode.reports.terminal import print_rows
from eigencode.studies import Local, RayEngine, Store, Study, plan_groups, run_study
from eigencode.studies.execution.engines import Engine
from eigencode.studies.execution.estimating import estimated
from eigencode.studies.execution.scheduling import Group, Summary, outdated
from eigencode.studies.results.database import without_password
from eigencode.studies.results.judging import study_claims
from eigencode.studies.results.statistics import half_width
from eigencode.studies.results.table import StudyResults, flat


def run(config: StudyConfig, study: Study) -> None:
    """Runs what is missing of a study."""
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
        message = f"{what} kept in {without_password(store)}: give the command again to go on."
        raise KeyboardInterrupt(str(interruption) or message) from None


def run_chosen(config: StudyRun, study: Study, store: Store, engine: Engine) -> Summary:
    """Runs what is missing, with cells done, failed and time left in one view."""
    states, device = states_folder(config.store), device_of(config)
    with progress_bar(study.name) as show:
        counted = {"done": 0, "failed": 0, "all": 0}

        def ended(done: int, failed: int, total: int) -> None:
            counted.update(done=done, failed=failed, all=total)
            show("cells", done, total, f"{failed} failed" if failed else "")

        def report(stage: str, done: int, total: int, _seen: str) -> None:
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


def merge(config: StudyConfig) -> None:
    """Copies the cells of another store."""
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


def plan(config: StudyConfig, study: Study, store: Store | None) -> None:
    """Says what would run, whose code, and about how long."""
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
        print_rows(pd.DataFrame(rows).astype(str), title=title)
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
        _say_undecided(study, store)


def _say_undecided(study: Study, store: Store) -> None:
    """Which parts of claims the finished networks leave undecided, about how many would decide each, and what is planned."""
    evidence = StudyResults(store, study.cells())
    parts = [part for claim in study_claims(study, evidence) for part in claim["parts"] if part["verdict"] == "undecided"]
    for row in parts:
        needed = f"about {row['networks']} would decide it" if row["networks"] else "how many would decide it cannot be told"
        tell(f"{row['part']} is undecided so far: {row['found']}; {needed}.")
    planned, finished = {len(block.seeds) for block in study.blocks}, _networks_of_each_setting(evidence)
    if parts and len(planned) == len(finished) == 1 and 1 < min(finished) < min(planned):
        ratio = half_width(1.0, *planned) / half_width(1.0, *finished)
        tell(f"With {min(planned)} networks of each setting, as planned, intervals of means will be {ratio:.2g} times as wide.")


def _networks_of_each_setting(evidence: StudyResults) -> set[int]:
    """How many networks of a setting are finished: one number if there are as many of each."""
    kinds = varied_columns(evidence.cells)
    grouped = evidence.cells.groupby(kinds, dropna=False) if kinds else evidence.cells.groupby(lambda _: 0)
    return {int(count) for count in grouped["network"].nunique()}


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
