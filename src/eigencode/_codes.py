"""What a code is: which numbers of a layer's output are units, and what its samples are. Nothing heavy is imported here."""

from dataclasses import dataclass
from typing import Literal

Units = Literal["all", "channels", "pooled"]
"""Of a map: all its numbers, its channels with positions as samples, or their means over positions."""

Tokens = Literal["all", "mean", "cls", "last"]
"""Of tokens (n, tokens, features) under "all" units: side by side, their mean, the first, or the last."""

Channels = Literal["auto", "first", "last"]
"""Where the channels of a map are, after the axis of inputs: as its module says, or as asked."""


@dataclass(frozen=True)
class CodeOptions:
    """How a layer's output becomes a code.

    Args:
        units: What a unit is in a convolution map: all numbers, channels (positions are samples), or pooled.
        tokens: Which tokens of a token model, under units=all: all side by side, their mean, the first (cls) or the last.
        channels: Where the channels of a map are, after the axis of images. auto: as its module says, else the first.
    """

    units: Units = "all"
    tokens: Tokens = "all"
    channels: Channels = "auto"
