"""What a code is: which numbers of a layer's output are units, and what its samples are. Nothing heavy is imported here."""

from typing import Literal

Units = Literal["all", "channels", "pooled"]
"""Of a map (n, channels, positions...): all its numbers, its channels with positions as samples, or their means over these."""

Tokens = Literal["all", "mean", "cls"]
"""Of tokens (n, tokens, features) under "all" units: side by side, their mean, or the first."""
