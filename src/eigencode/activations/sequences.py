"""Which tensors of a network have the tokens of a mask on their second axis: they are shorter where these are fewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigencode._inputs import Inputs
from eigencode.activations.tracing import Site, trace
from eigencode.errors import ActivationError

_DIMENSIONS = 3
"""Of (n, tokens, features)."""

_WITHIN = "its tokens are not on its second axis alone"
_UNKNOWN = "the network does not run with fewer tokens, which would show where they are"
_PADDED = "the network pads its inputs to a multiple of {} tokens. Pad them to one yourself and pass a mask"


@dataclass(frozen=True)
class TokenAxis:
    """How a tensor depends on the tokens of masks.

    Attributes:
        masks: Their names.
        is_second: Whether the tokens of the only one are its second axis alone.
        otherwise: What is known if they are not, in words.
        multiple: The network pads its inputs to a multiple of this number of tokens; 1 if it does not.
    """

    masks: tuple[str, ...]
    is_second: bool
    otherwise: str = ""
    multiple: int = 1

    def padded_inside(self, length: int, count: int) -> str:
        """Why a tensor with this many tokens holds more than the network was given, or nothing if it does not."""
        return _PADDED.format(self.multiple) if self.multiple > 1 and length != count else ""


def token_axes(model: nn.Module, inputs: Inputs, sites: Iterable[Site], masks: Mapping[str, Tensor]) -> dict[str, TokenAxis]:
    """Token axes of sites, found by forward passes with one token less for each mask, with half of them, and with one alone.

    Where a site is as long with all of these, a pass with more tokens than it has tells whether the network pads its inputs.

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
        others = _shapes(model, inputs, name, count, [length for length in (count - 1, count // 2, 1) if 0 < length < count])
        same = [site for site in long if _is_usual(site) and site.shape[1] >= count and _is_same(site, others)]
        others |= _shapes(model, inputs, name, count, [site.shape[1] + 1 for site in same])
        for site in long:
            axis = _axis_of(site, name, count, others)
            if axis is not None and site.name in found:
                axis = TokenAxis((*found[site.name].masks, name), False, _WITHIN)
            if axis is not None:
                found[site.name] = axis
    return found


def _axis_of(site: Site, mask: str, count: int, others: Mapping[int, Mapping[str, tuple[int, ...]]]) -> TokenAxis | None:
    """Of one site and mask; ``others`` holds the shapes of all sites for other numbers of tokens."""
    shapes = {length: found[site.name] for length, found in others.items() if site.name in found}
    if not shapes:
        return TokenAxis((mask,), False, _UNKNOWN) if count in site.shape[1:] and count > 1 else None
    if _is_same(site, others):
        return None
    if not _is_usual(site):
        return TokenAxis((mask,), False, _WITHIN)
    multiple = min(shape[1] for shape in shapes.values()) if 1 in shapes or site.shape[1] > count else 1
    is_second = all(
        shape == (site.shape[0], -(-length // multiple) * multiple, site.shape[2])
        for length, shape in {**shapes, count: site.shape}.items()
    )
    return TokenAxis((mask,), is_second, "" if is_second else _WITHIN, multiple if is_second else 1)


def _is_usual(site: Site) -> bool:
    """Whether it is (n, tokens, features)."""
    return len(site.shape) == _DIMENSIONS and site.channel_axis == -1


def _is_same(site: Site, others: Mapping[int, Mapping[str, tuple[int, ...]]]) -> bool:
    """Whether it has one shape for all numbers of tokens."""
    return all(found.get(site.name, site.shape) == site.shape for found in others.values())


def _shapes(
    model: nn.Module, inputs: Inputs, mask: str, count: int, lengths: Iterable[int]
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Other number of tokens -> site -> its shape; without those with which the network does not run."""
    found = {}
    for length in dict.fromkeys(lengths):
        with suppress(ActivationError):
            traced = trace(model, _with_tokens(inputs, mask, count, length), head=False)
            found[length] = {name: site.shape for name, site in traced.sites.items()}
    return found


def _with_tokens(inputs: Inputs, mask: str, count: int, length: int) -> Inputs:
    """Inputs with another number of tokens of the sequence that a mask belongs to: the first ones, over again if these are more."""
    prefix = mask[: mask.rfind("attention_mask")] if mask.endswith("attention_mask") else ""

    def cut(name: str, value: object) -> object:
        is_other = name.startswith("decoder_") if not prefix else not name.startswith(prefix)
        if is_other or not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != count:
            return value
        return value[:, torch.arange(length, device=value.device) % count]

    args = tuple(cut("", value) for value in inputs.args) if not prefix else inputs.args
    return Inputs(args, {name: cut(name, value) for name, value in inputs.kwargs.items()})
