"""How layers are measured: one list of options for Python and the command line. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from eigencode._codes import Channels, CodeOptions, Tokens, Units
from eigencode._sizes import parse_bytes
from eigencode.errors import ActivationError


@dataclass(frozen=True)
class StatisticsOptions(CodeOptions):
    """What is kept of the codes of layers.

    Args:
        memory_limit: Memory for the statistics of all layers at once. Layers that do not fit take further passes over the
            images; a layer that does not fit alone is sketched.
        half_samples: Random half-samples for the interval of alpha. 0 for none.
        seed: Seed of half-samples and sketches.
    """

    memory_limit: str | int = "4GiB"
    half_samples: int = 20
    seed: int = 0


@dataclass(frozen=True)
class MeasuringOptions(StatisticsOptions):
    """How layers are measured.

    Args:
        batch_size: Images taken at once.
    """

    batch_size: int = 128


class StatisticsKeywords(TypedDict, total=False):
    """The same for checkers of types, which read no dataclass as keywords (PEP 692)."""

    units: Units
    tokens: Tokens
    channels: Channels
    memory_limit: str | int
    half_samples: int
    seed: int


class MeasuringKeywords(StatisticsKeywords, total=False):
    """The same of ``MeasuringOptions``."""

    batch_size: int


@dataclass(frozen=True)
class MeasuringSettings(MeasuringOptions):
    """What all passes of one call share; the caller has checked all but the limit."""

    layers: str | Sequence[str] = "penultimate"

    def __post_init__(self) -> None:
        """Refuses a limit that is none before anything is done."""
        parse_bytes(self.memory_limit)

    @property
    def limit(self) -> int:
        """Bytes for the statistics of all layers and the results."""
        return parse_bytes(self.memory_limit)


def check_tokens(caller: str, options: CodeOptions) -> None:
    """Refuses a choice of tokens where all tokens are samples."""
    if options.tokens != "all" and options.units != "all":
        raise ActivationError(
            f"{caller}: `tokens` is read with units='all' alone; got tokens={options.tokens!r} with units={options.units!r}. "
            "Leave one of them out."
        )
