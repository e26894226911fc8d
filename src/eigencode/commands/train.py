"""``eigencode train``: a study of one block, whose store, report and networks lie in one folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eigencode._running import usable_device
from eigencode._text import for_spreadsheet
from eigencode.attacks import by_name
from eigencode.attacks.outputs import check_batch
from eigencode.commands.common import results_folder
from eigencode.commands.options import TrainConfig
from eigencode.commands.parsing import parse_names, parse_numbers, parse_ranks
from eigencode.commands.progress import progress_bar, tell
from eigencode.commands.unfinished import MEMBERS, STORE, work_place, worth_keeping
from eigencode.datasets import ImageSet
from eigencode.errors import EigencodeError, TrainingError, UsageError
from eigencode.penalties.forms import DEFAULT_WINDOW
from eigencode.perturbations.specification import KINDS, GradientSteps, PerturbationSpec
from eigencode.reports import drawn, plot_learning, plot_outcome, print_rows, remove_at_once, render_page, rounded, write_folder
from eigencode.reports.records import TrainingRecord
from eigencode.spectra.window import Window
from eigencode.studies import Block, CellConfig, ImagesSpec, Local, NetworkSpec, Readout, Store, Study, run_study
from eigencode.studies.execution.group import HELD_OUT, TRAINING, history_of
from eigencode.studies.execution.materials import GroupResources, images_kept
from eigencode.studies.yaml import to_yaml
from eigencode.training import JacobianSettings, MemberSettings, Settings
from eigencode.training.settings import GRID, WEIGHTS, TrainingOptions

STUDY = "study.yaml"

_MOST_NETWORKS = 10_000


def run(config: TrainConfig) -> None:
    """Trains the grid of networks; prints the table or the record, and writes weights, history, store and report."""
    study = study_of(config)
    plan, device = study.cells()[0], usable_device(config.device)
    with results_folder(config) as folder, images_kept():
        resources = GroupResources(plan, data_root=config.data_root, device=device)
        _check_attacks(plan, resources.test)
        with work_place(folder, study, resources, asked=config.stack, overwrite=config.overwrite) as (place, stack):
            try:
                outcome = _trained(replace(config, stack=stack), study, device, place, keep=folder is not None)
                _finish(config, study, outcome, images=resources.training.name, folder=folder, place=place)
            except KeyboardInterrupt as interruption:
                if folder and not str(interruption) and worth_keeping(place):
                    raise KeyboardInterrupt(f"the last state is kept in {place}: give the command again to go on.") from None
                raise


def study_of(config: TrainConfig) -> Study:
    """The networks of a command: a grid of targets, weights of penalties and seeds.

    Raises:
        UsageError: settings that make no sense, or too many networks.
    """
    given = {name: list(dict.fromkeys(parse_numbers(getattr(config, name), name))) for name in ("beta", *GRID)}
    pulled = sum(beta != 0 for beta in given["beta"])  # without the penalty, one target stands for all
    others = math.prod(len(values) for name, values in given.items() if name not in ("beta", "target")) * config.seeds
    if (count := (pulled * len(given["target"]) + (pulled < len(given["beta"]))) * others) > _MOST_NETWORKS:
        raise UsageError(f"train: this grid has {count} networks; {_MOST_NETWORKS} at most. Split it.")
    if config.spectral.ranks is not None:
        parse_ranks(config.spectral.ranks)
    try:
        plan = CellConfig(
            network=NetworkSpec(config.model or "", _network_options(config), initial=config.weights),
            images=ImagesSpec(config.data, config.count, None, config.image_size, config.split, config.seed),
            training=settings_of(config),
            member=MemberSettings(learning_rate=config.learning_rate, target=given["target"][0]),
            reading=Readout(
                config.spectral.layers or "penultimate",
                config.spectral.ranks or str(DEFAULT_WINDOW[config.spectral.form]),
                config.held_out_count,
                _attacks(config),
            ),
        )
        grid = {f"member.{name}": tuple(values) for name, values in given.items()}
        block = Block(plan, grid, tuple(range(config.seed, config.seed + config.seeds)))
        return Study("train", "Networks of eigencode train", (block,), scale="train")
    except UsageError:
        raise
    except EigencodeError as error:
        raise UsageError(f"train: {error}") from None


def _network_options(config: TrainConfig) -> dict[str, int | float]:
    """What the network is built with beside its name."""
    given = {name: getattr(config, name) for name in ("width", "depth", "classifier_std", "initial_gain")}
    classes = {"classes": config.classes} if isinstance(config.classes, int) else {}
    return classes | {name: value for name, value in given.items() if value is not None}


def settings_of(config: TrainConfig) -> Settings:
    """Settings that all networks share.

    Raises:
        TrainingError: settings that make no sense.
    """
    shared = {item.name: getattr(config, item.name) for item in fields(TrainingOptions)}
    jacobian = {item.name: getattr(config, f"jacobian_{item.name}") for item in fields(JacobianSettings)}
    return Settings(**shared, jacobian=JacobianSettings(**jacobian))


def _attacks(config: TrainConfig) -> tuple[PerturbationSpec, ...]:
    chosen = config.robustness
    names = list(dict.fromkeys(parse_names(chosen.attacks, "robustness.attacks"))) if chosen.attacks else []
    if wrong := [name for name in names if name not in KINDS or not KINDS[name].attack]:
        raise UsageError(f"train: --robustness.attacks takes fgsm and pgd; got {wrong[0]!r}. eigencode attack has others.")
    epsilons = tuple(dict.fromkeys(parse_numbers(chosen.epsilons, "robustness.epsilons")))
    options = {item.name: getattr(chosen, item.name) for item in fields(GradientSteps)}
    return tuple(
        PerturbationSpec(
            name,
            epsilons,
            chosen.count,
            spectra=False,
            **{option: value for option, value in options.items() if option in KINDS[name].options},
        )
        for name in names
    )


def _check_attacks(plan: CellConfig, held_out: ImageSet) -> None:
    """Refuses attacks that the held-out images do not allow."""
    shown = held_out.subset(1)
    for spec in plan.reading.perturbations:
        attack = by_name(spec.kind, spec)
        for epsilon in spec.strengths:
            check_batch(shown.inputs, shown.labels, epsilon, attack.norm, attack.bounds, name=spec.kind)


@dataclass(frozen=True)
class _Outcome:
    """What became of the networks.

    Attributes:
        plans: Those that were trained.
        names: Identity -> name, of all.
        histories: Identity -> training history.
        robust: Identity -> accuracies under attacks, such as "fgsm 0.05".
        failed: Name -> why its training stopped.
        seconds: Of training, of all together.
    """

    plans: Sequence[CellConfig]
    names: Mapping[str, str]
    histories: Mapping[str, pd.DataFrame]
    robust: Mapping[str, Mapping[str, float]]
    failed: Mapping[str, str]
    seconds: float


def _trained(config: TrainConfig, study: Study, device: str, place: Path, *, keep: bool) -> _Outcome:
    """Trains what is not trained yet, and reads what came of it from the store."""
    store, plans = Store(place / STORE), study.cells()
    with progress_bar("train") as show:
        summary = run_study(
            study,
            store,
            Local(),
            retry=True,
            stack=config.stack,
            data_root=config.data_root,
            device=device,
            states=place if keep else None,
            weights=place / MEMBERS if keep else None,
            report=show,
            ended=lambda done, failed, total: show("networks", done, total, f"{failed} failed" if failed else ""),
        )
    if summary.unstarted:
        raise TrainingError(next(iter(summary.unstarted)))
    names = dict(zip((plan.identity for plan in plans), member_names([plan.member for plan in plans]), strict=True))
    failed = {names[identity]: reason for identity, reason in summary.failed.items()}
    if len(set(failed.values())) > 1 or len(failed) < len(plans):
        for name, reason in failed.items():
            tell(f"{name}: {reason}")
    kept = [plan for plan in plans if plan.identity not in summary.failed]
    if not kept:
        name, reason = next(iter(failed.items()))
        diverged = reason.startswith(("Training stopped", "Training diverged"))
        raise TrainingError(f"every network diverged; {name}: {reason}" if diverged else reason)
    identities = [plan.identity for plan in kept]
    rows = {str(identity): own for identity, own in store.results(identities).groupby("cell", sort=False)}
    seconds = store.cells(identities)["seconds"].sum()
    histories = {identity: history_of(own) for identity, own in rows.items()}
    robust = {identity: _robust(own) for identity, own in rows.items()}
    return _Outcome(kept, names, histories, robust, failed, float(seconds))


def _robust(rows: pd.DataFrame) -> dict[str, float]:
    own = rows[(rows["quantity"] == "accuracy") & ~rows["perturbation"].isin([TRAINING, HELD_OUT])]
    each = zip(own["perturbation"], own["strength"], own["value"], strict=True)
    return {f"{kind} {epsilon:g}": float(value) for kind, epsilon, value in each}


def _finish(config: TrainConfig, study: Study, outcome: _Outcome, *, images: str, folder: Path | None, place: Path) -> None:
    _warn_of_skipped(outcome)
    titles = [outcome.names[plan.identity] for plan in outcome.plans]
    history = pd.concat([outcome.histories[plan.identity] for plan in outcome.plans], ignore_index=True)
    history.insert(0, "member", np.repeat(range(len(titles)), [len(outcome.histories[plan.identity]) for plan in outcome.plans]))
    ends = pd.DataFrame([row for plan in outcome.plans for row in _rows_of(plan, outcome)])
    networks = "1 network" if len(titles) == 1 else f"{len(titles)} networks"
    title = f"{config.model} trained on {images} · {networks}"
    window = Window.of(config.spectral.ranks or DEFAULT_WINDOW[config.spectral.form])
    record = TrainingRecord(
        history=history,
        outcome=ends,
        title=title,
        configuration=asdict(config),
        window=window,
        seconds=outcome.seconds,
        names=titles,
        failed=outcome.failed,
    ).as_dict()
    shown = rounded(ends)
    if folder:
        figures = drawn({"learning": plot_learning(history, names=titles), "outcome": plot_outcome(ends)})
        page = render_page("training", record=record, figures=figures, rows=shown)

        def write(new: Path) -> None:
            (new / MEMBERS).mkdir()
            for plan, name in zip(outcome.plans, titles, strict=True):
                shutil.copyfile(place / MEMBERS / f"{plan.identity}.safetensors", new / MEMBERS / f"{name}.safetensors")
            (new / STUDY).write_text(to_yaml(study), encoding="utf-8")
            Store(new / STORE).merge(Store(place / STORE))
            for_spreadsheet(history).to_csv(new / "history.csv", index=False)
            for_spreadsheet(ends).to_csv(new / "summary.csv", index=False)

        finish = partial(remove_at_once, place)
        written = write_folder(folder, write_data=write, record=record, page=page, figures=figures, finish=finish)
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        print_rows(shown, title=f"{title} (ranks {window.first}-{window.last}, weights {window.weights})")
    if folder:
        first = folder / MEMBERS / f"{titles[0]}.safetensors"
        tell(f"Weights: {folder / MEMBERS} (measure them with --model {config.model} --weights {first})")
        tell(f"Report: {written}")


def _warn_of_skipped(outcome: _Outcome) -> None:
    for plan in outcome.plans:
        skipped = int(outcome.histories[plan.identity]["skipped"].sum())
        if skipped and plan.member.beta:
            tell(
                f"{outcome.names[plan.identity]}: {skipped} batches were too small for the ranks, or their code had collapsed, "
                "and were not penalised.",
            )


def member_names(cells: Sequence[MemberSettings]) -> list[str]:
    """A name for each network: its seed, and what differs between networks; no target where it plays no part."""
    varied = [field for field in GRID if len({getattr(cell, field) for cell in cells}) > 1]
    names = []
    for cell in cells:
        own = [field for field in varied if field != "target" or cell.beta]
        names.append("_".join([*(f"{field}{getattr(cell, field):g}" for field in own), f"seed{cell.seed}"]))
    return names


def _rows_of(plan: CellConfig, outcome: _Outcome) -> list[dict[str, Any]]:
    """A row for each measured layer of a network at its last epoch; attacks are on the whole network, and in the last row."""
    history, cell = outcome.histories[plan.identity], plan.member
    last = history[history["epoch"] == history["epoch"].max()]
    return [
        {
            "network": outcome.names[plan.identity],
            "layer": row["layer"],
            "target": cell.target if cell.beta else math.nan,
            **{name: getattr(cell, name) for name in WEIGHTS},
            "accuracy": row["held_out_accuracy"],
            "training accuracy": row["accuracy"],
            "alpha (training)": row["alpha"],
            "alpha (held out)": row["held_out_alpha"],
            **{
                attack: accuracy if number == len(last) - 1 else math.nan
                for attack, accuracy in outcome.robust[plan.identity].items()
            },
        }
        for number, (_, row) in enumerate(last.iterrows())
    ]
