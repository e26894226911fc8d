"""One forward pass of a few inputs: every site where a code can be read, and which of them the classifier reads."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._inputs import Inputs, run
from eigencode._running import cannot_run
from eigencode.activations.blocks import blocks_of
from eigencode.activations.codes import axes_of
from eigencode.activations.hooks import (
    hooked,
    measuring,
    named_modules,
    state_put_back,
    tensors_given,
    tensors_in,
    unwrapped,
)
from eigencode.errors import ActivationError

_PASS_ON = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
"""Modules whose output in evaluation mode is their input, reshaped at most: another layer already shows that code."""

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Their weights may have two dimensions, and make no units of their own."""

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

Key = tuple[object, ...]
"""Of a tensor's numbers: where and how they are kept, how often they were changed in place, their sum and norm."""


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


@dataclass(eq=False)
class _Call:
    """One call of a module: tensors with their places and keys, as they were then; and the calls that it made."""

    module: str
    number: int
    given: list[tuple[str, Tensor, Key | None]]
    begun: int
    made: list[tuple[str, Tensor, Key | None]] = field(default_factory=list)
    inner: list[_Call] = field(default_factory=list)
    ended: int = 0


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
    calls: list[_Call] = []
    try:
        with measuring(model), state_put_back(model):
            state = _random_state(inputs)
            with _recorded(model, modules, calls):
                possible = possible_scores(run(model, inputs))
            scores = next(iter(possible), None)
            chosen = _head(modules, calls, _Rerun(model, inputs, state, scores)) if head and scores is not None else None
    except Exception as error:  # networks refuse inputs in any way they like
        raise ActivationError(cannot_run(model, inputs, error)) from error
    several = frozenset(name for name, count in Counter(call.module for call in calls).items() if count > 1)
    listed = _Listed(modules, several, len(inputs))
    timed = [(call.begun, site) for call in calls for site in listed.sites(call, "input")]
    timed += [(call.ended, site) for call in calls for site in listed.sites(call, "output")]
    sites = {site.name: site for site in with_known_channels([site for _, site in sorted(timed, key=lambda each: each[0])])}
    found, note = None, ""
    if chosen is not None and scores is not None:
        found = sites[listed.head(chosen, calls[: calls.index(chosen)])]
        note = _unusual(found.name, chosen, scores, sum(each.shape[:1] == (len(inputs),) for each in possible))
    return Trace(sites, found, note, blocks_of(model, modules), others)


def _recorded(model: nn.Module, modules: Mapping[str, nn.Module], calls: list[_Call]) -> Any:
    """Adds each call of a module when it ends. All tensors stay referenced, so that their addresses are theirs alone."""
    open_calls: list[_Call] = []
    clock = itertools.count()

    def before(name: str, number: int, args: Any, kwargs: Any) -> None:
        given = [(place, tensor, _key(tensor)) for place, tensor in tensors_given(args, kwargs)]
        open_calls.append(_Call(name, number, given, next(clock)))

    def after(name: str, number: int, output: Any) -> None:
        while (call := open_calls.pop()).module != name or call.number != number:
            pass  # a call that ended with an error, which the network caught
        call.made = [(place, tensor, _key(tensor)) for place, tensor in tensors_in(output)]
        call.ended = next(clock)
        calls.append(call)
        if open_calls:
            open_calls[-1].inner.append(call)

    return hooked(model, modules.keys(), before=before, after=after)


def _key(tensor: Tensor) -> Key | None:
    """None of what has no memory of its own, or is not floating point: it is like no other."""
    if tensor.layout != torch.strided or tensor.is_nested or not tensor.is_floating_point() or not tensor.ndim:
        return None
    version = -1 if tensor.is_inference() else tensor._version
    sums = tensor.sum(dtype=torch.float64).item(), torch.linalg.vector_norm(tensor, dtype=torch.float64).item()
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel(), len(tensor), version, *sums


def scores_in(output: Any) -> Tensor | None:
    """What a network gives: its logits, if it says which these are, or the first numbers."""
    return next(iter(possible_scores(output)), None)


def possible_scores(output: Any) -> list[Tensor]:
    """All that may be the scores: the logits, if a network says which these are, or all numbers that it returns."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return [logits]
    return [tensor for _, tensor in tensors_in(output) if tensor.is_floating_point()]


def _random_state(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    device = inputs.main.device
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@dataclass(frozen=True)
class _Rerun:
    """The same forward pass once more, with the same noise."""

    model: nn.Module
    inputs: Inputs
    state: tuple[Tensor, Tensor | None]
    scores: Tensor

    def changes(self, call: _Call) -> bool:
        """Whether the scores are others when the output of a call is."""
        torch.set_rng_state(self.state[0])
        if self.state[1] is not None:
            torch.cuda.set_rng_state(self.state[1], self.inputs.main.device)

        def after(_name: str, number: int, output: Any) -> Any:
            return _shifted(output) if number == call.number else None

        try:
            with state_put_back(self.model), hooked(self.model, [call.module], after=after):
                scores = scores_in(run(self.model, self.inputs))
        except Exception:  # of what cannot be computed of other numbers
            return True
        return scores is None or scores.shape != self.scores.shape or not _same(scores, self.scores)


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _shifted(output: Any) -> Any:
    """An output whose numbers are all others, by different amounts; of its own class, such as transformers' outputs."""
    if isinstance(output, Tensor):
        if not output.is_floating_point() or not output.numel() or output.layout != torch.strided:
            return output
        ramp = torch.linspace(1, 2, output.numel(), device=output.device, dtype=output.dtype).view(output.shape)
        return output + ramp * (1 + output.abs().amax())
    if isinstance(output, (tuple, list)):
        parts = map(_shifted, output)
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    changed: Any = copy.copy(output)
    if isinstance(output, Mapping):
        for key, value in output.items():
            changed[key] = _shifted(value)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for item in dataclasses.fields(output):
            object.__setattr__(changed, item.name, _shifted(getattr(output, item.name)))
    return changed


def _head(modules: Mapping[str, nn.Module], calls: Sequence[_Call], rerun: _Rerun) -> _Call | None:
    """The last call of a module with weights that the scores depend on."""
    candidates = [call for call in reversed(calls) if _is_weighted(call, modules)]
    if not bool(rerun.scores.isfinite().any()):  # nothing changes them
        return next(iter(candidates), None)
    return next((call for call in candidates if _makes(call, rerun.scores) or rerun.changes(call)), None)


def _makes(call: _Call, scores: Tensor) -> bool:
    """Whether a tensor that a call returned is the scores."""
    key = _key(scores)
    return key is not None and any(own is not None and own[:3] == key[:3] for _, _, own in call.made)


def _unusual(head: str, call: _Call, scores: Tensor, possible: int) -> str:
    """What a reader should know of the call that reads the head; empty if it makes one score for each class and input."""
    found = []
    if sum(tensor.is_floating_point() for _, tensor, _ in call.given) > 1:
        found.append("takes other inputs too")
    if not _makes(call, scores):
        found.append("does not return the scores itself")
    elif scores.ndim > 2:
        found.append("scores each token or position")
    if possible > 1:
        found.append(f"makes the first of {possible} tensors that the network returns, none of them called logits")
    return f"`{head}` is what {call.module} reads, which {' and '.join(found)}" if found else ""


def _is_weighted(call: _Call, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a call makes units of its inputs by weights: its own, or those of parts that it does not call."""
    module = modules[call.module]
    if isinstance(module, _NORMS) or not any(tensor.is_floating_point() for _, tensor, _ in call.given):
        return False
    if any(_is_weighted(inner, modules) for inner in call.inner):
        return False
    weights = [*module.parameters(recurse=not call.inner), *module.buffers(recurse=not call.inner)]
    matrices = any(each.is_floating_point() and _is_matrix(each, call) for each in weights)
    return matrices or hasattr(module, "_packed_params")  # of a quantised layer


def _is_matrix(weights: Tensor, call: _Call) -> bool:
    """Whether they make one number of many: from all features or channels of what a call was given to those that it returned."""
    if sum(size > 1 for size in weights.shape) > 1:
        return True
    if weights.ndim < 2 or weights.numel() < 2:
        return False
    axis = -1 if weights.ndim == 2 else 1  # a line of weights: of one output, or of one input
    sizes = [{each.shape[axis] for _, each, _ in tensors if each.ndim > 1} for tensors in (call.given, call.made)]
    ends = tuple(weights.shape[:2])
    return any((own, made) in (ends, ends[::-1]) for own in sizes[0] for made in sizes[1])


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

    def head(self, chosen: _Call, earlier: Sequence[_Call]) -> str:
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
