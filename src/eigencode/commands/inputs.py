"""The network and the images, or texts, that a command is told."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from eigencode import datasets, models
from eigencode._inputs import run
from eigencode._running import usable_device
from eigencode.activations import model_device, scores_in
from eigencode.commands.options import NetworkAndImages
from eigencode.commands.parsing import parse_numbers
from eigencode.commands.progress import tell
from eigencode.datasets import ImageFolder, ImageSet, Preprocessing, TokenSet
from eigencode.datasets.tokens import MASK
from eigencode.errors import DataError


def load_images(config: NetworkAndImages, *, split: str | None = None, count: int | None = None) -> ImageSet:
    """Images of the configuration; of another split and count if given."""
    return datasets.load(
        config.data,
        split=split or config.split,  # type: ignore[arg-type]
        count=count if split else config.count,
        seed=config.seed,
        root=config.data_root,
        image_size=config.image_size,
        preprocessing=_preprocessing(config.model, config),
        classes=_class_names(config),
        grey=config.grey,
    )


def load_inputs(spec: str, config: NetworkAndImages) -> ImageSet | ImageFolder | TokenSet:
    """Images for one network, read from their folder while it runs; or texts."""
    kind, _, path = config.data.partition(":")
    if kind == "tokens" and path:
        texts = datasets.load_tokens(Path(path))
        if MASK not in texts.inputs:
            tell(f"note: {config.data} has no {MASK}, so every token counts.")
        return texts.subset(config.count, seed=config.seed)
    if kind != "image_folder" or not path:
        return load_images(config)
    size = config.image_size
    return ImageFolder(
        path,
        count=config.count,
        seed=config.seed,
        preprocessing=Preprocessing(size, size) if size else _preprocessing(spec, config),
        classes=_class_names(config),
        grey=config.grey,
    )


def _preprocessing(spec: str | None, config: NetworkAndImages) -> Preprocessing | None:
    if config.transform is None:
        return None
    if config.transform in ("model", "resize") and spec is not None:
        own = models.preprocessing_of(spec, config.weights)
        found = own if config.transform == "model" else own.without_margin
    else:
        found = datasets.preprocessing(config.transform)
    tell(f"images: {found}.")
    return found


def _class_names(config: NetworkAndImages) -> tuple[str, ...] | None:
    return datasets.read_classes(Path(config.classes)) if isinstance(config.classes, str) else None


def load_model(spec: str, config: NetworkAndImages, images: ImageSet | ImageFolder | TokenSet) -> nn.Module:
    """The network of the configuration for images of this shape."""
    model = models.load(
        spec,
        weights=config.weights,
        image_shape=None if isinstance(images, TokenSet) else images.shape,
        classes=config.classes if isinstance(config.classes, int) else None,
        seed=config.seed,
    )
    if config.mean is not None and config.std is not None and not isinstance(images, TokenSet):
        given = [parse_numbers(config.mean, "mean"), parse_numbers(config.std, "std")]
        channels = images.shape[0]
        mean, std = (tuple(values * channels if len(values) == 1 else values) for values in given)
        if len(mean) != channels:
            raise DataError(f"--mean: there must be one number for each of {channels} channels; got {len(mean)}.")
        models.normalize_inputs(model, mean, std)
    return model


def load_both(config: NetworkAndImages) -> tuple[nn.Module, ImageSet]:
    """The network, where it is to run, and images in memory, for what changes images.

    Raises:
        DataError: texts.
    """
    assert config.model is not None
    inputs = load_inputs(config.model, config)
    if isinstance(inputs, TokenSet):
        raise DataError(f"--data: {config.data} holds texts, which only `measure` takes. Name images.")
    model = load_model(config.model, config, inputs).to(usable_device(config.device))
    number_as(model, inputs, config)
    return model, inputs.in_memory() if isinstance(inputs, ImageFolder) else inputs


def number_as(model: nn.Module, images: ImageSet | ImageFolder | TokenSet, config: NetworkAndImages) -> None:
    """Gives images of a folder the labels that a network of ImageNet has for them, if the folders are some of its classes.

    Says so; and where folders and outputs differ in number and nothing tells which is which.
    """
    if not isinstance(images, ImageFolder) or not images.classes:
        return
    named = _class_names(config)
    names = named or images.classes
    outputs = _n_outputs(model, images)
    if outputs in (None, len(names)):
        return
    synsets = datasets.imagenet_synsets()
    if named is None and outputs == len(synsets) and set(names) <= set(synsets):
        images.number(synsets)
        tell(
            f"note: the {len(names)} folders are named by ImageNet's synsets, and labels are their places among its 1000 classes."
        )
        return
    have = f"{config.classes} names" if named else "the images have"
    tell(
        f"note: {have} {len(names)} classes and the network has {outputs} outputs, so no accuracy is given. Pass "
        "--classes FILE with the names of all classes in the order of the outputs."
    )
    images.forget_labels()


def _n_outputs(model: nn.Module, images: ImageFolder) -> int | None:
    """Scores that a network gives for an image; None if it does not give one for each class, or does not run."""
    try:
        with torch.random.fork_rng(), torch.no_grad():
            scores = scores_in(run(model, images[0][0][None].to(model_device(model))))
    except Exception:  # measuring says why
        return None
    return scores.shape[1] if scores is not None and scores.ndim == 2 else None
