"""One forward pass of a few inputs: every site where a code can be read, and which of them the classifier reads."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._running import cannot_run, given_to
from eigencode.activations.blocks import blocks_of
from eigencode.activations.codes import axes_of
from eigencode.activations.hooks import hooked, measuring, named_modules, tensors_given, tensors_in, unwrapped
from eigencode.errors import ActivationError

_PASS_ON = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
"""Modules whose output in evaluation mode is their input, reshaped at most: another layer already shows that code."""

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Their weights may have two dimensions, and make no units of their own."""

Key = tuple[int, int, int, int]
"""Of a tensor's numbers: where they are kept, how many, of how many images, and how often they were changed in place."""


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


@dataclass
class _Call:
    """One call of a module: tensors with their places and keys, as they were then."""

    module: str
    number: int
    given: list[tuple[str, Tensor, Key]]
    made: list[tuple[str, Tensor, Key]] = field(default_factory=list)
    calls_others: bool = False
    begun: int = 0
    ended: int = 0


def site_name(module: str, call: int, place: str, *, several: frozenset[str], side: str = "output") -> str:
    """Name of one tensor: ``conv``, ``relu#2``, ``attention[0]``, ``fc.input``."""
    return module + (f"#{call}" if module in several else "") + (".input" if side == "input" else "") + place


@checked(ActivationError)
def trace(model: nn.Module, inputs: Tensor) -> Trace:
    """Runs the model once and lists what can be measured.

    Args:
        model: Network.
        inputs: Small batch, on the model's device.

    Returns:
        Trace.

    Raises:
        ActivationError: the model cannot run on these inputs, or runs no hooks.
    """
    model = unwrapped(model)
    modules, others = named_modules(model)
    calls: list[_Call] = []
    try:
        with measuring(model):
            state = _random_state(inputs)
            with _recorded(model, modules, calls):
                scores = _scores_in(model(given_to(model, inputs)))
            chosen, note = _head(model, modules, calls, _Rerun(inputs, state, scores))
    except Exception as error:  # networks refuse inputs in any way they like
        raise ActivationError(cannot_run(model, inputs, error)) from error
    several = frozenset(name for name, count in Counter(call.module for call in calls).items() if count > 1)
    listed = _Listed(modules, several, len(inputs))
    timed = [(call.begun, site) for call in calls for site in listed.sites(call, "input")]
    timed += [(call.ended, site) for call in calls for site in listed.sites(call, "output")]
    sites = {site.name: site for site in with_known_channels([site for _, site in sorted(timed, key=lambda each: each[0])])}
    head = None if chosen is None else sites[listed.head(chosen, calls[: calls.index(chosen)])]
    return Trace(sites, head, note.format(head=head.name) if head else "", blocks_of(model, modules), others)


def _recorded(model: nn.Module, modules: Mapping[str, nn.Module], calls: list[_Call]) -> Any:
    """Adds each call of a module when it ends. All tensors stay referenced, so that their addresses are theirs alone."""
    open_calls: list[_Call] = []
    clock = itertools.count()

    def before(name: str, number: int, args: Any, kwargs: Any) -> None:
        given = tensors_given(args, kwargs)
        if open_calls:
            open_calls[-1].calls_others = True
        keyed = [(place, tensor, _key(tensor)) for place, tensor in given]
        open_calls.append(_Call(name, number, keyed, begun=next(clock)))

    def after(name: str, number: int, output: Any) -> None:
        while (call := open_calls.pop()).module != name or call.number != number:
            pass  # a call that ended with an error, which the network caught
        call.made = [(place, tensor, _key(tensor)) for place, tensor in tensors_in(output)]
        call.ended = next(clock)
        calls.append(call)

    return hooked(model, modules.keys(), before=before, after=after)


def _key(tensor: Tensor) -> Key:
    version = -1 if tensor.is_inference() else tensor._version
    return tensor.untyped_storage().data_ptr(), tensor.numel(), len(tensor) if tensor.ndim else 0, version


def _scores_in(output: Any) -> Tensor | None:
    """What a network gives: its logits, if it says which these are, or the first numbers."""
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]  # type: ignore[no-any-return]
    return next((tensor for _, tensor in tensors_in(output) if tensor.is_floating_point()), None)


def _random_state(inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(inputs.device) if inputs.is_cuda else None


@dataclass(frozen=True)
class _Rerun:
    """The same forward pass once more, with the same noise."""

    inputs: Tensor
    state: tuple[Tensor, Tensor | None]
    scores: Tensor | None

    def changes(self, model: nn.Module, call: _Call) -> bool:
        """Whether the scores are others when the output of a call is."""
        assert self.scores is not None
        torch.set_rng_state(self.state[0])
        if self.state[1] is not None:
            torch.cuda.set_rng_state(self.state[1], self.inputs.device)

        def after(_name: str, number: int, output: Any) -> Any:
            return _shifted(output) if number == call.number else None

        with hooked(model, [call.module], after=after):
            scores = _scores_in(model(given_to(model, self.inputs)))
        return scores is None or scores.shape != self.scores.shape or not torch.equal(scores, self.scores)


def _shifted(output: Any) -> Any:
    """An output whose numbers are all others, by different amounts."""
    if isinstance(output, Tensor):
        if not output.is_floating_point() or not output.numel():
            return output
        ramp = torch.linspace(1, 2, output.numel(), device=output.device, dtype=output.dtype).view_as(output)
        return output + ramp * (1 + output.abs().amax())
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        return tuple(map(_shifted, output))
    if isinstance(output, list):
        return list(map(_shifted, output))
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)  # of its own class, such as transformers' outputs
        for key, value in output.items():
            changed[key] = _shifted(value)
        return changed
    return output


def _head(model: nn.Module, modules: Mapping[str, nn.Module], calls: Sequence[_Call], rerun: _Rerun) -> tuple[_Call | None, str]:
    """The last call of a module with weights that the scores depend on, and what is unusual about it."""
    scores = rerun.scores
    if scores is None:
        return None, ""
    for call in filter(lambda call: _is_weighted(call, modules[call.module]), reversed(calls)):
        made = next((each for each in call.made if each[1].is_floating_point()), None)
        is_scores = made is not None and made[2][:2] == _key(scores)[:2]
        if is_scores or rerun.changes(model, call):
            if made is not None and scores.ndim <= 2 and made[1].numel() == scores.numel():
                return call, ""
            what = "which scores each token or position" if is_scores else "whose output is not the scores but makes them"
            return call, f"`{{head}}` is what {call.module} reads, {what}"
    return None, ""


def _is_weighted(call: _Call, module: nn.Module) -> bool:
    """Whether a call makes units of its inputs by weights of its own."""
    weights = any(parameter.ndim >= 2 for parameter in module.parameters()) and not isinstance(module, _NORMS)
    return weights and not call.calls_others and any(tensor.is_floating_point() for _, tensor, _ in call.given)


@dataclass(frozen=True)
class _Listed:
    """Sites of calls."""

    modules: Mapping[str, nn.Module]
    several: frozenset[str]
    count: int

    def sites(self, call: _Call, side: Literal["output", "input"]) -> Iterator[Site]:
        """Those of one call, on one side."""
        found = call.made if side == "output" else call.given
        for place, tensor, _ in found:
            yield self._site(call, side, place, tensor, alone=len(found) == 1)

    def _site(self, call: _Call, side: Literal["output", "input"], place: str, tensor: Tensor, *, alone: bool) -> Site:
        module = self.modules[call.module]
        axes = axes_of(module, tensor, place, self.count, is_output=side == "output")
        return Site(
            name=site_name(call.module, call.number, "" if alone else place, several=self.several, side=side),
            module=call.module,
            call=call.number,
            side=side,
            place=place,
            leaf=not call.calls_others,
            passes_on=isinstance(module, _PASS_ON),
            shape=tuple(tensor.movedim(axes.inputs, 0).shape) if tensor.ndim else (),
            dtype=tensor.dtype,
            input_axis=axes.inputs,
            channel_axis=axes.channels,
            is_channel_known=axes.known,
        )

    def head(self, chosen: _Call, earlier: Sequence[_Call]) -> str:
        """Name of the output of an earlier call if that is what the chosen one reads, unchanged; else its input."""
        inputs = [site for site in self.sites(chosen, "input") if site.dtype.is_floating_point]
        key = next(each[2] for each in chosen.given if each[1].is_floating_point())
        same: list[Site] = []
        for call in reversed(earlier):
            same += [
                site
                for site, (_, _, own) in zip(self.sites(call, "output"), call.made, strict=True)
                if own == key and not site.passes_on
            ]
        return next((site for site in same if site.leaf), (same or inputs)[0]).name


def with_known_channels(sites: Sequence[Site]) -> list[Site]:
    """Sites whose modules do not say where channels are, with those of another of the same shape: before it, or else after it."""
    found = list(sites)
    for numbers in (range(len(found)), reversed(range(len(found)))):
        known: dict[tuple[int, ...], int] = {}
        for number in numbers:
            site = found[number]
            if site.is_channel_known:
                known[site.shape[1:]] = site.channel_axis
            elif site.shape[1:] in known:
                found[number] = replace(site, channel_axis=known[site.shape[1:]], is_channel_known=True)
    return found
