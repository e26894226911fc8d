"""Which tensors of a network have the tokens of a mask on their second axis: those that are shorter when the tokens are fewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from eigencode._inputs import Inputs
from eigencode.activations.tracing import Site, trace
from eigencode.errors import ActivationError

_DIMENSIONS = 3
"""Of (n, tokens, features)."""


_WITHIN = "its tokens are not on its second axis alone"
_UNKNOWN = "the network does not run with one token less, which would show where its tokens are"


@dataclass(frozen=True)
class TokenAxis:
    """How a tensor depends on the tokens of a mask.

    Attributes:
        mask: Name of the mask.
        is_second: Whether they are its second axis alone.
        otherwise: What is known if they are not, in words.
    """

    mask: str
    is_second: bool
    otherwise: str = ""


def token_axes(model: nn.Module, inputs: Inputs, sites: Iterable[Site], masks: Mapping[str, Tensor]) -> dict[str, TokenAxis]:
    """Token axes of sites, found by a forward pass with one token less for each mask.

    Args:
        model: Network.
        inputs: The inputs with which the sites were traced.
        sites: Sites.
        masks: Name -> which tokens count, shape (n, tokens).

    Returns:
        Name of a site -> its axis, of those that depend on the tokens of a mask, or may.
    """
    long = [site for site in sites if len(site.shape) >= _DIMENSIONS]
    found: dict[str, TokenAxis] = {}
    for name, mask in masks.items() if long else ():
        count = mask.shape[1]
        try:
            shorter = None if count < 2 else trace(model, _shortened(inputs, name, count), head=False).sites
        except ActivationError:
            shorter = None
        for site in long:
            other = None if shorter is None else shorter.get(site.name)
            if other is None:
                if count in site.shape[1:]:
                    found.setdefault(site.name, TokenAxis(name, False, _UNKNOWN))
            elif other.shape != site.shape:
                is_usual = len(site.shape) == _DIMENSIONS and site.channel_axis == -1
                is_second = is_usual and (site.shape[1], other.shape) == (count, (site.shape[0], count - 1, site.shape[2]))
                found.setdefault(site.name, TokenAxis(name, is_second, "" if is_second else _WITHIN))
    return found


def _shortened(inputs: Inputs, mask: str, count: int) -> Inputs:
    """Inputs without the last token of the sequence that a mask belongs to."""
    prefix = mask[: mask.rfind("attention_mask")] if mask.endswith("attention_mask") else ""

    def cut(name: str, value: object) -> object:
        is_other = name.startswith("decoder_") if not prefix else not name.startswith(prefix)
        if is_other or not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != count:
            return value
        return value[:, :-1]

    args = tuple(cut("", value) for value in inputs.args) if not prefix else inputs.args
    return Inputs(args, {name: cut(name, value) for name, value in inputs.kwargs.items()})
