"""The one place that imports torchvision.

torchvision's wheel cannot load its compiled operators next to a torch of another build (a CPU-only one, say) and then fails
on import, although none of those operators is needed here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

_schemas: list[Any] = []  # keeps the operator library alive


def import_torchvision(submodule: str = "") -> ModuleType:
    """Imports torchvision, or one of its submodules, with its operators declared where they cannot be loaded.

    Call it before ``import timm`` or before you take a network from transformers, where these fail with "operator
    torchvision::nms does not exist": torchvision was built for another PyTorch, such as one without a GPU.

    Args:
        submodule: Such as "models"; default: torchvision itself.

    Returns:
        The module.

    The schemas are defined only after a failed import: where the compiled operators do load, a second definition would abort
    the process.
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for loaded in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        del sys.modules[loaded]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)
    return importlib.import_module(name)
