"""What a finished measurement leaves: its numbers, with everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from eigencode.attacks.reliability import FLAGS
from eigencode.measurement.perturbed import PerturbedSpectra
from eigencode.perturbations import PrincipalComponents
from eigencode.provenance import circumstances
from eigencode.spectra.window import Ranks, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasurementRecord:
    """Record of a measurement.

    Attributes:
        summary: Rows of ``summary_row`` with a column condition.
        title: What was measured, in a line.
        configuration: Resolved configuration.
        ranks: Fit window.
        seed: Seed.
        skipped: Layer -> why it was skipped.
        notes: Layer -> what to know of where it was read.
        accuracy: Network -> share of the labelled images that it classifies rightly.
        recording: What was found in a recording measured beside the network.
    """

    summary: pd.DataFrame
    title: str
    configuration: Mapping[str, Any]
    ranks: Ranks
    seed: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    recording: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; numbers that are missing are null."""
        return {
            "title": self.title,
            **circumstances(self.configuration),
            "seed": self.seed,
            **_window(self.ranks),
            "layers": _rows(self.summary),
            "skipped": dict(self.skipped),
            "notes": dict(self.notes),
            "accuracy": dict(self.accuracy),
            "recording": _row(self.recording) if self.recording else None,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class PerturbationRecord(MeasurementRecord):
    """Record of a measurement under perturbations, whose ``summary`` has the rows of ``PerturbedSpectra.summary``.

    Attributes:
        results: Perturbation -> what came out.
        components: Principal components that were used.
    """

    results: Mapping[str, PerturbedSpectra]
    components: PrincipalComponents | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; of the reliability flags those raised, with meaning, remedy and conditions."""
        fitted = self.components
        curves = {name: found.curve for name, found in self.results.items() if found.curve}
        raised: dict[str, dict[str, Any]] = {}
        for name, curve in curves.items():
            for point in curve.points:
                for flag in point.flags:
                    entry = raised.setdefault(flag, {**vars(FLAGS[flag]), "conditions": []})
                    entry["conditions"].append(f"{name} {point.epsilon:g}")
        return super().as_dict() | {
            "perturbations": list(dict.fromkeys(self.summary["perturbation"])),
            "curves": {name: _rows(curve.table()) for name, curve in curves.items()},
            "flags": raised,
            "failed": {label: reason for found in self.results.values() for label, reason in found.failed.items()},
            "components": {"source": fitted.source, "images": fitted.n_samples, "rank": fitted.rank} if fitted else None,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRecord:
    """Record of a training.

    Attributes:
        history: ``Training.history`` of all networks, without the seconds of each epoch.
        outcome: One row for each network and layer, at the last epoch.
        title: What was trained, in a line.
        configuration: Resolved configuration.
        window: Ranks and weights of the exponents.
        seconds: Seconds of training and reading.
        names: The networks' names, in the order of ``member``.
        failed: Networks that diverged, and how.
    """

    history: pd.DataFrame
    outcome: pd.DataFrame
    title: str
    configuration: Mapping[str, Any]
    window: Window
    seconds: float
    names: Sequence[str]
    failed: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; numbers that are missing are null."""
        return {
            "title": self.title,
            **circumstances(self.configuration),
            **_window(self.window),
            "seconds": round(self.seconds, 1),
            "networks": list(self.names),
            "failed": dict(self.failed),
            "outcome": _rows(self.outcome),
            "history": _rows(self.history),
        }


def _window(ranks: Ranks) -> dict[str, Any]:
    window = Window.of(ranks)
    return {"ranks": list(window.ranks), "weights": window.weights}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [_row(row) for row in table.to_dict("records")]


def _row(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()}
