"""Training that shapes the code: one loop for a network or an ensemble, by back-propagation with penalties or by local errors.

Names are loaded when they are first used: the command line reads the settings without waiting for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eigencode.training.evaluation import robust_accuracies
    from eigencode.training.loop import Training, train
    from eigencode.training.settings import AdversarialSettings, Cell, JacobianSettings, Settings, SpectralSettings

_HOME = {
    "AdversarialSettings": "settings",
    "Cell": "settings",
    "JacobianSettings": "settings",
    "Settings": "settings",
    "SpectralSettings": "settings",
    "Training": "loop",
    "robust_accuracies": "evaluation",
    "train": "loop",
}

__all__ = [
    "AdversarialSettings",
    "Cell",
    "JacobianSettings",
    "Settings",
    "SpectralSettings",
    "Training",
    "robust_accuracies",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"eigencode.training.{_HOME[name]}"), name)
    raise AttributeError(f"module 'eigencode.training' has no attribute {name!r}")
