"""Training that shapes the code: one loop for a network or an ensemble, by back-propagation with penalties or by local errors.

Names are loaded when they are first used: the command line reads the settings without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import loader

if TYPE_CHECKING:
    from eigencode.training.evaluation import robust_accuracies
    from eigencode.training.loop import Training, train
    from eigencode.training.settings import AdversarialSettings, JacobianSettings, MemberSettings, Settings, SpectralSettings

_HOME = {
    "AdversarialSettings": "eigencode.training.settings",
    "MemberSettings": "eigencode.training.settings",
    "JacobianSettings": "eigencode.training.settings",
    "Settings": "eigencode.training.settings",
    "SpectralSettings": "eigencode.training.settings",
    "Training": "eigencode.training.loop",
    "robust_accuracies": "eigencode.training.evaluation",
    "train": "eigencode.training.loop",
}

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

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
