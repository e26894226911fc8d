"""Networks of Hugging Face's transformers, from a folder or by name."""

from __future__ import annotations

import importlib
import logging as stdlib_logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eigencode._torchvision import import_torchvision
from eigencode.datasets.preprocessing import Interpolation, Preprocessing
from eigencode.errors import ModelError, ReliabilityWarning
from eigencode.models.checkpoints import load_weights

RANDOM = "random"
"""In place of weights: as the network is initialised."""

_PICKLED = "pytorch_model.bin"
_OF_THEIR_OWN = ("Levit",)
"""Beginnings of names of processors that resize in ways of their own."""

_SQUASHING = ("ViT", "DeiT", "Beit")
"""Those that make both sides of a picture as long as a size that is one number."""

_ROUNDING = 1e-3

_CONVNEXT_LARGE = 384
"""Sides from which on its processor cuts nothing away."""

_RESAMPLING: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Of Pillow, whose numbers preprocessor_config.json has."""


def load_huggingface(name: str, weights: str | Path | None, classes: int | None) -> tuple[nn.Module, dict[str, Any]]:
    """A network as its ``config.json`` describes it, in float32; no code that comes with it is run.

    Args:
        name: Folder with ``config.json``, or name on the Hub.
        weights: "random", a checkpoint file, or None for those that are beside the configuration.
        classes: Number of classes, for random weights.

    Returns:
        The network, and what its ``preprocessor_config.json`` says ({} if there is none).

    Raises:
        ModelError: transformers is not installed, there is no such folder or name, or weights are missing or do not fit.
    """
    library = _transformers()
    source = _source(name)
    if classes is not None and str(weights) != RANDOM:
        raise ModelError(f"load: hf:{name} has as many classes as its weights; got {classes}. Leave it out.")
    notes: list[str] = []
    with _quiet(library):
        options = {} if classes is None else {"num_labels": classes}
        configuration = _or_sentence(name, lambda: library.AutoConfig.from_pretrained(source, trust_remote_code=False, **options))
        made = _class_of(library, configuration.architectures, name)
        build = made._from_config if hasattr(made, "_from_config") else made.from_config
        file = _only_pickled(source) if weights is None else weights
        if file is not None:
            model: nn.Module = _or_sentence(name, lambda: build(configuration))
        else:
            model, notes = _pretrained(name, source, made)
        settings = _processing(library, source)
    if file is not None and str(file) != RANDOM:
        load_weights(model, file)
    for note in notes:
        warnings.warn(f"load: hf:{name}: {note}", ReliabilityWarning, stacklevel=3)
    return model.to(torch.float32), settings


def preprocessing_in(name: str) -> Preprocessing | None:
    """How the ``preprocessor_config.json`` of a folder or name resizes and cuts pictures; None if it does not say so."""
    library = _transformers()
    with _quiet(library):
        settings = _processing(library, _source(name))
    if not settings.get("do_resize", True) or _kind(settings).startswith(_OF_THEIR_OWN):
        return None
    size, crop = settings.get("size"), settings.get("crop_size")
    square = crop.get("height") if isinstance(crop, dict) else crop
    square = square if settings.get("do_center_crop", True) else None
    how: Interpolation = _RESAMPLING.get(settings.get("resample", 2), "bilinear")
    if isinstance(size, dict) and size.get("height") is not None:
        is_square = size["height"] == size.get("width") and isinstance(size["height"], int)
        return Preprocessing(size["height"], square or size["height"], how, squash=True) if is_square else None
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    if not isinstance(shortest, int):
        return None
    if not isinstance(size, dict) and _kind(settings).startswith(_SQUASHING):
        return Preprocessing(shortest, square or shortest, how, squash=True)
    part = settings.get("crop_pct")
    if part is not None:  # of ConvNeXt, whose large pictures are squashed
        large = shortest >= _CONVNEXT_LARGE
        return Preprocessing(shortest if large else int(shortest / part), shortest, how, squash=large)
    return Preprocessing(shortest, square, how) if isinstance(square, int) else None


def _source(name: str) -> str:
    """A folder written out, or the name."""
    folder = os.path.expanduser(name)
    return folder if os.path.isdir(folder) else name


def _kind(settings: dict[str, Any]) -> str:
    return str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")


def _transformers() -> Any:
    import_torchvision()  # which transformers imports, and cannot where its operators do not load
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise ModelError("load: transformers is not installed. Run: pip install 'eigencode[text]'.") from None


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Inside, transformers neither logs nor shows bars: what matters is said here."""
    hub, logging = stdlib_logging.getLogger("huggingface_hub"), library.utils.logging
    level, hub_level, has_bars = logging.get_verbosity(), hub.level, logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.setLevel(stdlib_logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        hub.setLevel(hub_level)
        if has_bars:
            logging.enable_progress_bar()


def _or_sentence(name: str, made: Any) -> Any:
    try:
        return made()
    except Exception as error:  # of configurations, weights and the Hub, which fail in any way
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:200]
        raise ModelError(
            f"load: hf:{name} could not be loaded ({reason}). Name a folder with config.json and model.safetensors, or connect "
            "to the network for one of the Hub."
        ) from None


def _only_pickled(source: str) -> Path | None:
    """The file of weights of a folder that has none in safetensors; it is read without running anything."""
    folder = Path(source)
    is_alone = folder.is_dir() and not any(folder.glob("*.safetensors*")) and (folder / _PICKLED).exists()
    return folder / _PICKLED if is_alone else None


def _class_of(library: Any, architectures: Any, name: str) -> Any:
    """The network's class; of a configuration that names none, the body without a head."""
    if architectures in (None, []):
        return library.AutoModel
    first = architectures[0] if isinstance(architectures, list) else None
    found = getattr(library, first, None) if isinstance(first, str) else None
    if not isinstance(found, type) or not issubclass(found, library.PreTrainedModel):
        raise ModelError(
            f"load: hf:{name}: `architectures` of its config.json must name a network of transformers; got {architectures!r}. "
            "Correct it."
        )
    return found


def _pretrained(name: str, source: str, made: Any) -> tuple[nn.Module, list[str]]:
    """The network with its own weights, and what to know of these."""
    if Path(source).is_dir() and not any(Path(source).glob("*.safetensors*")):
        raise ModelError(
            f"load: hf:{name} holds no weights (model.safetensors or {_PICKLED}). Pass --weights FILE, or --weights {RANDOM} for "
            "the network as it is initialised."
        )
    model, found = _or_sentence(
        name,
        lambda: made.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        ),
    )
    wrong = [*found.get("missing_keys", ()), *(key for key, *_ in found.get("mismatched_keys", ()))]
    if wrong:
        raise ModelError(
            f"load: hf:{name}: {len(wrong)} of the network's tensors are missing from its weights or have another shape "
            f"({sorted(map(str, wrong))[0]}). Download them again, or correct `architectures` in config.json."
        )
    left = sorted(map(str, found.get("unexpected_keys", ())))
    notes = [f"{len(left)} of its tensors do not belong to the network and were ignored ({left[0]})."] if left else []
    return model, notes


def _processing(library: Any, source: str) -> dict[str, Any]:
    """What the image processor is told; {} if there is none."""
    try:
        settings, _ = library.image_processing_base.ImageProcessingMixin.get_image_processor_dict(source)
    except Exception:  # of folders without one, in any way
        return {}
    return settings if isinstance(settings, dict) else {}


def normalisation(model: nn.Module, settings: dict[str, Any], name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of the images that a network was trained on; None for networks of other inputs."""
    if getattr(model, "main_input_name", "") != "pixel_values":
        return None
    if settings.get("do_flip_channel_order") or abs(255 * settings.get("rescale_factor", 1 / 255) - 1) > _ROUNDING:
        raise ModelError(
            f"load: hf:{name} takes images with blue first, or in another range than [0, 1]. Load it with transformers, wrap "
            "it in a module that takes images in [0, 1], and pass that from Python."
        )
    if not settings.get("do_normalize", True):
        return None
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if mean is None or std is None:
        warnings.warn(
            f"load: hf:{name} has no preprocessor_config.json that says how images are normalised: they are given in [0, 1].",
            ReliabilityWarning,
            stacklevel=3,
        )
        return None
    try:
        return tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError):
        raise ModelError(
            f"load: hf:{name}: `image_mean` and `image_std` of its preprocessor_config.json must be lists of numbers; got "
            f"{mean!r} and {std!r}. Correct them."
        ) from None
