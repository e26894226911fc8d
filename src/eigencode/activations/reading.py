"""Activations at sites, handed over while a network runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eigencode._arithmetic import full_float32
from eigencode._codes import CodeOptions
from eigencode.activations.codes import CodeKeywords, TokenAxis, as_code, options_at, padding_in
from eigencode.activations.hooks import evaluating, hooked, tensors_given, tensors_in
from eigencode.activations.tracing import Site


class Coded(NamedTuple):
    """A code in one forward pass.

    Attributes:
        rows: Shape (n, positions, units); None if it would have padding in it.
        mask: Which positions are samples, shape (n, positions); None if all are.
        reason: Why there are no rows.
    """

    rows: Tensor | None
    mask: Tensor | None = None
    reason: str = ""


@contextmanager
def captured(model: nn.Module, sites: Collection[Site], consume: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hands the tensors at sites to ``consume`` while the model runs, as autograd sees them.

    Args:
        model: Network.
        sites: Where to read.
        consume: Called with a site's name and its tensor, the axis of inputs first, which a later module may change in place.

    Yields:
        Nothing; run the model inside the block.
    """
    wanted: dict[tuple[str, int, str], list[Site]] = defaultdict(list)
    for site in sites:
        wanted[site.module, site.call, site.side].append(site)

    def read(asked: Collection[Site], found: dict[str, Tensor]) -> None:
        for site in asked:
            if (tensor := found.get(site.place)) is not None:
                consume(site.name, tensor.movedim(site.input_axis, 0) if site.input_axis else tensor)

    def before(name: str, call: int, args: Any, kwargs: Any) -> None:
        if asked := wanted.get((name, call, "input")):
            read(asked, dict(tensors_given(args, kwargs)))

    def after(name: str, call: int, output: Any) -> None:
        if asked := wanted.get((name, call, "output")):
            read(asked, dict(tensors_in(output)))

    sides = {side for _, _, side in wanted}
    with hooked(
        model,
        {site.module for site in sites},
        before=before if "input" in sides else None,
        after=after if "output" in sides else None,
    ):
        yield


@contextmanager
def capture_codes(
    model: nn.Module,
    sites: Sequence[Site],
    consume: Callable[[str, Coded], None],
    options: CodeOptions,
    axes: Mapping[str, TokenAxis] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Hands every forward pass's code at the given sites to ``consume`` while the pass is running.

    Args:
        model: Network.
        sites: Where to read.
        consume: Called with the site's name and its code, which is valid during the call only.
        options: See ``as_code``; channels "auto" are where the module of each site has them.
        axes: Site -> how it depends on the tokens of a mask.
        masks: Name -> which tokens count, shape (n, tokens), truth values; the others are padding.

    Yields:
        Nothing; run the model inside the block. Noise that it draws is fresh in each pass; the caller keeps the random state.
    """
    own = {site.name: options_at(site, options) for site in sites}

    def read(name: str, tensor: Tensor) -> None:
        axis = axes.get(name) if axes and masks else None
        consume(name, coded(tensor, own[name], axis, [masks[each] for each in axis.masks] if axis and masks else []))

    with full_float32(), evaluating(model), captured(model, sites, read):
        yield


def coded(tensor: Tensor, own: CodeKeywords, axis: TokenAxis | None, masks: Sequence[Tensor]) -> Coded:
    """The code that a tensor holds.

    Args:
        tensor: Tensor, the axis of inputs first.
        own: Options of ``as_code`` at its site.
        axis: How it depends on the tokens of masks; None if it does not.
        masks: These masks, truth values, shape (n, tokens); the first is that of the samples.
    """
    if axis is None or not masks:
        return Coded(as_code(tensor, **own))
    mask = masks[0]
    if len(tensor) != len(mask):
        return Coded(tensor[:, None])  # whoever counts rows says so
    is_sample, is_full = own["units"] == "channels", all(bool(each.all()) for each in masks)
    if not axis.is_second or own["channels"] == "first" or tensor.shape[1] != mask.shape[1]:
        padded = axis.padded_inside(tensor.shape[1], mask.shape[1])
        if not is_full or padded:
            why = padded or axis.otherwise or "its tokens are not those of the mask"
            return Coded(None, reason=f"its output of shape {tuple(tensor.shape)} may hold padding: {why}")
        rows = as_code(tensor, **own)
        return Coded(rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device) if is_sample else None)
    if not is_full and (reason := padding_in(tuple(tensor.shape), **own, mask=mask)):
        return Coded(None, reason=reason)
    return Coded(as_code(tensor, **own, mask=mask), mask if is_sample else None)
