"""The papers' networks, and loaders for everybody else's."""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode._torchvision import import_torchvision
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
    from eigencode.models.preprocessing import preprocessing_of

_HOME = {
    "GROUPS": "eigencode.models.groups",
    "PAPER_MODELS": "eigencode.models.papers",
    "CifarResNet50": "eigencode.models.papers",
    "JiangNetwork": "eigencode.models.papers",
    "expand": "eigencode.models.groups",
    "gerum_cnn": "eigencode.models.papers",
    "gerum_deep_mlp": "eigencode.models.papers",
    "gerum_shallow_mlp": "eigencode.models.papers",
    "import_torchvision": "eigencode._torchvision",
    "load": "eigencode.models.loading",
    "load_weights": "eigencode.models.checkpoints",
    "normalize_inputs": "eigencode.models.loading",
    "preprocessing_of": "eigencode.models.preprocessing",
    "read_state_dict": "eigencode.models.checkpoints",
    "schaeffer_cnn": "eigencode.models.papers",
}

__all__ = [
    "GROUPS",
    "PAPER_MODELS",
    "CifarResNet50",
    "JiangNetwork",
    "expand",
    "gerum_cnn",
    "gerum_deep_mlp",
    "gerum_shallow_mlp",
    "import_torchvision",
    "load",
    "load_weights",
    "normalize_inputs",
    "preprocessing_of",
    "read_state_dict",
    "schaeffer_cnn",
]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
