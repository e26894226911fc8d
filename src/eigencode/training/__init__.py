"""Training that shapes the code: one loop for a network or an ensemble, by back-propagation with penalties or by local errors.

Names are loaded when they are first used: the command line reads the settings without waiting for torch.
"""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names

if TYPE_CHECKING:
    from eigencode.training.evaluation import robust_accuracies as robust_accuracies
    from eigencode.training.loop import Training as Training, train as train
    from eigencode.training.settings import (
        AdversarialSettings as AdversarialSettings,
        JacobianSettings as JacobianSettings,
        MemberSettings as MemberSettings,
        Settings as Settings,
        SpectralSettings as SpectralSettings,
    )

__all__, __getattr__, __dir__ = public_names(__name__)
