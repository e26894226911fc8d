"""``eigencode train``."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from eigencode import models
from eigencode._text import for_spreadsheet
from eigencode.attacks import Attack, by_name
from eigencode.attacks.outputs import check_batch
from eigencode.commands.common import load_images, network_title, results_folder, usable_device
from eigencode.commands.options import TrainConfig
from eigencode.commands.parsing import parse_names, parse_numbers, parse_ranks
from eigencode.commands.progress import ProgressBar, progress_bar, tell
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError, CheckpointError, TrainingError, UsageError
from eigencode.penalties.forms import DEFAULT_WINDOW
from eigencode.perturbations.specification import KINDS
from eigencode.reports import drawn, plot_learning, plot_outcome, print_rows, render_page, rounded, write_folder
from eigencode.reports.records import TrainingRecord
from eigencode.spectra.window import Window
from eigencode.training import JacobianSettings, MemberSettings, Settings, robust_accuracies
from eigencode.training.grouping import Trained, group_size, train_group
from eigencode.training.saving import remove_states, save_member, saved_members
from eigencode.training.settings import TrainingOptions

STATES, MEMBERS = "states", "members"

_MOST_NETWORKS = 10_000


def run(config: TrainConfig) -> None:
    """Trains the grid of networks; prints the table or the record, and writes weights, history and report."""
    cells, settings = cells_of(config), settings_of(config)
    attacks, epsilons = _attacks(config), parse_numbers(config.robustness.epsilons, "robustness.epsilons")
    with results_folder(config) as folder:
        states = folder / STATES if folder else None
        try:
            _run(config, cells, settings, attacks, epsilons, folder=folder, states=states)
        except CheckpointError as error:
            raise CheckpointError(str(error) if config.overwrite else f"{error} --overwrite replaces it.") from None
        except KeyboardInterrupt as interruption:
            if states and not str(interruption) and any(states.glob("*.safetensors")):
                raise KeyboardInterrupt(f"the last state is kept in {states}: give the command again to go on.") from None
            raise


def _run(
    config: TrainConfig,
    cells: Sequence[MemberSettings],
    settings: Settings,
    attacks: Mapping[str, Attack],
    epsilons: Sequence[float],
    *,
    folder: Path | None,
    states: Path | None,
) -> None:
    images = load_images(config)
    held_out = load_images(config, split="test" if config.split == "train" else "train")
    attacked_images = held_out.subset(min(config.robustness.count, len(held_out)), seed=config.seed) if attacks else held_out
    for name, attack in attacks.items():
        for epsilon in epsilons:
            check_batch(held_out.inputs[:1], held_out.labels[:1], epsilon, attack.norm, attack.bounds, name=name)
    device = usable_device(config.device)

    def network_for(cell: MemberSettings) -> nn.Module:
        assert config.model is not None
        shape = images.shape
        model = models.load(config.model, weights=config.weights, image_shape=shape, classes=config.classes, seed=cell.seed)
        return model.to(device)

    size = _group_size(config, cells, network_for(cells[0]), images, settings, device=device, states=states)
    groups = [cells[start : start + size] for start in range(0, len(cells), size)]
    trained = _train(groups, network_for, images, held_out, settings, states=states, overwrite=config.overwrite)
    attacked = robust_table(trained.networks, attacked_images, attacks, epsilons, size=size)
    _finish(config, cells, trained, attacked, images=images, folder=folder)


def _train(
    groups: Sequence[Sequence[MemberSettings]],
    network_for: Callable[[MemberSettings], nn.Module],
    images: ImageSet,
    held_out: ImageSet,
    settings: Settings,
    *,
    states: Path | None,
    overwrite: bool,
) -> Trained:
    trained = Trained()
    with progress_bar("train") as report:
        for number, group in enumerate(groups):
            stage = f"networks {len(group)}" + (f", group {number + 1} of {len(groups)}" if len(groups) > 1 else "")
            state = states / f"group-{number:03d}.safetensors" if states else None
            begun = _Begun(partial(_show, report, stage), state if state and state.exists() else None)
            trained.add(
                train_group(
                    network_for,
                    images,
                    settings=settings,
                    cells=group,
                    held_out=held_out,
                    checkpoint=state,
                    discard=partial(begun.replaced, state) if overwrite else None,
                    progress=begun,
                )
            )
            begun.say()  # of a state in which nothing was left to do
    return trained


class _Begun:
    """Progress of a group that first says from which state it goes on: when it does, since the state may be refused."""

    def __init__(self, show: Callable[..., None], state: Path | None) -> None:
        self._show, self._state = show, state

    def __call__(self, *step: Any) -> None:
        self.say()
        self._show(*step)

    def say(self) -> None:
        if self._state:
            tell(f"Going on from {self._state}.")
        self._state = None

    def replaced(self, state: Path | None) -> None:
        tell(f"--overwrite: {state} is damaged or of another run, and is replaced.")
        self._state = None


def _show(report: ProgressBar, stage: str, done: int, total: int, seen: Mapping[str, float]) -> None:
    """Loss, accuracy and alpha beside the bar, as far as they are known."""
    report(stage, done, total, "  ".join(f"{name} {value:.3f}" for name, value in seen.items() if not math.isnan(value)))


def _group_size(
    config: TrainConfig,
    cells: Sequence[MemberSettings],
    network: nn.Module,
    images: ImageSet,
    settings: Settings,
    *,
    device: str,
    states: Path | None,
) -> int:
    """Networks for each stack; that of the run which is going on, if there is one."""
    try:
        begun = saved_members(states / "group-000.safetensors") if states else None
    except CheckpointError:
        if not config.overwrite:
            raise
        begun = None
    asked = config.stack if config.stack is not None else begun
    penalised = any(cell.jacobian for cell in cells)
    return group_size(network, images, settings, device=device, asked=asked, jacobian=penalised)


def cells_of(config: TrainConfig) -> list[MemberSettings]:
    """The grid: targets x strengths x penalties x seeds; at beta 0 the target plays no part, and one of them is trained.

    Raises:
        UsageError: something that is not a number, or no network or too many.
    """
    targets, betas, covariances, jacobians = (
        list(dict.fromkeys(parse_numbers(getattr(config, name), name))) for name in ("target", "beta", "covariance", "jacobian")
    )
    pulled = sum(beta != 0 for beta in betas)  # without the penalty, one target stands for all
    settings = (pulled * len(targets) + (pulled < len(betas))) * len(covariances) * len(jacobians)
    if (count := settings * config.seeds) > _MOST_NETWORKS:
        raise UsageError(f"train: this grid has {count} networks; {_MOST_NETWORKS} at most. Split it.")
    cells = []
    for beta, target, covariance, jacobian, seed in itertools.product(
        betas, targets, covariances, jacobians, range(config.seed, config.seed + config.seeds)
    ):
        if beta == 0:
            target = targets[0]
        try:
            cell = MemberSettings(seed, config.learning_rate, target, beta, covariance, jacobian)
        except TrainingError as error:
            raise UsageError(f"train: {error}") from None
        if cell not in cells:
            cells.append(cell)
    return cells


def settings_of(config: TrainConfig) -> Settings:
    """Settings that all networks share.

    Raises:
        UsageError: settings that make no sense.
    """
    if config.spectral.ranks is not None:
        parse_ranks(config.spectral.ranks)
    shared = {item.name: getattr(config, item.name) for item in fields(TrainingOptions)}
    jacobian = {item.name: getattr(config, f"jacobian_{item.name}") for item in fields(JacobianSettings)}
    try:
        return Settings(**shared, jacobian=JacobianSettings(**jacobian))
    except TrainingError as error:
        raise UsageError(f"train: {error}") from None


def _attacks(config: TrainConfig) -> dict[str, Attack]:
    chosen = config.robustness
    names = parse_names(chosen.attacks, "robustness.attacks") if chosen.attacks else []
    if wrong := [name for name in names if name not in KINDS or not KINDS[name].attack]:
        raise UsageError(f"train: --robustness.attacks takes fgsm and pgd; got {wrong[0]!r}. eigencode attack has others.")
    try:
        return {name: by_name(name, chosen) for name in names}
    except AttackError as error:
        raise UsageError(str(error)) from None


def robust_table(
    networks: Mapping[MemberSettings, nn.Module],
    images: ImageSet,
    attacks: Mapping[str, Attack],
    epsilons: Sequence[float],
    *,
    size: int,
) -> dict[MemberSettings, dict[str, float]]:
    """Accuracy of each network under each attack, with keys such as "fgsm 0.05"; ``size`` networks are attacked as one stack."""
    found: dict[MemberSettings, dict[str, float]] = {cell: {} for cell in networks}
    cells = list(networks)
    for start in range(0, len(cells), size):
        group = cells[start : start + size]
        for name, attack in attacks.items():
            table = robust_accuracies([networks[cell] for cell in group], images, attack, epsilons=epsilons)
            for _, row in table.iterrows():
                found[group[int(row["member"])]][f"{name} {row['epsilon']:g}"] = float(row["accuracy"])
    return found


def _finish(
    config: TrainConfig,
    cells: Sequence[MemberSettings],
    trained: Trained,
    attacked: Mapping[MemberSettings, Mapping[str, float]],
    *,
    images: ImageSet,
    folder: Path | None,
) -> None:
    names = dict(zip(cells, member_names(cells), strict=True))
    for cell, reason in trained.failed.items():
        tell(f"{names[cell]}: {reason}")
    if not trained.networks:
        raise TrainingError(f"every network diverged; {names[cells[0]]}: {trained.failed[cells[0]]}")
    kept = list(trained.networks)
    history = pd.concat([trained.histories[cell].assign(member=number) for number, cell in enumerate(kept)], ignore_index=True)
    ends = [_outcome(cell, names[cell], trained.histories[cell], attacked[cell]) for cell in kept]
    outcome = pd.DataFrame([row for rows in ends for row in rows])
    _warn_of_skipped(trained, names)
    networks = "1 network" if len(kept) == 1 else f"{len(kept)} networks"
    title = f"{network_title(config).removesuffix(' (random weights)')} trained on {images.name} · {networks}"
    failed = {names[cell]: reason for cell, reason in trained.failed.items()}
    titles = [names[cell] for cell in kept]
    window = Window.of(config.spectral.ranks or DEFAULT_WINDOW[config.spectral.form])
    record = TrainingRecord(
        history=history, outcome=outcome, title=title, configuration=asdict(config), window=window, names=titles, failed=failed
    ).as_dict()
    shown = rounded(outcome)
    if folder:
        figures = drawn({"learning": plot_learning(history, names=titles), "outcome": plot_outcome(outcome)})
        page = render_page("training", record=record, figures=figures, rows=shown)

        def write(new: Path) -> None:
            for cell, network in trained.networks.items():
                save_member(new / MEMBERS / f"{names[cell]}.safetensors", network)
            for_spreadsheet(history).to_csv(new / "history.csv", index=False)
            for_spreadsheet(outcome).to_csv(new / "summary.csv", index=False)

        finish = partial(remove_states, folder / STATES)
        written = write_folder(folder, write_data=write, record=record, page=page, figures=figures, finish=finish)
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        print_rows(shown, title=f"{title} (ranks {window.first}-{window.last}, weights {window.weights})")
    if folder:
        first = folder / MEMBERS / f"{titles[0]}.safetensors"
        tell(f"Weights: {folder / MEMBERS} (measure them with --model {config.model} --weights {first})")
        tell(f"Report: {written}")


def _warn_of_skipped(trained: Trained, names: Mapping[MemberSettings, str]) -> None:
    for cell, history in trained.histories.items():
        skipped = int(history["skipped"].sum())
        if skipped and cell.beta:
            tell(
                f"{names[cell]}: {skipped} batches were too small for the ranks, or their code had collapsed, and were not "
                "penalised.",
            )


def member_names(cells: Sequence[MemberSettings]) -> list[str]:
    """A name for each network: its seed, and what differs between networks; no target where it plays no part."""
    varied = [
        field for field in ("target", "beta", "covariance", "jacobian") if len({getattr(cell, field) for cell in cells}) > 1
    ]
    names = []
    for cell in cells:
        own = [field for field in varied if field != "target" or cell.beta]
        names.append("_".join([*(f"{field}{getattr(cell, field):g}" for field in own), f"seed{cell.seed}"]))
    return names


def _outcome(cell: MemberSettings, name: str, history: pd.DataFrame, attacked: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each measured layer of a network at its last epoch; attacks are on the whole network, and in the last row."""
    last = history[history["epoch"] == history["epoch"].max()]
    return [
        {
            "network": name,
            "layer": row["layer"],
            "target": cell.target if cell.beta else math.nan,
            "beta": cell.beta,
            "covariance": cell.covariance,
            "jacobian": cell.jacobian,
            "accuracy": row["held_out_accuracy"],
            "training accuracy": row["accuracy"],
            "alpha (training)": row["alpha"],
            "alpha (held out)": row["held_out_alpha"],
            **{attack: accuracy if number == len(last) - 1 else math.nan for attack, accuracy in attacked.items()},
        }
        for number, (_, row) in enumerate(last.iterrows())
    ]
