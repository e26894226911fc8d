"""Training that shapes the code: one loop for a network or an ensemble, by back-propagation with penalties or by local errors.

Names are loaded when they are first used: the command line reads the settings without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import lazy

if TYPE_CHECKING:
    from eigencode.training.evaluation import robust_accuracies
    from eigencode.training.loop import Training, train
    from eigencode.training.settings import (
        AdversarialSettings,
        JacobianSettings,
        MemberSettings,
        Settings,
        SpectralSettings,
    )

__all__ = [
    "AdversarialSettings",
    "JacobianSettings",
    "MemberSettings",
    "Settings",
    "SpectralSettings",
    "Training",
    "robust_accuracies",
    "train",
]

__getattr__, __dir__ = lazy(__name__)
