"""Activations at sites, handed over while a network runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from eigencode._arithmetic import full_float32
from eigencode._codes import CodeOptions
from eigencode.activations.codes import as_code, options_at
from eigencode.activations.hooks import evaluating, hooked, tensors_given, tensors_in
from eigencode.activations.tracing import Site


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
    consume: Callable[[str, Tensor], None],
    options: CodeOptions,
) -> Iterator[None]:
    """Hands every forward pass's code at the given sites to ``consume`` while the pass is running.

    Args:
        model: Network.
        sites: Where to read.
        consume: Called with the site's name and a code of shape (n, positions, units), which is valid during the call only.
        options: See ``as_code``; channels "auto" are where the module of each site has them.

    Yields:
        Nothing; run the model inside the block. Noise that it draws is fresh in each pass; the caller keeps the random state.
    """
    own = {site.name: options_at(site, options) for site in sites}

    def read(name: str, tensor: Tensor) -> None:
        consume(name, as_code(tensor, **own[name]))

    with full_float32(), evaluating(model), captured(model, sites, read):
        yield
