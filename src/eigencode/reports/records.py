"""What a finished measurement leaves: its numbers, with everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from eigencode.provenance import circumstances
from eigencode.spectra import Window
from eigencode.spectra.window import Ranks


def measurement_record(
    summary: pd.DataFrame,
    *,
    title: str,
    configuration: Mapping[str, Any],
    ranks: Ranks,
    seed: int,
    skipped: Mapping[str, str] | None = None,
    recording: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Record of a measurement as JSON values; numbers that are missing are null.

    Args:
        summary: Rows of ``summary_row`` with a column condition.
        title: What was measured, in a line.
        configuration: Resolved configuration.
        ranks: Fit window.
        seed: Seed.
        skipped: Layer -> why it was skipped.
        recording: What was found in a recording measured beside the network.

    Returns:
        Record with keys title, created, configuration, seed, ranks, weights, versions, hardware, layers, skipped, recording.
    """
    window = Window.of(ranks)
    return {
        "title": title,
        **circumstances(configuration),
        "seed": seed,
        "ranks": list(window.ranks),
        "weights": window.weights,
        "layers": _rows(summary),
        "skipped": dict(skipped or {}),
        "recording": {key: _plain(value) for key, value in recording.items()} if recording else None,
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def perturbation_record(
    summary: pd.DataFrame,
    *,
    curves: Mapping[str, pd.DataFrame],
    flags: Mapping[str, Mapping[str, str]],
    failed: Mapping[str, str],
    components: Mapping[str, Any] | None = None,
    **measured: Any,
) -> dict[str, Any]:
    """Record of a measurement under perturbations.

    Args:
        summary: Rows of ``PerturbedSpectra.summary``.
        curves: Attack -> table of its ``RobustnessCurve``.
        flags: Reliability flag -> meaning and remedy, for all flags there are.
        failed: Condition -> why nothing could be measured.
        components: What principal components were fitted on.
        measured: Further arguments of ``measurement_record``.

    Returns:
        Keys of ``measurement_record``, and perturbations, curves, flags (those raised: meaning, remedy, conditions), failed,
        components.
    """
    raised: dict[str, dict[str, Any]] = {}
    for attack, curve in curves.items():
        for _, point in curve.iterrows():
            for name in filter(None, point["flags"].split(", ")):
                raised.setdefault(name, {**flags[name], "conditions": []})["conditions"].append(f"{attack} {point['epsilon']:g}")
    return {
        **measurement_record(summary, **measured),
        "perturbations": list(dict.fromkeys(summary["perturbation"])),
        "curves": {attack: _rows(curve) for attack, curve in curves.items()},
        "flags": raised,
        "failed": dict(failed),
        "components": dict(components) if components else None,
    }


def training_record(
    history: pd.DataFrame,
    outcome: pd.DataFrame,
    *,
    title: str,
    configuration: Mapping[str, Any],
    window: Window,
    names: Sequence[str],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """Record of a training as JSON values; numbers that are missing are null.

    Args:
        history: ``Training.history`` of all networks.
        outcome: One row for each network and layer, at the last epoch.
        title: What was trained, in a line.
        configuration: Resolved configuration.
        window: Ranks and weights of the exponents.
        names: The networks' names, in the order of ``member``.
        failed: Networks that diverged, and how.

    Returns:
        Record with keys title, created, configuration, versions, hardware, ranks, weights, seconds, networks,
            failed, outcome, history.
    """
    return {
        "title": title,
        **circumstances(configuration),
        "ranks": list(window.ranks),
        "weights": window.weights,
        "seconds": round(float(history.drop_duplicates(["member", "epoch"])["seconds"].sum()), 1),
        "networks": list(names),
        "failed": dict(failed),
        "outcome": _rows(outcome),
        "history": _rows(history),
    }
