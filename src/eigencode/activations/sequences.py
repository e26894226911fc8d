"""Which tensors of a network have the tokens of a mask on their second axis: they are shorter where these are fewer."""

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
_UNKNOWN = "the network does not run with fewer tokens, which would show where they are"


@dataclass(frozen=True)
class TokenAxis:
    """How a tensor depends on the tokens of masks.

    Attributes:
        masks: Their names.
        is_second: Whether the tokens of the only one are its second axis alone.
        otherwise: What is known if they are not, in words.
    """

    masks: tuple[str, ...]
    is_second: bool
    otherwise: str = ""


def token_axes(model: nn.Module, inputs: Inputs, sites: Iterable[Site], masks: Mapping[str, Tensor]) -> dict[str, TokenAxis]:
    """Token axes of sites, found by forward passes with one token less for each mask, with half of them, and with one alone.

    Args:
        model: Network.
        inputs: The inputs with which the sites were traced.
        sites: Sites.
        masks: Name -> which tokens count, shape (n, tokens).

    Returns:
        Name of a site -> its axis, of those whose shape depends on the number of tokens, or may.
    """
    found: dict[str, TokenAxis] = {}
    long = [site for site in sites if len(site.shape) > 1]
    for name, mask in masks.items() if long else ():
        count = mask.shape[1]
        lengths = [length for length in dict.fromkeys((count - 1, count // 2, 1)) if 0 < length < count]
        shorter = {length: shapes for length in lengths if (shapes := _shapes(model, inputs, name, (count, length)))}
        for site in long:
            axis = _axis_of(site, name, count, shorter)
            if axis is not None and site.name in found:
                axis = TokenAxis((*found[site.name].masks, name), False, _WITHIN)
            if axis is not None:
                found[site.name] = axis
    return found


def _axis_of(site: Site, mask: str, count: int, shorter: Mapping[int, Mapping[str, tuple[int, ...]]]) -> TokenAxis | None:
    """Of one site and mask; ``shorter`` holds the shapes of all sites for other numbers of tokens."""
    shapes = {length: found[site.name] for length, found in shorter.items() if site.name in found}
    if not shapes:
        return TokenAxis((mask,), False, _UNKNOWN) if count in site.shape[1:] and count > 1 else None
    if all(shape == site.shape for shape in shapes.values()):
        return None
    is_usual = len(site.shape) == _DIMENSIONS and site.channel_axis == -1 and site.shape[1] == count
    is_second = is_usual and all(shape == (site.shape[0], length, site.shape[2]) for length, shape in shapes.items())
    return TokenAxis((mask,), is_second, "" if is_second else _WITHIN)


def _shapes(model: nn.Module, inputs: Inputs, mask: str, lengths: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Site -> its shape with fewer tokens; nothing if the network does not run so."""
    try:
        return {name: site.shape for name, site in trace(model, _shortened(inputs, mask, *lengths), head=False).sites.items()}
    except ActivationError:
        return {}


def _shortened(inputs: Inputs, mask: str, count: int, length: int) -> Inputs:
    """Inputs with the first tokens alone of the sequence that a mask belongs to."""
    prefix = mask[: mask.rfind("attention_mask")] if mask.endswith("attention_mask") else ""

    def cut(name: str, value: object) -> object:
        is_other = name.startswith("decoder_") if not prefix else not name.startswith(prefix)
        if is_other or not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != count:
            return value
        return value[:, :length]

    args = tuple(cut("", value) for value in inputs.args) if not prefix else inputs.args
    return Inputs(args, {name: cut(name, value) for name, value in inputs.kwargs.items()})
