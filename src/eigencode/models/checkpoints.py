"""Weights from files, without running anything that is stored in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eigencode._readers.arrays import read_arrays
from eigencode._readers.checkpoints import Checkpoint, read_checkpoint
from eigencode._readers.pickles import Made, named
from eigencode.errors import FileError, ModelError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
"""Keys under which training scripts put the weights."""

_PREFIXES = ("module.model.", "module.", "model.", "_orig_mod.", "network.", "net.")
"""Prefixes that wrappers add to parameter names: DataParallel, the Robustness library, torch.compile, training frameworks."""

_MOST_WRAPPERS = 50
"""Wrappers inside and beside wrappers that are looked into."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Parameter names and tensors of a checkpoint file.

    Safetensors, and .pt files of state dicts under the usual wrappers. Files whose pickle holds other objects beside the
    tensors (the Robustness library's releases, training scripts) are read too: those objects are neither made nor run.

    Args:
        path: Checkpoint file.

    Returns:
        Name to tensor, on the CPU, as named in the file.

    Raises:
        ModelError: no such file, a pipe or a device, a web page, a truncated or foreign file, a program, or no tensors.
    """
    path = Path(path)
    try:
        return read_arrays(path) if path.suffix == ".safetensors" else read_checkpoint(path, _state_dict)
    except FileError as error:
        raise ModelError(f"weights: {error}") from None


def _state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The mapping of names to tensors inside whatever a training script stored."""
    content = checkpoint.content
    found = _unwrap(content, checkpoint)
    if not found:
        what = f"is a pickled {named(content.of)}, not tensors by name" if isinstance(content, Made) else "holds no tensors"
        raise FileError(f"{checkpoint.path} {what}. Save the state dict: torch.save(model.state_dict(), PATH).")
    return {str(key): checkpoint.tensor(value, name=str(key)) for key, value in found.items()}


def _unwrap(stored: Any, checkpoint: Checkpoint, seen: set[int] | None = None) -> dict[Any, Any]:
    entries, seen = stored.items if isinstance(stored, Made) else stored, set[int]() if seen is None else seen
    if not isinstance(entries, dict) or id(entries) in seen or len(seen) > _MOST_WRAPPERS:
        return {}
    seen.add(id(entries))
    for key in _WRAPPERS:
        if found := _unwrap(entries.get(key), checkpoint, seen):
            return found
    return {key: value for key, value in entries.items() if checkpoint.is_tensor(value)}


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
