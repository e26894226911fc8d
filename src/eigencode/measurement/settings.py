"""What all measurements of one call share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eigencode.activations import Tokens, Units


@dataclass(frozen=True)
class MeasuringSettings:
    """How layers are measured, in all passes of one call: its arguments, which are checked there; the limit in bytes."""

    layers: str | Sequence[str]
    units: Units
    tokens: Tokens
    batch_size: int
    memory_limit: int
    half_samples: int
    seed: int
