"""State of a run on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from eigencode._checksums import CHECKSUM, checksum
from eigencode._readers.arrays import read_safetensors
from eigencode.errors import CheckpointError, DiskError, FileError


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes tensors and JSON facts to a file; an earlier file stays as it is until the new one is safe on disk.

    Args:
        path: Where to write; its folder is made if missing.
        tensors: Name to tensor.
        facts: JSON values.

    Raises:
        DiskError: the disk is full or may not be written to; the earlier file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        texts = {"facts": json.dumps(facts, allow_nan=True)}
        save_file(stored, partial, metadata={**texts, CHECKSUM: checksum(stored, texts)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        kept = f"; the last good one is still {path}" if path.exists() else ""
        raise DiskError(
            f"{path.name} cannot be written to {path.parent} ({_reason(error)}){kept}. Make room and start again."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_tensors`` wrote.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    try:
        tensors, texts = read_safetensors(path)
        return tensors, json.loads(texts["facts"])
    except (FileError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of a training run ({_reason(error)}). Remove it to start again."
        ) from None


def saved_members(path: Path) -> int | None:
    """Number of networks whose state a file holds; None if there is no such file."""
    return len(load_tensors(path)[1].get("identity", {}).get("cells", [])) or None if path.exists() else None


def save_member(path: Path, model: nn.Module) -> None:
    """Writes a network's weights, to be loaded with ``--weights`` or ``eigencode.models.load``."""
    save_tensors(path, model.state_dict(), {})


def remove_states(folder: Path) -> None:
    """Removes the states of a run that is finished or that starts again; other files stay."""
    for path in folder.glob("*.safetensors"):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
