"""Weights from files, without running anything that is stored in them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from eigencode.errors import ModelError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
"""Keys under which training scripts put the weights."""

_PREFIXES = ("module.model.", "module.", "model.", "_orig_mod.", "network.", "net.")
"""Prefixes that wrappers add to parameter names: DataParallel, the Robustness library, torch.compile, training frameworks."""

_MAX_DEPTH = 8
"""Wrappers inside wrappers that are looked into."""


class _Rebuilder:
    """A function that a file may call, and nothing else: a pickle cannot set attributes on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, _state: Any) -> None:
        pass


_REBUILDERS = {
    ("collections", "OrderedDict"): _Rebuilder(OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuilder(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): _Rebuilder(torch._utils._rebuild_parameter),
    ("torch", "Size"): _Rebuilder(torch.Size),
    ("torch", "device"): _Rebuilder(torch.device),
}
"""The only callables that a file may name and get."""

_NEVER_IN_A_CHECKPOINT = re.compile(
    "os|posix|nt|subprocess|sys|shutil|socket|importlib|runpy|ctypes|pty|builtins|__builtin__|commands|code|_?pickle|"
    "webbrowser|asyncio|multiprocessing|threading|urllib|http|requests|io|tempfile|signal"
)
"""Packages whose functions only a hostile file asks for."""

_HARMLESS_BUILTINS = frozenset({"set", "frozenset", "dict", "list", "tuple", "int", "float", "bool", "str", "bytes", "object"})


class _HostileError(Exception):
    """The file names a callable that no checkpoint needs."""


class _Inert:
    """Stands for any object that a file asks for and that holds no weights: takes everything, does nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        pass

    def extend(self, _values: Any) -> None:
        pass


class _TensorsOnly(pickle.Unpickler):
    """Unpickler that rebuilds tensors and containers and replaces everything else by inert objects.

    No function or class named in the file is ever imported, looked up or called, save those in ``_REBUILDERS``.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REBUILDERS:
            return _REBUILDERS[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if _NEVER_IN_A_CHECKPOINT.fullmatch(module.split(".")[0]) and name not in _HARMLESS_BUILTINS:
            raise _HostileError(f"{module.replace('__builtin__', 'builtins')}.{name}")
        return _Inert


_PICKLE = SimpleNamespace(
    Unpickler=_TensorsOnly,
    load=lambda file, **kwargs: _TensorsOnly(file, **kwargs).load(),
    UnpicklingError=pickle.UnpicklingError,
    __name__="tensors_only",
)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Parameter names and tensors of a checkpoint file.

    Safetensors, and .pt files of state dicts under the usual wrappers. Files whose pickle holds other objects beside the
    tensors (the Robustness library's releases, training scripts) are read too: those objects are dropped unread.

    Args:
        path: Checkpoint file.

    Returns:
        Name to tensor, on the CPU, as named in the file.

    Raises:
        ModelError: no such file, a web page, a truncated or foreign file, a pickle that asks to run code, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"weights: {path} does not exist. Check the path.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ModelError(f"weights: {path} is empty. Download it again.")
    if head.lstrip()[:1] == b"<":
        raise ModelError(f"weights: {path} is a web page, not a checkpoint. The download failed; fetch the file itself.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ModelError(f"weights: {path} is truncated ({path.stat().st_size} bytes). Download it again.")
    if head.startswith(b"PK") and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        raise ModelError(f"weights: {path} is a TorchScript program, not weights. Save the state dict of the model instead.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE)
    except _HostileError as error:
        raise ModelError(
            f"weights: {path} asks to run {error} when it is loaded; nothing was run. Do not use this file."
        ) from None
    except (EOFError, zipfile.BadZipFile):
        raise ModelError(f"weights: {path} is truncated ({path.stat().st_size} bytes). Download it again.") from None
    except Exception as error:  # damaged pickles fail in any way; the file is at fault in all of them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"weights: {path} is no PyTorch or safetensors checkpoint, or is damaged ({reason}).") from None
    tensors = _unwrap(stored)
    if not tensors:
        raise ModelError(f"weights: {path} holds no tensors. Save the state dict: torch.save(model.state_dict(), PATH).")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"weights: {path} is truncated or no safetensors file ({error}). Download it again.") from None


def _unwrap(stored: Any, depth: int = 0) -> dict[str, Tensor]:
    """The mapping of names to tensors inside whatever a training script stored."""
    if not isinstance(stored, Mapping) or depth > _MAX_DEPTH:
        return {}
    for key in _WRAPPERS:
        inner = stored.get(key)
        if isinstance(inner, Mapping):
            found = _unwrap(inner, depth + 1)
            if found:
                return found
    return {str(key): value.detach() for key, value in stored.items() if isinstance(value, Tensor)}


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Puts a checkpoint's weights into a model.

    Prefixes that wrappers add to names are removed; entries of the file that the model does not have are ignored where a
    prefix separates them (the Robustness library stores an attacker beside the model), but every parameter and buffer
    of the model must be there.

    Args:
        model: Network, changed in place, or not at all if an error is raised.
        path: Checkpoint file.

    Raises:
        ModelError: see ``read_state_dict``; or names or shapes that do not fit the model.
    """
    stored = read_state_dict(path)
    own = model.state_dict()
    state = _without_prefix(stored, own)
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state and name not in optional]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        raise ModelError(
            f"weights: {path} does not fit the network: {len(missing)} of its {len(own)} tensors are missing"
            f"{_examples(missing)} and {len(unknown)} are unknown{_examples(unknown)}. "
            "Use the network that the file was saved from."
        )
    wrong = [name for name in state if state[name].shape != own[name].shape]
    if wrong:
        name = wrong[0]
        raise ModelError(
            f"weights: {path} does not fit the network: {len(wrong)} of {len(own)} tensors have another shape, first {name}: "
            f"file "
            f"{tuple(state[name].shape)}, network {tuple(own[name].shape)}. Check the number of classes and the image size."
        )
    model.load_state_dict(state, strict=False)


def _examples(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def _without_prefix(stored: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries under the prefix that covers most of the model's names, without it."""
    candidates = [stored]
    frontier = [stored]
    for _ in range(2):
        frontier = [
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            for state in frontier
            for prefix in _PREFIXES
            if any(name.startswith(prefix) for name in state)
        ]
        candidates += frontier
    return max(candidates, key=lambda state: (len(state.keys() & own.keys()), -len(state)))
