"""One forward pass of a few inputs: every site where a code can be read, and which of them the classifier reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._inputs import Inputs, run
from eigencode._running import cannot_run
from eigencode.activations.blocks import blocks_of
from eigencode.activations.calls import Call, key_of, possible_scores, recorded
from eigencode.activations.codes import axes_of
from eigencode.activations.head import Rerun, head_of, last_weighted, makes, random_state, unusual
from eigencode.activations.hooks import measuring, named_modules, state_put_back, unwrapped
from eigencode.errors import ActivationError

_PASS_ON = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
"""Modules whose output in evaluation mode is their input, reshaped at most: another layer already shows that code."""

_OF_SEQUENCES = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
"""Modules that take tensors without an axis of inputs too."""


@dataclass(frozen=True)
class Site:
    """One tensor that a module returns, or is given, in a forward pass.

    Attributes:
        name: Module name; with #k for the k-th of several calls, ``.input`` for what it is given, and [i] for one of several
            tensors.
        module: Module name alone.
        call: Number of the call, from 1.
        side: "output" or "input".
        place: Where the tensor is among those of the call: "", "[0]", "[key]".
        leaf: Whether it calls no other module.
        passes_on: Whether its output in evaluation mode is its input.
        shape: Shape for the traced inputs, the axis of inputs first.
        dtype: Type.
        input_axis: Axis along which it has a row for each input, as the module documents it.
        channel_axis: Axis of channels or features after the first axis: 1 or -1.
        is_channel_known: Whether the module says which axis that is; else the usual one is taken.
        n_states: Layers times directions whose last states it holds; 0 of what is none of a recurrent layer.
        is_single: Whether it belongs to one sequence without an axis of inputs, as some modules allow.
    """

    name: str
    module: str
    call: int
    side: Literal["output", "input"]
    place: str
    leaf: bool
    passes_on: bool
    shape: tuple[int, ...]
    dtype: torch.dtype
    input_axis: int = 0
    channel_axis: int = -1
    is_channel_known: bool = True
    n_states: int = 0
    is_single: bool = False


@dataclass(frozen=True)
class Trace:
    """What one forward pass called.

    Attributes:
        sites: Name -> every tensor that a module was given or returned, in the order of the pass.
        head: What the last weighted module on the way to the scores reads; None if there is none.
        note: What is unusual about it; empty if nothing is.
        blocks: Names of the repeated blocks.
        others: Other name of a module -> the name that it has here.
    """

    sites: Mapping[str, Site]
    head: Site | None
    note: str
    blocks: tuple[str, ...]
    others: Mapping[str, str]

    @property
    def layers(self) -> tuple[Site, ...]:
        """What modules returned."""
        return tuple(site for site in self.sites.values() if site.side == "output")

    @property
    def inputs(self) -> tuple[Site, ...]:
        """What modules were given."""
        return tuple(site for site in self.sites.values() if site.side == "input")


@checked(ActivationError)
def trace(model: nn.Module, inputs: Tensor | Mapping[str, Any] | Inputs, *, head: bool = True) -> Trace:
    """Runs the model once and lists what can be measured; what it keeps between calls is as before.

    Args:
        model: Network.
        inputs: Small batch, on the model's device: one tensor, or a mapping of arguments by name.
        head: Find out what makes the scores too, for which the model may have to run again, with outputs of modules changed.

    Returns:
        Trace.

    Raises:
        ActivationError: the model cannot run on these inputs, or runs no hooks.
    """
    model, inputs = unwrapped(model), Inputs.of(inputs)
    modules, others = named_modules(model)
    calls: list[Call] = []
    try:
        with measuring(model), state_put_back(model):
            state = random_state(inputs)
            with recorded(model, modules, calls):
                possible = possible_scores(run(model, inputs))
            scores = next(iter(possible), None)
            chosen = head_of(modules, calls, Rerun(model, inputs, state, scores)) if head and scores is not None else None
    except Exception as error:  # networks refuse inputs in any way they like
        raise ActivationError(cannot_run(model, inputs, error)) from error
    return _listed(_Pass(modules, others, calls, len(inputs)), chosen, possible, blocks_of(model, modules))


@dataclass(frozen=True)
class _Pass:
    """What one forward pass called, of modules by their names; with the modules' other names, and how many inputs it had."""

    modules: Mapping[str, nn.Module]
    others: Mapping[str, str]
    calls: Sequence[Call]
    count: int


def _listed(made: _Pass, chosen: Call | None, possible: Sequence[Tensor], blocks: tuple[str, ...]) -> Trace:
    """All sites of a pass.

    Args:
        made: The pass.
        chosen: The call that makes the scores, if it is known.
        possible: All that may be the scores, the scores first.
        blocks: Names of the repeated blocks.
    """
    calls = made.calls
    several = frozenset(name for name, count in Counter(call.module for call in calls).items() if count > 1)
    listed = _Listed(made.modules, several, made.count)
    timed = [(call.begun, site) for call in calls for site in listed.sites(call, "input")]
    timed += [(call.ended, site) for call in calls for site in listed.sites(call, "output")]
    sites = {site.name: site for site in with_known_channels([site for _, site in sorted(timed, key=lambda each: each[0])])}
    found, note = None, ""
    if chosen is not None:
        found = sites[listed.head(chosen, calls[: calls.index(chosen)])]
        note = unusual(found.name, chosen, possible[0], sum(each.shape[:1] == (made.count,) for each in possible))
    return Trace(sites, found, note, blocks, made.others)


class Followed:
    """A forward pass that somebody else runs, from within ``calls``: what it called, and the numbers at its sites.

    Args:
        model: Network, without what wraps it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules, self.others = named_modules(model)
        self.made: list[Call] = []

    def calls(self) -> Any:
        """Inside, the modules that the network calls are followed."""
        return recorded(self.model, self.modules, self.made)

    def trace(self, count: int, outputs: Any) -> Trace:
        """All sites, and the head where the call that makes the scores is the last one with weights.

        Args:
            count: Inputs of the pass.
            outputs: What the network gave.
        """
        possible = possible_scores(outputs)
        chosen = last_weighted(self.modules, self.made)
        if chosen is not None and not (possible and makes(chosen, possible[0])):
            chosen = None  # others may make them, which only a second pass can tell
        return _listed(_Pass(self.modules, self.others, self.made, count), chosen, possible, blocks_of(self.model, self.modules))

    def tensor(self, site: Site) -> Tensor | None:
        """The numbers at a site, with the axis of inputs first; None if the network has changed them in place since."""
        call = next(each for each in self.made if (each.module, each.number) == (site.module, site.call))
        for place, tensor, key in call.made if site.side == "output" else call.given:
            if place == site.place:
                unchanged = key is not None and repr(key_of(tensor)) == repr(key)  # of NaN too
                return tensor.movedim(site.input_axis, 0) if unchanged else None
        return None


@dataclass(frozen=True)
class _Listed:
    """Sites of calls."""

    modules: Mapping[str, nn.Module]
    several: frozenset[str]
    count: int

    def sites(self, call: Call, side: Literal["output", "input"]) -> Iterator[Site]:
        """Those of one call, on one side."""
        found = call.made if side == "output" else call.given
        for place, tensor, _ in found:
            yield self._site(call, side, place, tensor, alone=len(found) == 1)

    def _site(self, call: Call, side: Literal["output", "input"], place: str, tensor: Tensor, *, alone: bool) -> Site:
        module = self.modules[call.module]
        axes = axes_of(module, tensor, place, self.count, is_output=side == "output")
        numbered = call.module in self.several or (side == "input" and f"{call.module}.input" in self.modules)
        shape = tuple(tensor.shape if not axes.inputs else tensor.movedim(axes.inputs, 0).shape)
        is_state = isinstance(module, nn.RNNBase) and side == "output" and place.startswith("[1]")
        name = call.module + (f"#{call.number}" if numbered else "") + (".input" if side == "input" else "")
        return Site(
            name=name + ("" if alone else place),
            module=call.module,
            call=call.number,
            side=side,
            place=place,
            leaf=not call.inner,
            passes_on=isinstance(module, _PASS_ON),
            shape=shape,
            dtype=tensor.dtype,
            input_axis=axes.inputs,
            channel_axis=axes.channels,
            is_channel_known=axes.known,
            n_states=shape[1] if is_state and len(shape) > 2 else 0,
            is_single=isinstance(module, _OF_SEQUENCES) and tensor.ndim == 2,
        )

    def head(self, chosen: Call, earlier: Sequence[Call]) -> str:
        """Name of the output of an earlier call if that is what the chosen one reads, unchanged; else of its input."""
        given = [each for each in zip(self.sites(chosen, "input"), chosen.given, strict=True) if each[0].dtype.is_floating_point]
        rows = [each for each in given if each[0].shape[:1] == (self.count,) and len(each[0].shape) > 1]
        own, (_, _, key) = (rows or given)[0]
        same: list[Site] = []
        for call in reversed(earlier) if key is not None else ():
            same += [
                site
                for site, (_, _, other) in zip(self.sites(call, "output"), call.made, strict=True)
                if other == key and not site.passes_on and site.shape[:1] == own.shape[:1]
            ]
        return next((site for site in same if site.leaf), (same or [own])[0]).name


def with_known_channels(sites: Sequence[Site]) -> list[Site]:
    """Sites whose modules do not say where channels are, with those of others of the same shape: before them, or else after.

    Where the first axis and the last are of one size, all others of that shape must agree.
    """
    found = list(sites)
    agreed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for site in sites:
        if site.is_channel_known:
            agreed[site.shape[1:]].add(site.channel_axis)
    for numbers in (range(len(found)), reversed(range(len(found)))):
        known: dict[tuple[int, ...], int] = {}
        for number in numbers:
            site, shape = found[number], found[number].shape[1:]
            if site.is_channel_known:
                known[shape] = site.channel_axis
            elif shape in known and (shape[0] != shape[-1] or (len(agreed[shape]) == 1 and len(shape) > 2)):
                found[number] = replace(site, channel_axis=known[shape], is_channel_known=True)
    return found
