"""The papers' networks, and loaders for everybody else's."""

from typing import TYPE_CHECKING

from eigencode._lazy import lazy

if TYPE_CHECKING:
    from eigencode.models.checkpoints import load_weights, read_state_dict
    from eigencode.models.groups import GROUPS, expand
    from eigencode.models.loading import load, normalize_inputs
    from eigencode.models.papers import (
        PAPER_MODELS,
        CifarResNet50,
        JiangNetwork,
        gerum_cnn,
        gerum_deep_mlp,
        gerum_shallow_mlp,
        schaeffer_cnn,
    )

__all__ = [
    "GROUPS",
    "PAPER_MODELS",
    "CifarResNet50",
    "JiangNetwork",
    "expand",
    "gerum_cnn",
    "gerum_deep_mlp",
    "gerum_shallow_mlp",
    "load",
    "load_weights",
    "normalize_inputs",
    "read_state_dict",
    "schaeffer_cnn",
]

__getattr__, __dir__ = lazy(__name__)
