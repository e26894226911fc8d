"""The training loop: one for a single network, for an ensemble, and for every rule of learning."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from eigencode._arguments import checked
from eigencode._arithmetic import exact_arithmetic
from eigencode._digests import digest_of
from eigencode._shown import ShownRows
from eigencode.activations import model_device
from eigencode.datasets.images import ImageSet
from eigencode.errors import AttackError, CheckpointError, DivergenceError, PenaltyError, SpectrumError, TrainingError
from eigencode.penalties.forms import DEFAULT_WINDOW
from eigencode.spectra.accumulator import SpectrumAccumulator
from eigencode.spectra.window import Window
from eigencode.training.data import Batches, seed_for
from eigencode.training.networks import images_at_once
from eigencode.training.saving import load_tensors, save_tensors
from eigencode.training.settings import MemberSettings, Settings
from eigencode.training.steps import Batch, Learner, learner_for

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with steps done, steps in all, and what was seen: loss, accuracy, alpha."""

_SAMPLE = 2
"""Images with which the networks are tried before training starts."""

_TRANSFORMS = 2**40
"""Random transforms of images draw from the seeds from this number on, apart from orders and penalties."""

_EVALUATED = 5000
"""Held-out images run at once on a CPU, of all members together: what they leave stays in its cache."""

_BETWEEN_SAVES = 20
"""Times as long as the last save took until the next: a stack's epoch on a GPU can be shorter than the writing of its state."""

_LONGEST_UNSAVED = 120.0
"""Seconds after which the next epoch is saved in any case."""


@dataclass(frozen=True, repr=False)
class Training(ShownRows):
    """A finished run.

    Attributes:
        models: Trained networks, in evaluation mode, one for each cell.
        history: One row for each member, epoch and measured layer: member, epoch (from 1), layer, loss, accuracy and alpha (means
            over the epoch's training batches, before each step), skipped (batches without an exponent, and so without a spectral
            penalty), held_out_accuracy, held_out_alpha (NaN where not measured), seconds (of the epoch, over the
            number of members).
        cells: What each member was told.
        settings: What all were told.
    """

    models: list[nn.Module]
    history: pd.DataFrame
    cells: tuple[MemberSettings, ...]
    settings: Settings

    def _told(self) -> str:
        count = len(self.models)
        return f"Training: {count} {'network' if count == 1 else 'networks'}, {self.settings.epochs} epochs; their last epoch:"

    def _rows(self) -> list[dict[str, object]]:
        last = self.history[self.history["epoch"] == self.history["epoch"].max()]
        told = ("member", "layer", "loss", "accuracy", "alpha", "held_out_accuracy", "held_out_alpha")
        return [{name: row[name] for name in told if name in row} for row in last.to_dict("records")]


@checked(TrainingError)
def train(
    models: nn.Module | Sequence[nn.Module],
    images: ImageSet | Dataset[tuple[Tensor, int]],
    *,
    settings: Settings | None = None,
    cells: MemberSettings | Sequence[MemberSettings] | None = None,
    held_out: ImageSet | Dataset[tuple[Tensor, int]] | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Training:
    """Trains one network, or an ensemble of one architecture as stacked tensors.

    A member is a function of its own weights, cell and the images alone; what it is trained beside changes nothing beyond
    rounding. With a checkpoint file a run that was stopped at any moment goes on from its last state: on the CPU it ends
    bit for bit as if it had not been stopped. A single network is trained in place.

    Args:
        models: Network or networks, on the device where training runs.
        images: Training images with labels.
        settings: What all members share; see ``Settings``.
        cells: What is each member's own; see ``MemberSettings``. Default: seeds 0, 1, 2, ...
        held_out: Images for accuracy and exponents after each epoch.
        checkpoint: File to write the run's state to, and to go on from if it is there: after the first and the last epoch, and
            between them as often as takes a twentieth of the time, or every two minutes if that is more often.
        progress: Called after each step.

    Returns:
        Training.

    Raises:
        TrainingError: settings that contradict each other, a checkpoint of another run, or a loss that is not finite.
        DiskError: the checkpoint cannot be written.

    Example:
        >>> import eigencode as ec
        >>> digits = ec.datasets.load("digits", split="train", count=400)
        >>> network = ec.models.load("gerum_shallow_mlp", image_shape=digits.shape)
        >>> settings = Settings(epochs=2, batch_size=100, spectral=ec.training.SpectralSettings(ranks="gerum"))
        >>> run = train(network, digits, settings=settings, cells=MemberSettings(target=2.0, beta=0.1))
        >>> list(run.history.columns[:6])
        ['member', 'epoch', 'layer', 'loss', 'accuracy', 'alpha']
    """
    networks = [models] if isinstance(models, nn.Module) else list(models)
    chosen = settings or Settings()
    if cells is None:
        cells = [MemberSettings(seed=number) for number in range(len(networks))]
    cells = (cells,) if isinstance(cells, MemberSettings) else tuple(cells)
    if len(cells) != len(networks):
        raise TrainingError(f"There are {len(cells)} cells for {len(networks)} networks. Pass one for each.")
    run = _Run(networks, images, chosen, cells, held_out, Path(checkpoint) if checkpoint else None)
    run.go_on(progress)
    return run.finished()


class _Run:
    """A learner, its data, and what it has seen so far."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        images: Any,
        settings: Settings,
        cells: tuple[MemberSettings, ...],
        held_out: Any,
        checkpoint: Path | None,
    ) -> None:
        if not networks:
            raise TrainingError("There are no networks to train. Pass at least one.")
        self.settings, self.cells, self.checkpoint = settings, cells, checkpoint
        self.device = model_device(networks[0])
        self.batches = Batches(images, self.device)
        self.held_out = Batches(held_out, self.device) if held_out is not None else None
        sample, _ = self.batches.gather(torch.arange(min(_SAMPLE, self.batches.size))[None])
        fitting = replace(settings, batch_size=min(settings.batch_size, self.batches.size))
        self.learner: Learner = learner_for(networks, cells, fitting, sample[0])
        self._check_labels(self.learner.scores(sample[0]).shape[-1])
        layers = len(self.learner.rows) if settings.rule == "greedy" else 1
        self.epochs = settings.epochs * layers
        self.steps_per_epoch = -(-self.batches.size // settings.batch_size)
        self._at_once = max(1, _EVALUATED // len(cells))
        if self.device.type == "cuda":
            self._at_once = images_at_once(networks[0], sample[0, :1], members=len(cells))
        self.epoch, self.rows = 0, list[dict[str, Any]]()
        self._save_from = -math.inf
        identity = {
            "settings": asdict(settings),
            "cells": [asdict(cell) for cell in cells],
            "images": self.batches.fingerprint() if checkpoint else None,
            "held_out": self.held_out.fingerprint() if checkpoint and self.held_out else None,
            "networks": [digest_of(network.state_dict()) for network in networks] if checkpoint else None,
        }
        self.identity = json.loads(json.dumps(identity))  # as it comes back from a file
        if checkpoint is not None and checkpoint.exists():
            self._load()

    def _check_labels(self, classes: int) -> None:
        for batches in filter(None, (self.batches, self.held_out)):
            if batches.largest_label() >= classes:
                raise TrainingError(
                    f"There is an image of class {batches.largest_label()}, and the network has {classes} classes, from 0 on. "
                    "Give it more, or fix the labels."
                )

    def go_on(self, progress: Progress | None) -> None:
        """Trains until the last epoch."""
        with exact_arithmetic(self.device):
            while self.epoch < self.epochs:
                torch.manual_seed(seed_for(self.cells[0].seed, self.epoch))  # for dropout, of a network that is trained alone
                self._epoch(progress)
                self.epoch += 1
                if self.checkpoint is not None and (self.epoch == self.epochs or time.perf_counter() >= self._save_from):
                    self._save()

    def finished(self) -> Training:
        """The result."""
        models = [self.learner.member(number).eval() for number in range(len(self.cells))]
        return Training(models, pd.DataFrame(self.rows), self.cells, self.settings)

    def _epoch(self, progress: Progress | None) -> None:
        started, reports, sizes = time.perf_counter(), [], []
        seeds = [cell.seed for cell in self.cells]
        for number, indices in enumerate(self.batches.epoch(seeds, self.epoch, self.settings.batch_size)):
            step = self.epoch * self.steps_per_epoch + number
            inputs, labels = self.batches.gather(indices, [seed_for(seed, _TRANSFORMS + step) for seed in seeds])
            try:
                report = self.learner.step(Batch(inputs, labels, indices, self.epoch, step))
            except (AttackError, PenaltyError, SpectrumError) as error:
                raise DivergenceError(f"Training stopped at step {step + 1} (epoch {self.epoch + 1}): {error}") from None
            reports.append(report)
            sizes.append(indices.shape[1])
            if progress:
                seen = {name: float(getattr(report, name).nanmean()) for name in ("loss", "accuracy", "alpha")}
                progress(step + 1, self.epochs * self.steps_per_epoch, seen)
        weights = torch.tensor(sizes, dtype=torch.float64)
        loss, accuracy = (_mean([getattr(report, name) for report in reports], weights) for name in ("loss", "accuracy"))
        alphas = torch.stack([report.alpha for report in reports])
        alpha, skipped = alphas.nanmean(dim=0), alphas.isnan().sum(dim=0) * int(self.learner.measures)
        held_out_accuracy, held_out_alpha = self._held_out()
        seconds = (time.perf_counter() - started) / len(self.cells)
        for member in range(len(self.cells)):
            for row, layer in enumerate(self.learner.rows):
                self.rows.append(
                    {
                        "member": member,
                        "epoch": self.epoch + 1,
                        "layer": layer,
                        "loss": float(loss[member, row]),
                        "accuracy": float(accuracy[member, row]),
                        "alpha": float(alpha[member, row]),
                        "skipped": int(skipped[member, row]),
                        "held_out_accuracy": float(held_out_accuracy[member, row]),
                        "held_out_alpha": float(held_out_alpha[member, row]),
                        "seconds": seconds,
                    }
                )

    def _held_out(self) -> tuple[Tensor, Tensor]:
        """Accuracy and exponents on held-out images, each (K, rows)."""
        shape = (len(self.cells), len(self.learner.rows))
        missing = torch.full(shape, torch.nan, dtype=torch.float64)
        if self.held_out is None:
            return missing, missing
        correct = torch.zeros(shape, dtype=torch.float64)
        for indices in torch.arange(self.held_out.size).split(self._at_once):
            inputs, labels = self.held_out.gather(indices[None])
            hits = self.learner.scores(inputs[0]).argmax(dim=3) == labels[0]
            correct += hits.double().sum(dim=2).cpu()
        measured = (self.epoch + 1) % self.settings.measure_every == 0 or self.epoch + 1 == self.epochs
        return correct / self.held_out.size, self._held_out_alpha() if measured else missing

    def _held_out_alpha(self) -> Tensor:
        """As ``measure`` has them; NaN where the window goes beyond the numerical rank."""
        assert self.held_out is not None
        spectral = self.settings.spectral
        window = Window.of(spectral.ranks or DEFAULT_WINDOW[spectral.form])
        indices = torch.arange(min(self.held_out.size, self.settings.held_out_count))
        spectra: dict[tuple[int, str], SpectrumAccumulator] = {}
        for batch in indices.split(self._at_once):
            for layer, codes in self.learner.codes(self.held_out.gather(batch[None])[0][0]).items():
                for member, code in enumerate(codes):
                    if (member, layer) not in spectra:
                        spectra[member, layer] = SpectrumAccumulator(
                            memory_limit=sys.maxsize, expected_images=len(indices), name=layer
                        )  # never sketched: a number of training says nothing of how it was found
                    try:
                        spectra[member, layer].update(code)
                    except SpectrumError as error:
                        raise DivergenceError(f"Training stopped after epoch {self.epoch + 1}: {error}") from None
        alphas = torch.full((len(self.cells), len(self.learner.rows)), torch.nan, dtype=torch.float64)
        for (member, layer), spectrum in spectra.items():
            with contextlib.suppress(SpectrumError):
                alphas[member, self.learner.rows.index(layer)] = spectrum.compute().fit(window).alpha
        return alphas

    def _save(self) -> None:
        assert self.checkpoint is not None
        started = time.perf_counter()
        facts = {"identity": self.identity, "epoch": self.epoch, "rows": self.rows}
        save_tensors(self.checkpoint, self.learner.state(), facts)
        ended = time.perf_counter()
        self._save_from = ended + min(_BETWEEN_SAVES * (ended - started), _LONGEST_UNSAVED)

    def _load(self) -> None:
        assert self.checkpoint is not None
        tensors, facts = load_tensors(self.checkpoint)
        kinds = {"identity": dict, "epoch": int, "rows": list}
        if not isinstance(facts, dict) or not all(isinstance(facts.get(name), kind) for name, kind in kinds.items()):
            raise CheckpointError(f"{self.checkpoint} is not a checkpoint of a training run. Remove it to start again.")
        for part, mine in self.identity.items():
            theirs = facts["identity"].get(part)
            if theirs != mine:
                raise CheckpointError(
                    f"{self.checkpoint} belongs to another run: its {part} differ{_difference(theirs, mine)}. Use the same "
                    "configuration, another folder, or remove it to start again."
                )
        self.learner.load_state(copy.deepcopy(tensors))
        self.epoch, self.rows = facts["epoch"], facts["rows"]


def _mean(values: list[Tensor], weights: Tensor) -> Tensor:
    """Mean over steps, each weighed by its batch's size."""
    return torch.einsum("s,smr->mr", weights / weights.sum(), torch.stack(values))


def _difference(theirs: Any, mine: Any) -> str:
    """The first setting that differs, in words."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in mine:
            if theirs.get(key) != mine[key]:
                inner = _difference(theirs.get(key), mine[key])
                return inner or f" ({key}: {theirs.get(key)!r} there, {mine[key]!r} here)"
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) != len(mine):
        return f" ({len(theirs)} there, {len(mine)} here)"
    if isinstance(theirs, list) and isinstance(mine, list):
        return next((found for a, b in zip(theirs, mine, strict=True) if a != b and (found := _difference(a, b))), "")
    return ""
