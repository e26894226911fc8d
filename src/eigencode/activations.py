"""A model and a batch to activations at named layers, leaving the model as it was found."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eigencode._arguments import checked, shown
from eigencode._arithmetic import exact_arithmetic
from eigencode._codes import Tokens, Units
from eigencode._grammar import names_in
from eigencode._running import cannot_run
from eigencode.errors import ActivationError

_PASS_ON = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
"""Modules whose output in evaluation mode is their input, reshaped at most: another layer already shows that code."""


@dataclass(frozen=True)
class Layer:
    """One tensor that a module returns in a forward pass.

    Attributes:
        name: Module name; with #k for the k-th of several calls, and [i] for one of several tensors returned.
        module: Module name alone.
        leaf: Whether the module has no children.
        passes_on: Whether its output in evaluation mode is its input.
        shape: Output shape for the traced batch.
        dtype: Output type.
    """

    name: str
    module: str
    leaf: bool
    passes_on: bool
    shape: tuple[int, ...]
    dtype: torch.dtype


def model_device(model: nn.Module) -> torch.device:
    """Device of the model's first parameter or buffer; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, float32 computed in full.

    On leaving, also by an exception, each module's training flag is as before, and the random state of the CPU and of the
    model's device is untouched.

    Args:
        model: Network.

    Yields:
        Nothing; run the model inside the block.
    """
    training = {module: module.training for module in model.modules()}
    with exact_arithmetic(model_device(model)), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            restore_training(training)


@contextmanager
def hooked(
    model: nn.Module,
    names: Collection[str],
    observe: Callable[[str, int, Any, Any], None],
    change: Callable[[str, int, Any], Any] | None = None,
) -> Iterator[None]:
    """Calls ``observe(module name, call number, inputs, output)`` for every call of some modules while the model runs.

    Args:
        model: Network.
        names: Names of modules.
        observe: Called inside the forward hook, before any later in-place operation can change the output.
        change: Called before the module with its name, the call's number and the inputs; what it returns takes their place, or
            None.

    Yields:
        Nothing; run the model inside the block. On leaving, hooks are gone.
    """
    begun: Counter[str] = Counter()
    ended: Counter[str] = Counter()

    def before(_module: nn.Module, inputs: Any, *, name: str) -> Any:
        assert change is not None
        begun[name] += 1
        return change(name, begun[name], inputs)

    def after(_module: nn.Module, inputs: Any, output: Any, *, name: str) -> None:
        ended[name] += 1
        observe(name, ended[name], inputs, output)

    def anew(*_: Any) -> None:
        begun.clear()
        ended.clear()

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(anew).remove)
        for name, module in model.named_modules():
            if name in names:
                if change is not None:
                    stack.callback(module.register_forward_pre_hook(partial(before, name=name)).remove)
                stack.callback(module.register_forward_hook(partial(after, name=name)).remove)
        yield


@contextmanager
def captured(
    model: nn.Module, layers: Collection[str], consume: Callable[[str, Tensor], None], *, several: frozenset[str]
) -> Iterator[None]:
    """Hands the outputs of layers to ``consume`` while the model runs, as autograd sees them.

    Args:
        model: Network.
        layers: Names of layers, such as ``conv``, ``relu#2``, ``attention[0]``.
        consume: Called with a layer's name and its output, which a later module may change in place.
        several: Modules called more than once, from the trace.

    Yields:
        Nothing; run the model inside the block.
    """

    def observe(name: str, call: int, _inputs: Any, output: Any) -> None:
        found = list(tensors_in(output))
        for place, tensor in found:
            key = layer_name(name, call, place if len(found) > 1 else "", several=several)
            if key in layers:
                consume(key, tensor)

    with hooked(model, _modules_of(layers), observe):
        yield


def _is_parametrization(name: str) -> bool:
    """Whether a module computes weights (torch.nn.utils.parametrize) and not a code."""
    return "parametrizations" in name.split(".")


def _is_leaf(module: nn.Module) -> bool:
    return all(name == "parametrizations" for name, _ in module.named_children())


def restore_training(training: Mapping[nn.Module, bool]) -> None:
    """Sets each module's training flag, and no other module's."""
    for module, flag in training.items():
        module.training = flag


def tensors_in(output: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of a (nested) output, each with its place: ``[0]``, ``[key]``; nothing for a single tensor."""
    if isinstance(output, Tensor):
        yield prefix, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_in(value, f"{prefix}[{key}]")
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            yield from tensors_in(value, f"{prefix}[{index}]")


@dataclass(frozen=True)
class Trace:
    """What one forward pass called.

    Attributes:
        layers: Every tensor returned by a module, in order of the calls.
        penultimate: Name of the layer whose output the last weighted module reads; None if it cannot be told.
        several: Modules that are called more than once.
    """

    layers: tuple[Layer, ...]
    penultimate: str | None
    several: frozenset[str]


def layer_name(module: str, call: int, place: str, *, several: frozenset[str]) -> str:
    """Name of one tensor: ``conv``, ``relu#2``, ``attention[0]``."""
    return module + (f"#{call}" if module in several else "") + place


def _modules_of(layers: Collection[str]) -> set[str]:
    """What the modules that return these tensors may be called, whose own names may hold the same signs."""
    return {layer[:end] for layer in layers for end in (len(layer), *(at for at, sign in enumerate(layer) if sign in "#["))}


@checked(ActivationError)
def trace(model: nn.Module, inputs: Tensor) -> Trace:
    """Runs the model once and lists what can be measured.

    Args:
        model: Network.
        inputs: Small batch, on the model's device.

    Returns:
        Trace.

    Raises:
        ActivationError: the model cannot run on these inputs.
    """
    events: list[tuple[str, int, Tensor | None, list[tuple[str, Tensor]]]] = []

    def observe(name: str, call: int, args: Any, output: Any) -> None:
        source = next((tensor for _, tensor in tensors_in(args)), None)
        found = list(tensors_in(output))
        events.append((name, call, source, found if len(found) > 1 else [("", tensor) for _, tensor in found]))

    try:
        names = {name for name, _ in model.named_modules() if name and not _is_parametrization(name)}
        with measuring(model), hooked(model, names, observe):
            model(inputs.clone())  # it may work in place, and they are the caller's
    except Exception as error:  # networks refuse inputs in any way they like
        raise ActivationError(cannot_run(model, inputs, error)) from error
    modules = dict(model.named_modules())
    count = Counter(name for name, *_ in events)
    several = frozenset(name for name, calls in count.items() if calls > 1)
    layers = tuple(
        Layer(
            name=layer_name(name, call, place, several=several),
            module=name,
            leaf=_is_leaf(modules[name]),
            passes_on=isinstance(modules[name], _PASS_ON),
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
        )
        for name, call, _, found in events
        for place, tensor in found
    )
    return Trace(layers, _penultimate(events, modules, several), several)


def _penultimate(events: list[Any], modules: Mapping[str, nn.Module], several: frozenset[str]) -> str | None:
    """Layer whose output shares storage with the input of the last module that has a weight matrix.

    All outputs are still referenced, so that storage addresses are unique. Modules without children come first; a network that
    changes the code by a function between modules gets the last module before.
    """
    leaf = {name: _is_leaf(module) for name, module in modules.items()}
    weighted = [i for i, (name, *_) in enumerate(events) if leaf[name] and any(p.ndim >= 2 for p in modules[name].parameters())]
    if not weighted:
        return None
    source = events[weighted[-1]][2]
    earlier = [event for event in events[: weighted[-1]][::-1] if event[3] and not isinstance(modules[event[0]], _PASS_ON)]
    earlier.sort(key=lambda event: not leaf[event[0]])
    for name, call, _, found in earlier:
        for place, tensor in found:
            if source is not None and tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
                return layer_name(name, call, place, several=several)
    if not earlier:
        return None
    name, call, _, found = earlier[0]
    return layer_name(name, call, found[0][0], several=several)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` was given: hooks do not run inside a compiled graph."""
    original: nn.Module = getattr(model, "_orig_mod", model)
    return original


def select_layers(traced: Trace, layers: str | Sequence[str]) -> list[Layer]:
    """Layers that were asked for, in the order of the forward pass.

    Args:
        traced: What the model calls.
        layers: "all" (modules without children, except those that pass their input on), "penultimate" (what the last
            weighted module reads), names of modules or of single calls (``relu#2``), or globs; several in a list, or separated
            by commas.

    Returns:
        Layers without duplicates.

    Raises:
        ActivationError: a name or glob matches nothing; the message proposes names.
    """
    try:
        requests = names_in(layers) if isinstance(layers, str) else layers
    except ValueError as error:
        raise ActivationError(f"`layers`: {error}; got {layers!r}.") from None
    if not isinstance(requests, Sequence) or not requests or not all(isinstance(request, str) for request in requests):
        raise ActivationError(f"`layers` must be a name, a glob, 'all', 'penultimate' or a list of these; got {shown(layers)}.")
    wanted: set[str] = set()
    for request in requests:
        if request == "all":
            found = {layer.name for layer in traced.layers if layer.leaf and not layer.passes_on}
        elif request == "penultimate":
            found = {traced.penultimate} if traced.penultimate else set()
        else:
            found = {
                layer.name
                for layer in traced.layers
                if request in (layer.name, layer.module) or fnmatch.fnmatchcase(layer.name, request)
            }
        if not found:
            raise ActivationError(_no_such_layer(request, traced))
        wanted |= found
    return [layer for layer in traced.layers if layer.name in wanted]


def _no_such_layer(request: str, traced: Trace) -> str:
    names = list(dict.fromkeys(layer.name for layer in traced.layers))
    if request in ("penultimate", "all"):
        return (
            f"`layers`: {request!r} finds no layer, since the network calls {len(names)} named modules "
            "that could be read. Build it from modules, or name a layer."
        )
    close = difflib.get_close_matches(request, names, n=3, cutoff=0.4) or names[:6]
    return (
        f"`layers`: no layer is called {request!r} (the network has {len(names)}). Did you mean "
        f"{' or '.join(repr(name) for name in close)}?"
    )


@checked(ActivationError)
def as_code(output: Tensor, *, units: Units, tokens: Tokens) -> Tensor:
    """A layer's output as samples by units.

    Args:
        output: Shape (n,), (n, features), (n, tokens, features) or (n, channels, positions...).
        units: What a unit is. "all": every number of the output (the papers' reading); "channels": a channel, every position
            or token being a sample; "pooled": a channel, averaged over positions or tokens.
        tokens: For outputs (n, tokens, features) under units="all": all tokens side by side, their mean, or the first.

    Returns:
        View or new tensor of shape (n, positions, units): one position unless units="channels".
    """
    if output.ndim <= 2:
        return output.reshape(len(output), 1, -1)
    is_map = output.ndim > 3
    if units == "channels":
        return output.flatten(2).transpose(1, 2) if is_map else output
    if units == "pooled":
        return (output.flatten(2).mean(dim=2) if is_map else output.mean(dim=1)).unsqueeze(1)
    if not is_map and tokens != "all":
        return output.mean(dim=1, keepdim=True) if tokens == "mean" else output[:, :1]
    return output.reshape(len(output), 1, -1)


def unreadable(layer: Layer, batch_size: int) -> str | None:
    """Why a layer's output is not a code of the images, or None if it is."""
    if not layer.dtype.is_floating_point:
        return f"its output is {str(layer.dtype).removeprefix('torch.')}, not floating point"
    if not layer.shape or layer.shape[0] != batch_size:
        return f"its output of shape {layer.shape} has no row for each of {batch_size} images"
    return None


@contextmanager
def capture_codes(
    model: nn.Module,
    layers: Sequence[Layer],
    consume: Callable[[str, Tensor], None],
    *,
    several: frozenset[str],
    units: Units = "all",
    tokens: Tokens = "all",
) -> Iterator[None]:
    """Hands every forward pass's code at the given layers to ``consume`` while the pass is running.

    Args:
        model: Network.
        layers: What to read.
        consume: Called with the layer's name and a code of shape (n, positions, units), which is valid during the call only.
        several: Modules called more than once, from the trace.
        units: See ``as_code``.
        tokens: See ``as_code``.

    Yields:
        Nothing; run the model inside the block.
    """

    def read(name: str, output: Tensor) -> None:
        consume(name, as_code(output, units=units, tokens=tokens))

    with measuring(model), captured(model, {layer.name for layer in layers}, read, several=several):
        yield
