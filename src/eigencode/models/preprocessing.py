"""How those who trained a network resized and cut the pictures that they evaluated it on."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

from eigencode._torchvision import import_torchvision
from eigencode.datasets.preprocessing import Preprocessing
from eigencode.errors import ModelError
from eigencode.models.huggingface import preprocessing_in


def preprocessing_of(spec: str, weights: str | Path | None = None) -> Preprocessing:
    """How the pictures were resized and cut on which a network was evaluated by those who trained it.

    Args:
        spec: As in ``load``: torchvision:NAME, timm:NAME or hf:NAME_OR_FOLDER.
        weights: As in ``load``. Of torchvision, the name of the weights; their default otherwise.

    Returns:
        Preprocessing.

    Raises:
        ModelError: a network that does not say so.
    """
    kind, _, rest = spec.partition(":")
    found = None
    if kind == "torchvision":
        models = import_torchvision("models")
        if rest in models.list_models(module=models):
            choices = models.get_model_weights(rest)
            own = choices[str(weights)] if str(weights) in choices.__members__ else choices.DEFAULT
            settings = own.transforms.keywords
            found = Preprocessing(
                settings.get("resize_size", 256),
                settings["crop_size"],
                getattr(settings.get("interpolation"), "value", "bilinear"),
            )
    elif kind == "timm":
        found = _preprocessing_of_timm(rest)
    elif kind == "hf":
        found = preprocessing_in(rest)
    if found is None:
        raise ModelError(
            f"transform: {spec} does not say how its images are resized and cut. Use --transform imagenet or --image_size."
        )
    return found


def _preprocessing_of_timm(name: str) -> Preprocessing | None:
    """As timm's own evaluation: the square is a part of the shorter side."""
    import_torchvision()
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise ModelError("load: timm is not installed. Run: pip install 'eigencode[timm]'.") from None
    settings = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    if settings is None:
        return None
    side = (settings.test_input_size or settings.input_size)[-1]
    part = settings.test_crop_pct or settings.crop_pct
    if settings.crop_mode not in ("center", "squash"):
        return None
    return Preprocessing(math.floor(side / part), side, settings.interpolation, settings.crop_mode == "squash")
