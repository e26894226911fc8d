"""Unfinished training in the folder of a command: whose it is, and how it goes on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from eigencode._digests import digest_of
from eigencode._files import replacing
from eigencode.commands.common import STATES
from eigencode.commands.progress import tell
from eigencode.errors import CheckpointError, StudyError
from eigencode.reports import remove_at_once
from eigencode.studies import Store, Study
from eigencode.studies.execution.group import stack_size
from eigencode.studies.execution.materials import GroupResources
from eigencode.studies.execution.scheduling import outdated
from eigencode.studies.yaml import to_yaml
from eigencode.training.data import Batches

MEMBERS, STORE, _RUN = "members", "cells.sqlite", "run.json"


@contextmanager
def work_place(
    folder: Path | None, study: Study, resources: GroupResources, *, asked: int | None, overwrite: bool
) -> Iterator[tuple[Path, int | None]]:
    """Where unfinished training, and the cells and networks that are finished, are until the report is written.

    Args:
        folder: Of the results; None for a run that leaves none.
        study: The networks.
        resources: Their images, and the network that all begin from.
        asked: Networks of each stack. Default: those of the training that goes on, if any, else as many as is fast.
        overwrite: Replace training that is not of this run.

    Yields:
        The place, and the networks of each stack.

    Raises:
        CheckpointError: training of another run is there, and is not to be replaced.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary), asked
        return
    place, facts = folder / STATES, _facts(study, resources)
    stack = _begun(place, study, facts, asked, overwrite=overwrite)
    if stack is None:
        dearest = max(study.cells(), key=lambda plan: plan.member.jacobian)
        stack = stack_size(dearest, data_root=resources.data_root, device=resources.device, asked=asked)
        with replacing(place / _RUN) as new:
            new.write_text(json.dumps(facts | {"stack": stack}), encoding="utf-8")
    try:
        yield place, stack
    finally:
        if not worth_keeping(place):
            with suppress(OSError):
                remove_at_once(place)


def worth_keeping(place: Path) -> bool:
    """Whether some network was trained, or begun."""
    return any(place.rglob("*.safetensors"))


def _facts(study: Study, resources: GroupResources) -> dict[str, Any]:
    """What a run is told by, in words."""
    cpu = torch.device("cpu")
    return {
        "configuration": to_yaml(study),
        "images": Batches(resources.training, cpu).fingerprint(),
        "held-out images": Batches(resources.test, cpu).fingerprint(),
        "network": digest_of(resources.network(study.cells()[0].member).state_dict()),
    }


def _begun(place: Path, study: Study, facts: dict[str, Any], asked: int | None, *, overwrite: bool) -> int | None:
    """Networks of each stack of the training that goes on; None if none does."""
    if not place.is_dir() or all(path.name.startswith(".") for path in place.iterdir()):
        return None
    try:
        earlier = json.loads((place / _RUN).read_text(encoding="utf-8"))
        reason = _difference(earlier, facts, asked) or _damage(place, study)
    except (OSError, ValueError, TypeError, AttributeError):
        reason = f"there is no {_RUN} that can be read"
    if not reason:
        tell(f"Going on from {place}.")
        return int(earlier["stack"])
    if not overwrite:
        raise CheckpointError(
            f"{place} is the unfinished training of another run ({reason}). Use the same configuration, another folder, or "
            "remove it to start again. --overwrite replaces it."
        )
    tell(f"--overwrite: {place} is damaged or of another run, and is replaced.")
    remove_at_once(place)
    return None


def _difference(earlier: dict[str, Any], facts: dict[str, Any], asked: int | None) -> str:
    """How a run differs from this one; empty if it does not."""
    there, here = (str(told["configuration"]).splitlines() for told in (earlier, facts))
    if there != here:
        lines = [line.strip() for line in there if line not in here]
        return f"{lines[0]} there" if lines else "its configuration differs"
    for name, value in facts.items():
        if earlier.get(name) != value:
            return f"its {name} {'differ' if name.endswith('images') else 'differs'}"
    if asked not in (None, earlier.get("stack")) or not isinstance(earlier.get("stack"), int):
        return f"stack: {earlier.get('stack')} there"
    return ""


def _damage(place: Path, study: Study) -> str:
    """Why training that is of this run cannot go on; empty if it can."""
    if not (place / STORE).exists():
        return ""
    try:
        store = Store(place / STORE)
        changed, there = outdated(study.cells(), store.stamps()), store.finished()
    except StudyError as error:
        return str(error).rstrip(".")
    if changed:
        return f"{next(iter(changed))} was changed since"
    finished = [identity for identity, error in there.items() if not error]
    lost = [identity for identity in finished if not (place / MEMBERS / f"{identity}.safetensors").is_file()]
    return f"the weights of {len(lost)} finished networks are missing" if lost else ""
