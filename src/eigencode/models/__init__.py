"""The papers' networks, and loaders for everybody else's."""

from typing import TYPE_CHECKING

from eigencode._lazy import public_names

if TYPE_CHECKING:
    from eigencode.models.checkpoints import load_weights as load_weights, read_state_dict as read_state_dict
    from eigencode.models.groups import GROUPS as GROUPS, expand as expand
    from eigencode.models.loading import load as load, normalize_inputs as normalize_inputs
    from eigencode.models.papers import (
        PAPER_MODELS as PAPER_MODELS,
        CifarResNet50 as CifarResNet50,
        JiangNetwork as JiangNetwork,
        gerum_cnn as gerum_cnn,
        gerum_deep_mlp as gerum_deep_mlp,
        gerum_shallow_mlp as gerum_shallow_mlp,
        schaeffer_cnn as schaeffer_cnn,
    )

__all__, __getattr__, __dir__ = public_names(__name__)
