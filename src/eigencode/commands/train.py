"""``eigencode train``."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from eigencode import models
from eigencode.attacks import FGSM, PGD, Attack
from eigencode.attacks.gradient import check_batch
from eigencode.commands.common import load_images, network_title, parse_ranks, usable_device
from eigencode.configuration import Numbers, TrainConfig
from eigencode.datasets import ImageSet
from eigencode.errors import AttackError, TrainingError, UsageError
from eigencode.records import training_record
from eigencode.reports import check_folder, plot_learning, plot_outcome, print_rows, render_page, rounded, write_folder
from eigencode.training import Cell, JacobianSettings, Settings, SpectralSettings, Training, robust_accuracies, train
from eigencode.training.grouping import group_size
from eigencode.training.saving import remove_states, save_member

STATES, MEMBERS = "states", "members"

_MOST_NETWORKS = 10_000


def run(config: TrainConfig) -> None:
    """Trains the grid of networks; prints the table or the record, and writes weights, history and report."""
    cells, settings = cells_of(config), settings_of(config)
    attacks, epsilons = _attacks(config), numbers(config.robustness.epsilons, "robustness.epsilons")
    folder = Path(config.out) if config.out else None
    if folder:
        check_folder(folder, overwrite=config.overwrite)
        if config.overwrite:
            remove_states(folder / STATES)
    device = usable_device(config)
    images = load_images(config)
    held_out = load_images(config, split="test" if config.split == "train" else "train")
    for name, attack in attacks.items():
        for epsilon in epsilons:
            check_batch(held_out.inputs[:1], held_out.labels[:1], epsilon, attack.norm, attack.bounds, name=name)
    assert config.model is not None

    def network(cell: Cell) -> nn.Module:
        assert config.model is not None
        return models.load(
            config.model, weights=config.weights, image_shape=images.shape, classes=config.classes, seed=cell.seed
        ).to(device)

    size = group_size(network(cells[0]), images, settings, device=device, asked=config.stack)
    groups = [cells[start : start + size] for start in range(0, len(cells), size)]
    runs: list[Training] = []
    tables: list[pd.DataFrame] = []
    with _bar(len(groups)) as report:
        for number, group in enumerate(groups):
            state = folder / STATES / f"group-{number:03d}.safetensors" if folder else None
            if state and state.exists():
                print(f"Going on from {state}.", file=sys.stderr)
            trained = train(
                [network(cell) for cell in group],
                images,
                settings=settings,
                cells=group,
                held_out=held_out,
                checkpoint=state,
                progress=report(number, group),
            )
            runs.append(trained)
            tables.append(_under_attack(trained, held_out, attacks, epsilons, config))
    _finish(config, cells, runs, tables, images=images, folder=folder)


def cells_of(config: TrainConfig) -> list[Cell]:
    """The grid: targets x strengths x penalties x seeds; at strength 0 the target plays no part, and one of them is trained.

    Raises:
        UsageError: something that is no number, or no network or too many.
    """
    targets, strengths = numbers(config.penalty.target, "penalty.target"), numbers(config.penalty.strength, "penalty.strength")
    covariances = numbers(config.covariance.strength, "covariance.strength")
    jacobians = numbers(config.jacobian.strength, "jacobian.strength")
    if config.seeds < 1:
        raise UsageError(f"train: --seeds is the number of networks for each setting, at least 1; got {config.seeds}.")
    if min(targets) < 0:
        raise UsageError(f"train: --penalty.target must be an exponent of at least 0; got {min(targets):g}.")
    cells = []
    for strength, target, covariance, jacobian, seed in itertools.product(
        strengths, targets, covariances, jacobians, range(config.seed, config.seed + config.seeds)
    ):
        if strength == 0:
            target = targets[0]
        try:
            cell = Cell(seed, config.learning_rate, target, strength, covariance, jacobian)
        except TrainingError as error:
            raise UsageError(f"train: {error}") from None
        if cell not in cells:
            cells.append(cell)
    if len(cells) > _MOST_NETWORKS:
        raise UsageError(f"train: this grid has {len(cells)} networks; {_MOST_NETWORKS} at most. Split it.")
    return cells


def numbers(given: Numbers, name: str) -> list[float]:
    """Numbers from one, a list, or text with commas.

    Raises:
        UsageError: something else.
    """
    parts = given if isinstance(given, list) else str(given).split(",")
    try:
        found = [float(part) for part in parts]
    except ValueError:
        raise UsageError(f"--{name} must be a number, or several separated by commas; got {given!r}.") from None
    if not found:
        raise UsageError(f"--{name} names no number. Give at least one.")
    return list(dict.fromkeys(found))


def settings_of(config: TrainConfig) -> Settings:
    """Settings that all networks share.

    Raises:
        UsageError: settings that make no sense.
    """
    spectral = {field.name: getattr(config.penalty, field.name) for field in fields(SpectralSettings)}
    if config.penalty.ranks is not None:
        spectral["ranks"] = parse_ranks(str(config.penalty.ranks))
    own = ("spectral", "covariance_kind", "jacobian", "adversarial")
    shared = {field.name: getattr(config, field.name) for field in fields(Settings) if field.name not in own}
    try:
        return Settings(
            **shared,
            spectral=SpectralSettings(**spectral),
            covariance_kind=config.covariance.kind,
            jacobian=JacobianSettings(**{f.name: getattr(config.jacobian, f.name) for f in fields(JacobianSettings)}),
            adversarial=config.adversarial,
        )
    except TrainingError as error:
        raise UsageError(f"train: {error}") from None


def _attacks(config: TrainConfig) -> dict[str, Attack]:
    chosen = config.robustness
    names = [name.strip() for name in chosen.attacks.split(",") if name.strip()]
    wrong = [name for name in names if name not in ("fgsm", "pgd")]
    if wrong:
        raise UsageError(f"train: --robustness.attacks takes fgsm and pgd; got {wrong[0]!r}. eigencode attack has others.")
    try:
        made: dict[str, Attack] = {
            "fgsm": FGSM(norm=chosen.norm),
            "pgd": PGD(norm=chosen.norm, steps=chosen.steps, step_size=chosen.step_size),
        }
        return {name: made[name] for name in names}
    except AttackError as error:
        raise UsageError(str(error)) from None


def _under_attack(
    trained: Training, images: ImageSet, attacks: dict[str, Attack], epsilons: list[float], config: TrainConfig
) -> pd.DataFrame:
    """Columns such as "fgsm 0.05": accuracy of each member of a group."""
    found = pd.DataFrame(index=range(len(trained.models)))
    subset = images.subset(min(config.robustness.count, len(images)), seed=config.seed)
    for name, attack in attacks.items():
        table = robust_accuracies(trained.models, subset, attack, epsilons=epsilons)
        for epsilon, rows in table.groupby("epsilon"):
            found[f"{name} {epsilon:g}"] = rows.set_index("member")["accuracy"]
    return found


@contextmanager
def _bar(groups: int) -> Iterator[Any]:
    """Progress on stderr with loss, accuracy and alpha; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def report(number: int, group: Sequence[Cell]) -> Any:
            title = f"networks {len(group)}, group {number + 1} of {groups}" if groups > 1 else f"networks {len(group)}"
            task = bar.add_task(title, total=None)

            def update(done: int, total: int, seen: dict[str, float]) -> None:
                shown = "  ".join(f"{name} {value:.3f}" for name, value in seen.items() if value == value)
                bar.update(task, completed=done, total=total, description=f"{title}  {shown}")

            return update

        yield report


def _finish(
    config: TrainConfig,
    cells: Sequence[Cell],
    runs: Sequence[Training],
    tables: Sequence[pd.DataFrame],
    *,
    images: ImageSet,
    folder: Path | None,
) -> None:
    histories, offset = [], 0
    for trained in runs:
        histories.append(trained.history.assign(member=trained.history["member"] + offset))
        offset += len(trained.models)
    history = pd.concat(histories, ignore_index=True)
    names = member_names(cells)
    outcome = _outcome(history, cells, names, pd.concat(tables, ignore_index=True))
    _warn_of_skipped(history, cells, names)
    title = f"{network_title(config).removesuffix(' (random weights)')} trained on {images.name} · {len(cells)} networks"
    record = training_record(history, outcome, title=title, configuration=asdict(config), names=names)
    if folder:
        figures = {"learning": plot_learning(history, names=names), "outcome": plot_outcome(outcome)}
        page = render_page("training", record=record, figures=figures, rows=rounded(outcome))
        networks = [network for trained in runs for network in trained.models]

        def write(partial: Path) -> None:
            for name, network in zip(names, networks, strict=True):
                save_member(partial / MEMBERS / f"{name}.safetensors", network)
            history.to_csv(partial / "history.csv", index=False)
            outcome.to_csv(partial / "summary.csv", index=False)

        written = write_folder(folder, write_data=write, record=record, page=page, figures=figures)
        remove_states(folder / STATES)
    if config.json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        print_rows(rounded(outcome), title=title)
    if folder:
        first = folder / MEMBERS / f"{names[0]}.safetensors"
        print(f"Weights: {folder / MEMBERS} (measure them with --model {config.model} --weights {first})", file=sys.stderr)
        print(f"Report: {written}", file=sys.stderr)


def _warn_of_skipped(history: pd.DataFrame, cells: Sequence[Cell], names: Sequence[str]) -> None:
    for member, skipped in history.groupby("member")["skipped"].sum().items():
        cell = cells[int(member)]  # type: ignore[call-overload]
        if skipped and cell.strength:
            print(
                f"{names[int(member)]}: {skipped} batches were too small for the ranks, or had a collapsed code, and were not "  # type: ignore[call-overload]
                "penalised.",
                file=sys.stderr,
            )


def member_names(cells: Sequence[Cell]) -> list[str]:
    """A name for each network: its seed, and what differs between networks."""
    varied = [
        field for field in ("target", "strength", "covariance", "jacobian") if len({getattr(cell, field) for cell in cells}) > 1
    ]
    return ["_".join([*(f"{field}{getattr(cell, field):g}" for field in varied), f"seed{cell.seed}"]) for cell in cells]


def _outcome(history: pd.DataFrame, cells: Sequence[Cell], names: Sequence[str], attacked: pd.DataFrame) -> pd.DataFrame:
    """One row for each network and measured layer, at the last epoch."""
    last = history[history["epoch"] == history["epoch"].max()]
    rows = []
    for _, row in last.iterrows():
        cell = cells[row["member"]]
        rows.append(
            {
                "network": names[row["member"]],
                "layer": row["layer"],
                "target": cell.target if cell.strength else float("nan"),
                "strength": cell.strength,
                "covariance": cell.covariance,
                "jacobian": cell.jacobian,
                "accuracy": row["held_out_accuracy"],
                "training accuracy": row["accuracy"],
                "alpha (training)": row["alpha"],
                "alpha (held out)": row["held_out_alpha"],
                **attacked.loc[row["member"]].to_dict(),
            }
        )
    return pd.DataFrame(rows)
