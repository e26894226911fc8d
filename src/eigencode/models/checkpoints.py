"""Weights from files, without running anything that is stored in them."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eigencode._readers.arrays import read_arrays, read_safetensors
from eigencode._readers.checkpoints import Checkpoint, read_checkpoint
from eigencode._readers.files import open_regular
from eigencode._readers.pickles import Made, named
from eigencode.errors import FileError, ModelError, ReliabilityWarning

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
"""Keys under which training scripts put the weights."""

_USUAL = (*_WRAPPERS, "model_state", "params", "network", "_orig_mod", "backbone", "encoder", "classifier")
"""Parts of a prefix that wrappers and training scripts add to names, the likeliest first."""

_AVERAGED = re.compile(r"ema|averag|shadow|swa|teacher|student", re.IGNORECASE)
"""Prefixes of weights that a user may have meant as well."""

_MOST_WRAPPERS = 50
"""Wrappers inside and beside wrappers that are looked into."""

_DEEPEST = 10
"""Containers in containers in which weights are looked for."""

_LENGTH = 8
"""Bytes of a safetensors file before the brace that its header begins with."""

_OTHERS = (b"PK", b"\x80")
"""How what torch.save wrote begins: a zip archive, or a pickle."""


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
        path, arrays = _arrays_in(path)
        return read_checkpoint(path, _state_dict) if arrays is None else arrays
    except FileError as error:
        raise ModelError(f"weights: {error}") from None


def _arrays_in(path: Path) -> tuple[Path, dict[str, Tensor] | None]:
    """Arrays of a file that holds nothing else, by its content whatever its ending, or of all such files of a folder.

    Returns:
        The file, and its arrays; None of what torch.save wrote.

    Raises:
        FileError: a folder without weights.
    """
    path = Path(os.path.expanduser(path))
    if os.path.isdir(path):  # as transformers writes it, in one file or several
        files, pickled = sorted(path.glob("*.safetensors")), sorted(path.glob("*.bin"))
        if not files and len(pickled) != 1:
            raise FileError(f"{path} is a folder, not a file. Name a file.")
        if not files:
            return pickled[0], None
        return path, {name: value for file in files for name, value in read_arrays(file).items()}
    with open_regular(path) as file:
        start = file.read(_LENGTH + 1)
    if start[_LENGTH:] == b"{" and not start.startswith(_OTHERS):
        return path, read_safetensors(path)[0]
    is_array = path.suffix == ".npz" or (path.suffix == ".safetensors" and not start.startswith(_OTHERS))
    return path, read_arrays(path) if is_array else None


def _state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The mapping of names to tensors inside whatever a training script stored."""
    content = checkpoint.content
    found = _unwrap(content, checkpoint)
    if not found:
        what = f"is a pickled {named(content.of)}, not tensors by name" if isinstance(content, Made) else "holds no tensors"
        if isinstance(content, dict) and any(_is_of_numpy(value) for value in content.values()):
            raise FileError(
                f"{checkpoint.path} holds NumPy arrays, not tensors. Save them with numpy.savez(PATH.npz, **arrays), or turn "
                "each into a tensor with torch.from_numpy."
            )
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

    They are found by the names of the model's parameters and buffers, wherever in the file they are and whatever comes before
    their names, if only it is the same for all. What else the file holds is ignored; tensors beside the weights that the model
    does not have are told in a warning.

    Args:
        model: Network, changed in place, or not at all if an error is raised.
        path: Checkpoint file.

    Raises:
        ModelError: see ``read_state_dict``; names or shapes that do not fit the model; or several sets of weights that do.
    """
    path, own = Path(path), model.state_dict()
    try:
        path, arrays = _arrays_in(path)
        if arrays is not None:
            found = _chosen([(name, 0, value) for name, value in arrays.items()], own, path)
            state = {name: arrays[found.prefix + name] for name in found.names}
        else:
            found, state = read_checkpoint(path, partial(_read, own=own))
    except FileError as error:
        raise ModelError(f"weights: {error}") from None
    missing = [names[0] for names in _needed(own) if not state.keys() & set(names)]
    if missing:
        where = f" of those under {found.prefix!r}, where most names fit," if found.prefix else ""
        raise ModelError(
            f"weights: {path} does not fit the network: {len(missing)} of its {len(own)} tensors are missing"
            f"{_examples(missing)} and {len(found.others)}{where} are unknown{_examples(found.others)}. "
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
    for note in found.notes:
        warnings.warn(f"weights: {path}: {note}", ReliabilityWarning, stacklevel=2)
    model.load_state_dict(state, strict=False)


@dataclass(frozen=True)
class _Found:
    """Where in a file the weights of a model are.

    Attributes:
        prefix: What comes before their names.
        names: Those that are there.
        others: Tensors beside them that the model does not have.
        notes: What a user should know.
    """

    prefix: str
    names: tuple[str, ...]
    others: list[str]
    notes: tuple[str, ...] = ()


def _is_of_numpy(value: Any) -> bool:
    return isinstance(value, Made) and str(value.of).startswith("numpy.")


def _read(checkpoint: Checkpoint, own: Mapping[str, Tensor]) -> tuple[_Found, dict[str, Tensor]]:
    """The weights of a model in an open checkpoint."""
    entries = list(_tensors_in(checkpoint.content, checkpoint))
    if not entries:
        _state_dict(checkpoint)  # which says what the file holds instead
    found = _chosen(entries, own, checkpoint.path)
    values = {name: value for name, _, value in entries}
    return found, {name: checkpoint.tensor(values[found.prefix + name], name=found.prefix + name) for name in found.names}


def _tensors_in(stored: Any, checkpoint: Checkpoint) -> Iterator[tuple[str, int, Any]]:
    """All tensors of a checkpoint: names with those of what they are in, number of the container, and places."""
    waiting: list[tuple[str, Any, int]] = [("", stored, 0)]
    seen: set[int] = set()
    while waiting:
        prefix, container, depth = waiting.pop()
        entries = container.items if isinstance(container, Made) else container
        if id(entries) in seen or depth > _DEEPEST:
            continue
        seen.add(id(entries))
        number = len(seen)
        if isinstance(entries, (list, tuple)):
            entries = dict(enumerate(entries))
        for key, value in entries.items() if isinstance(entries, dict) else ():
            if checkpoint.is_tensor(value):
                yield f"{prefix}{key}", number, value
            elif isinstance(value, (dict, list, tuple, Made)):
                waiting.append((f"{prefix}{key}.", value, depth + 1))


def _chosen(entries: Sequence[tuple[str, int, Any]], own: Mapping[str, Tensor], path: Path) -> _Found:
    """The prefix under which most of a model's names are, with the shapes that it has.

    Raises:
        FileError: there are several sets of weights that fit, and none is likelier than the others.
    """
    under: dict[str, dict[str, tuple[int, Any]]] = defaultdict(dict)
    for name, container, value in entries:
        parts = name.split(".")
        for start in range(len(parts)):
            if (rest := ".".join(parts[start:])) in own:
                under[".".join([*parts[:start], ""])][rest] = container, value

    def fitting(prefix: str) -> int:
        return sum(tuple(getattr(value, "shape", ())) == tuple(own[name].shape) for name, (_, value) in under[prefix].items())

    fits = {prefix: fitting(prefix) for prefix in under}
    whole = [
        prefix
        for prefix, found in under.items()
        if fits[prefix] == len(found) and all(found.keys() & set(names) for names in _needed(own))
    ]
    prefix = min(whole, key=_likelihood) if whole else max(under, key=lambda each: (fits[each], len(under[each])), default="")
    others = [each for each in whole if each != prefix]
    rivals = [each for each in others if _likelihood(each)[0] == _likelihood(prefix)[0]]
    if not all(_is_one(under[each], under[prefix]) for each in rivals):
        sets = ", ".join(sorted(each.rstrip(".") for each in [prefix, *rivals])[:5])
        raise FileError(f"{path} holds several sets of weights that fit: {sets}. Save the one that you mean alone.")
    containers = {container for container, _ in under[prefix].values()}
    left = [
        name.removeprefix(prefix)
        for name, container, _ in entries
        if name.startswith(prefix) and container in containers and name.removeprefix(prefix) not in own
    ]
    left = [name for name in left if not any(f"{prefix}{name}".startswith(each) for each in others if len(each) > len(prefix))]
    notes = [
        f"it also holds {each.rstrip('.')}, which fits too; {prefix.rstrip('.') or 'its top level'} was used."
        for each in others
        if not _is_one(under[each], under[prefix])
        and (_AVERAGED.search(each) or containers.isdisjoint(container for container, _ in under[each].values()))
    ]
    if left:
        notes.append(f"{len(left)} of its tensors do not belong to the network and were ignored{_examples(left)}.")
    return _Found(prefix, tuple(under[prefix]), left, tuple(notes))


def _is_one(found: Mapping[str, tuple[int, Any]], other: Mapping[str, tuple[int, Any]]) -> bool:
    """Whether two sets of places are of the same tensors."""
    pairs = [(found[name][1], other[name][1]) for name in found.keys() & other.keys()]
    return all(one is two or not (isinstance(one, Tensor) or one != two) for one, two in pairs)


def _likelihood(prefix: str) -> tuple[int, tuple[int, ...]]:
    """How many parts of a prefix are none that wrappers add, and which the others are: the smaller, the likelier."""
    parts = [part for part in prefix.split(".") if part]
    return sum(part not in _USUAL for part in parts), tuple(_USUAL.index(part) for part in parts if part in _USUAL)


def _needed(own: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of each tensor that a file must have, under one of them: tied ones have several. Counters need not be there."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, value in own.items():
        if not name.endswith("num_batches_tracked"):
            groups[(value.data_ptr(), value.shape) if value.data_ptr() else name].append(name)
    return list(groups.values())


def _examples(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
