"""The sites that a user asks for."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from torch import nn

from eigencode._arguments import shown
from eigencode._grammar import names_in
from eigencode._inputs import Inputs
from eigencode.activations.tracing import Site, Trace, trace
from eigencode.errors import ActivationError


class _Holding(Protocol):
    """What holds inputs."""

    @property
    def inputs(self) -> Inputs: ...


_B = TypeVar("_B", bound=_Holding)

_HEAD = ("head", "penultimate")
_INPUT = re.compile(r"\.input(\[.*\])?$")


def traced_for(model: nn.Module, layers: str | Sequence[str], samples: Iterable[_B]) -> tuple[Trace, _B]:
    """Traces a network for some layers, on the first of some inputs that it runs on.

    Args:
        model: Network.
        layers: As in ``select_sites``.
        samples: Small batches; of other numbers of inputs, since some networks take pairs, and some one number alone.

    Returns:
        Trace, and the batch.

    Raises:
        ActivationError: the network runs on none of them; as it was with the first.
    """
    asked = layers if isinstance(layers, str) else " ".join(map(str, layers)) if isinstance(layers, Sequence) else ""
    first: ActivationError | None = None
    for sample in samples:
        try:
            return trace(model, sample.inputs, head=any(name in asked for name in _HEAD)), sample
        except ActivationError as error:
            first = first or error
    assert first is not None
    raise first


def select_sites(traced: Trace, layers: str | Sequence[str]) -> list[Site]:
    """Sites that were asked for, in the order of the forward pass.

    Args:
        traced: What the model calls.
        layers: "all" (modules that call no others, except those that pass their input on), "head" or "penultimate" (what the
            last weighted module on the way to the scores reads), "blocks" (the repeated blocks), names of modules, of single
            calls (``relu#2``; ``head#1`` of a module that has one of these names), of one of several tensors
            (``attention[0]``), of what a module is given (``fc.input``), or globs; several in a list, or separated by commas.

    Returns:
        Sites without duplicates.

    Raises:
        ActivationError: a name or glob matches nothing; the message proposes names.
    """
    try:
        requests = names_in(layers) if isinstance(layers, str) else layers
    except ValueError as error:
        raise ActivationError(f"`layers`: {error}; got {layers!r}.") from None
    if not isinstance(requests, Sequence) or not requests or not all(isinstance(request, str) for request in requests):
        raise ActivationError(
            f"`layers` must be a name, a glob, 'head', 'blocks', 'all' or a list of these; got {shown(layers)}."
        )
    wanted: set[str] = set()
    for request in requests:
        found = _matching(traced, request)
        if not found:
            raise ActivationError(_no_such_layer(request, traced))
        wanted |= {site.name for site in found}
    return [site for name, site in traced.sites.items() if name in wanted]


def _matching(traced: Trace, request: str) -> list[Site]:
    if request == "all":
        return [site for site in traced.layers if site.leaf and not site.passes_on]
    if request in _HEAD:
        return [traced.head] if traced.head else []
    if request == "blocks":
        return _blocks(traced)
    found = [site for site in traced.layers if request in _names_of(site)]
    found = found or [site for site in traced.inputs if request in _names_of(site)]
    if not found:
        sites = traced.inputs if _INPUT.search(request) else traced.layers
        found = [site for site in sites if fnmatch.fnmatchcase(site.name, request)]
    sought = request.removesuffix(".input")
    if not found and sought in traced.others:
        return _matching(traced, traced.others[sought] + request[len(sought) :])
    return found


def _names_of(site: Site) -> tuple[str, ...]:
    """All that it may be called: by its tensor, or by its module or call, whose other tensors are found too."""
    side = ".input" if site.side == "input" else ""
    return site.name, f"{site.module}{side}", f"{site.module}#{site.call}{side}"


def _blocks(traced: Trace) -> list[Site]:
    """The first numbers that each block returns."""
    found: dict[tuple[str, int], Site] = {}
    for site in traced.layers:
        if site.module in traced.blocks and site.dtype.is_floating_point:
            found.setdefault((site.module, site.call), site)
    return list(found.values())


def _no_such_layer(request: str, traced: Trace) -> str:
    names = list(dict.fromkeys(site.name for site in traced.layers))
    if request == "all":
        return (
            f"`layers`: {request!r} finds no layer, since the network calls {len(names)} named modules "
            f"that could be read. {'Build it from modules, or name a layer' if names else 'Wrap it in a module'}."
        )
    if request in _HEAD:
        return (
            f"`layers`: {request!r} finds no layer, since no module of the network was found to make its scores by weights. Name "
            "a layer."
        )
    if request == "blocks":
        return (
            "`layers`: 'blocks' finds none, since no container has several modules of one class that contain others. Name layers."
        )
    close = difflib.get_close_matches(request, [*names, *traced.others], n=3, cutoff=0.4)
    meant = f"Did you mean {' or '.join(repr(name) for name in close)}?"
    if not close:
        meant = f"They are {', '.join(repr(name) for name in names[:6])}{', …' if len(names) > 6 else ''}."
    return f"`layers`: no layer is called {request!r} (the network has {len(names)}). {meant}"
