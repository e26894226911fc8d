"""What a finished measurement leaves: its numbers, with everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from eigencode.provenance import hardware, versions
from eigencode.spectra import resolve_window
from eigencode.spectra.power_law import Ranks


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
    window, weights = resolve_window(ranks)
    rows = [{str(key): _plain(value) for key, value in row.items()} for row in summary.to_dict("records")]
    return {
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "configuration": dict(configuration),
        "seed": seed,
        "ranks": list(window),
        "weights": weights,
        "versions": versions(),
        "hardware": hardware(),
        "layers": rows,
        "skipped": dict(skipped or {}),
        "recording": {key: _plain(value) for key, value in recording.items()} if recording else None,
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
