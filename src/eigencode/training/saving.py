"""State of a run on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from eigencode._digests import CHECKSUM, checksum
from eigencode._files import replacing, why
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
    try:
        stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        texts = {"facts": json.dumps(facts, allow_nan=True)}
        with replacing(path) as new:
            # one text alone: safetensors writes several in any order, and the same state is to be the same bytes
            save_file(stored, new, metadata={"facts": json.dumps({**facts, CHECKSUM: checksum(stored, texts)}, allow_nan=True)})
    except DiskError as error:
        kept = f"; the last good one is still {path}" if path.exists() else ""
        raise DiskError(
            f"{path.name} cannot be written to {path.parent} ({why(error)}){kept}. Make room and start again."
        ) from error.__cause__


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_tensors`` wrote.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    try:
        tensors, texts = read_safetensors(path)
        facts = json.loads(texts["facts"])
        expected = facts.pop(CHECKSUM, None)
        if expected is not None and expected != checksum(tensors, {"facts": json.dumps(facts, allow_nan=True)}):
            raise ValueError("its checksum is another")
        return tensors, facts
    except FileError:
        reason = "it is damaged, or of another kind"
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = why(error)
    raise CheckpointError(f"{path} is not a checkpoint of a training run ({reason}). Remove it to start again.")


def save_member(path: Path, model: nn.Module) -> None:
    """Writes a network's weights, to be loaded with ``--weights`` or ``eigencode.models.load``."""
    save_tensors(path, model.state_dict(), {})
