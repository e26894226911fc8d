"""The one hook machine: what modules are given and return while a network runs, which is left as it was found."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from eigencode._arithmetic import exact_arithmetic
from eigencode.errors import ActivationError

_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What wrappers call the module that they were given: torch.compile, FullyShardedDataParallel, checkpointing."""

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
"""Wrappers that call it ``module``."""

Before = Callable[[str, int, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]] | None]
After = Callable[[str, int, Any], Any]


def model_device(model: nn.Module) -> torch.device:
    """Device of the model's first parameter or buffer; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that torch.compile, DataParallel or DistributedDataParallel was given.

    Raises:
        ActivationError: a program of torch.jit, which runs no hooks.
    """
    while True:
        if isinstance(model, _PARALLEL):
            model = model.module
        elif (inner := getattr(model, "_orig_mod", None)) is not None:
            model = inner
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise ActivationError(
            "The network is a program of torch.jit, whose layers cannot be read. Pass the module that it was made from."
        )
    return model


def named_modules(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Modules that can be read, by names without those of wrappers.

    Args:
        model: Network.

    Returns:
        Name -> module, each module once, without those that compute weights (torch.nn.utils.parametrize) and programs of
        torch.jit; and other name of a module -> the name that it has there.
    """
    everything = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, nn.Module] = {}
    names: dict[int, str] = {}
    others: dict[str, str] = {}
    for path, module in everything.items():
        parts = path.split(".") if path else []
        owners = [everything[".".join(parts[:depth])] for depth in range(len(parts))]
        if "parametrizations" in parts or any(isinstance(each, torch.jit.ScriptModule) for each in (*owners, module)):
            continue
        name = ".".join(part for part, owner in zip(parts, owners, strict=True) if not _is_wrapping(part, owner))
        if path and path != name:
            others[path] = name
        if id(module) in names and names[id(module)] != name:
            others[name] = names[id(module)]
        elif name:
            names[id(module)] = name
            found[name] = module  # of a wrapper and what it wraps, the latter
    return found, others


def _is_wrapping(part: str, owner: nn.Module) -> bool:
    return part in _WRAPPED or (part == "module" and isinstance(owner, _PARALLEL))


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, float32 computed in full.

    On leaving, also by an exception, each module's training flag is as before, and the random state of the CPU and of the
    model's device is untouched. Inside, noise that the network draws is fresh whenever it is drawn.

    Args:
        model: Network.

    Yields:
        Nothing; run the model inside the block.
    """
    with exact_arithmetic(model_device(model)), evaluating(model):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; on leaving, each module's training flag is as before."""
    training = {module: module.training for module in model.modules()}
    is_fast = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        try:
            torch.backends.mha.set_fastpath_enabled(False)  # on which modules are not called, and tensors are nested
            model.eval()
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(is_fast)
            restore_training(training)


@contextmanager
def state_put_back(model: nn.Module) -> Iterator[None]:
    """On leaving, what a network keeps between its calls is as before: buffers, and attributes that are tensors or numbers."""
    modules = [module for module in model.modules() if not isinstance(module, (LazyModuleMixin, torch.jit.ScriptModule))]
    buffers = [(module, dict(module._buffers)) for module in modules]
    kept = [(module, dict(vars(module))) for module in modules]
    tensors = [each for _, own in (*buffers, *kept) for each in own.values() if isinstance(each, Tensor)]
    values = [(tensor, tensor.clone()) for tensor in tensors if tensor.layout == torch.strided and not tensor.is_meta]
    try:
        yield
    finally:
        for tensor, value in values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)
        for module, own in buffers:
            module._buffers.update(own)
        for module, own in kept:
            now = vars(module)
            for name in [name for name in {**own, **now} if _is_plain(own.get(name, 0)) or _is_plain(now.get(name, 0))]:
                if name in own:
                    now[name] = own[name]
                elif name in now:
                    del now[name]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (Tensor, int, float))


def restore_training(training: Mapping[nn.Module, bool]) -> None:
    """Sets each module's training flag, and no other module's."""
    for module, flag in training.items():
        module.training = flag


@contextmanager
def hooked(
    model: nn.Module, names: Collection[str], *, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Calls functions around every call of some modules while the model runs.

    Args:
        model: Network.
        names: Names of modules, without those of wrappers.
        before: Called with a module's name, the number of the call in this pass, positional and keyword arguments; what it
            returns takes the place of these, or None.
        after: Called with name, number and output, before any later in-place operation can change it; what it returns takes
            the output's place, or None.

    Yields:
        Nothing; run the model inside the block. On leaving, hooks are gone. What was compiled runs uncompiled, since compiled
        code calls no hooks.
    """
    calls: Counter[str] = Counter()
    under_way: defaultdict[str, list[int]] = defaultdict(list)
    depth = 0

    def on_call(_module: nn.Module, args: Any, kwargs: Any, *, name: str) -> Any:
        calls[name] += 1
        under_way[name].append(calls[name])
        return None if before is None else before(name, calls[name], args, kwargs)

    def on_return(_module: nn.Module, _args: Any, output: Any, *, name: str) -> Any:
        number = under_way[name].pop()  # the last that began: an earlier one that failed has no end
        return None if after is None else after(name, number, output)

    def enter(*_: Any) -> None:
        nonlocal depth
        if depth == 0:
            calls.clear()
            under_way.clear()
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    with ExitStack() as stack:
        stack.enter_context(_uncompiled())
        stack.callback(model.register_forward_pre_hook(_uncompiled_hook(enter)).remove)
        stack.callback(model.register_forward_hook(_uncompiled_hook(leave), always_call=True).remove)
        for name, module in _named(model, names).items():
            on_begin, on_end = _uncompiled_hook(partial(on_call, name=name)), _uncompiled_hook(partial(on_return, name=name))
            stack.callback(module.register_forward_pre_hook(on_begin, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(on_end).remove)
        yield


def _named(model: nn.Module, names: Collection[str]) -> Mapping[str, nn.Module]:
    """Some of the modules; where nothing is wrapped, without going through all, which would count in every step of a training."""
    try:
        return {name: model.get_submodule(name) for name in names}
    except AttributeError:
        return {name: module for name, module in named_modules(model)[0].items() if name in names}


_eager: list[Any] = []
"""How torch.compile is told to leave code alone, once for each block that is open: blocks end in any order."""


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Inside, what torch.compile was given runs as it was written; nothing is imported for it."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    _eager.append(_eager[0] if _eager else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        stance = _eager.pop()
        if not _eager:
            stance.__exit__(None, None, None)


def _uncompiled_hook(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that is not compiled where it is registered while compiled code runs."""
    if "torch._dynamo" not in sys.modules:
        return hook
    uncompiled: Callable[..., Any] = torch.compiler.disable(hook)
    return uncompiled


def tensors_in(values: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of a (nested) output or of arguments, each with its place: ``[0]``, ``[key]``; nothing for a single tensor."""
    if isinstance(values, Tensor):
        yield prefix, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from tensors_in(value, f"{prefix}[{key}]")
    elif isinstance(values, (tuple, list)):
        for index, value in enumerate(values):
            yield from tensors_in(value, f"{prefix}[{index}]")
    elif dataclasses.is_dataclass(values) and not isinstance(values, type):
        for item in dataclasses.fields(values):
            yield from tensors_in(getattr(values, item.name), f"{prefix}[{item.name}]")


def tensors_given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """All tensors of a call's arguments, each with its place: ``[0]``, ``[query]``."""
    return [*tensors_in(args), *tensors_in(kwargs)]
