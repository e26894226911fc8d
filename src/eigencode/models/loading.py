"""Networks by name: the papers', torchvision's, timm's, and the caller's own."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._digests import short_digest
from eigencode._inputs import Arguments
from eigencode._torchvision import import_torchvision
from eigencode.errors import ModelError
from eigencode.models import huggingface
from eigencode.models.checkpoints import load_weights
from eigencode.models.papers import PAPER_MODELS, ImageShape

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalization:
    """Forward pre-hook that turns images in [0, 1] into what the network was trained on: (x - mean) / std per channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], name: str) -> None:
        self.mean, self.std, self.name = mean, std, name

    def __call__(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of the forward pass with the images normalised: the first, by position or by its name."""
        if not args:
            return args, kwargs | {self.name: self.normalised(kwargs[self.name])} if self.name in kwargs else kwargs
        return (self.normalised(args[0]), *args[1:]), kwargs

    def normalised(self, images: Tensor) -> Tensor:
        """(x - mean) / std."""
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        return (images - mean) / std


@checked(ModelError)
def normalize_inputs(model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    """Makes normalisation part of a model, without a wrapper that would change its layers' names.

    Args:
        model: Network, changed in place; a normalisation that it was given so before is replaced.
        mean: Mean of each channel, in image units.
        std: Standard deviation of each channel, in image units.

    Returns:
        The same model.

    Raises:
        ModelError: lengths differ or a standard deviation is not positive.
    """
    if len(mean) != len(std) or min(std) <= 0:
        raise ModelError(f"normalize_inputs: `mean` and `std` must have one length, `std` positive; got {mean} and {std}.")
    for number, hook in list(model._forward_pre_hooks.items()):
        if isinstance(hook, Normalization):
            del model._forward_pre_hooks[number], model._forward_pre_hooks_with_kwargs[number]
    model.register_forward_pre_hook(
        Normalization(tuple(mean), tuple(std), next(iter(Arguments.of(model).order), "")), with_kwargs=True
    )
    return model


def own_code(spec: str) -> str | None:
    """What a name of a network runs that is not eigencode's or a library's: a file or a module; None for other networks.

    Example:
        >>> own_code("file:net.py:make"), own_code("module:lab.nets:make"), own_code("gerum_cnn")
        ('net.py', 'lab.nets', None)
    """
    kind, _, rest = spec.partition(":")
    return rest.rpartition(":")[0] if kind in ("file", "module") and rest else None


@checked(ModelError)
def load(
    spec: str,
    *,
    weights: str | Path | None = None,
    image_shape: ImageShape | None = None,
    classes: int | None = None,
    seed: int = 0,
    **options: float,
) -> nn.Module:
    """A network in evaluation mode whose inputs are images in [0, 1].

    Args:
        spec: One of the papers' ("gerum_shallow_mlp", "gerum_deep_mlp", "gerum_cnn", "schaeffer_cnn", "cifar_resnet50",
            "jiang_mlp"), "torchvision:NAME", "timm:NAME", "hf:NAME_OR_FOLDER" (of Hugging Face's transformers),
            "file:PATH.py:FACTORY" or "module:PACKAGE.MODULE:FACTORY". The last two run the code that they name, with all that
            you may do yourself: read it first.
        weights: Checkpoint file; for torchvision and timm also their own weights by name ("DEFAULT"); for hf "random". Default:
            random; for hf those in its folder.
        image_shape: Channels, height and width, for the papers' networks and factories that take it.
        classes: Number of classes, likewise; for torchvision and timm default 1000.
        seed: Seed of random initial weights. The global random state is left as it was.
        options: Of the papers' networks: width, depth and classifier_std of jiang_mlp (see ``JiangNetwork``).

    Returns:
        The network; torchvision's, timm's and Hugging Face's normalise images themselves.

    Raises:
        ModelError: unknown name or option, a factory that fails, or weights that cannot be read or do not fit.
    """
    kind, _, rest = spec.partition(":")
    path = weights
    if options and spec not in PAPER_MODELS:
        raise ModelError(f"load: {spec} takes no options; got {', '.join(options)}.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if spec in PAPER_MODELS:
            model = _papers(spec, _given(image_shape=image_shape, classes=classes) | options)
        elif kind == "torchvision" and rest:
            model, path = _torchvision(rest, weights, classes)
        elif kind == "timm" and rest:
            model, path = _timm(rest, weights, classes)
        elif kind == "hf" and rest:
            model, path = _huggingface(rest, weights, classes), None
        elif kind in ("file", "module") and rest:
            model = _own(kind, rest, image_shape, classes)
        else:
            known = [
                *PAPER_MODELS,
                "torchvision:NAME",
                "timm:NAME",
                "hf:NAME_OR_FOLDER",
                "file:PATH.py:FACTORY",
                "module:PACKAGE.MODULE:FACTORY",
            ]
            raise ModelError(f"load: no network is called {spec!r}. Use one of {', '.join(known)}.")
    if path is not None:
        load_weights(model, path)
    return model.eval()


def _papers(name: str, options: dict[str, Any]) -> nn.Module:
    factory = PAPER_MODELS[name]
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            raise ModelError(f"load: {name} has no option {option!r}. It has {', '.join(known)}.")
    return factory(**options)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _torchvision(name: str, weights: str | Path | None, classes: int | None) -> tuple[nn.Module, str | Path | None]:
    models = import_torchvision("models")
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"load: torchvision has no classification network {name!r}. It has {', '.join(known)}.")
    choices = models.get_model_weights(name)
    by_name = weights is not None and (weights == "DEFAULT" or str(weights) in choices.__members__)
    options: dict[str, Any] = _given(num_classes=classes)
    if name in ("googlenet", "inception_v3") and not by_name:
        # Files saved from torchvision hold the auxiliary classifiers and expect the Inception scaling of inputs.
        options |= {"init_weights": True, "aux_logits": weights is not None, "transform_input": weights is not None}
    try:
        model = models.get_model(name, weights=weights if by_name else None, **options)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(_no_download(name, weights, error)) from None
    except ValueError as error:
        raise ModelError(f"load: torchvision:{name}: {error}.") from None
    normalize_inputs(model, IMAGENET_MEAN, IMAGENET_STD)
    return model, None if by_name else weights


def _timm(name: str, weights: str | Path | None, classes: int | None) -> tuple[nn.Module, str | Path | None]:
    import_torchvision()
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise ModelError("load: timm is not installed. Run: pip install 'eigencode[timm]'.") from None
    if not timm.is_model(name.split(".")[0]):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise ModelError(f"load: timm has no network {name!r}. Close names: {', '.join(close) or 'none'}.")
    by_name = weights is not None and str(weights) == "DEFAULT"
    try:
        model: nn.Module = timm.create_model(name, pretrained=by_name, **_given(num_classes=classes))
    except Exception as error:  # the hub client raises its own kinds of failure
        raise ModelError(_no_download(name, weights, error)) from None
    settings: Any = model.pretrained_cfg
    normalize_inputs(model, tuple(settings.get("mean", IMAGENET_MEAN)), tuple(settings.get("std", IMAGENET_STD)))
    return model, None if by_name else weights


def _huggingface(name: str, weights: str | Path | None, classes: int | None) -> nn.Module:
    model, settings = huggingface.load_huggingface(name, weights, classes)
    if usual := huggingface.normalisation(model, settings, name):
        normalize_inputs(model, *usual)
    return model


def _no_download(name: str, weights: str | Path | None, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"load: weights {str(weights)!r} of {name} could not be downloaded ({reason}). Connect to the network, or pass a file "
        "with --weights PATH."
    )


def _own(kind: str, rest: str, image_shape: ImageShape | None, classes: int | None) -> nn.Module:
    place, separator, factory = rest.rpartition(":")
    if not separator or not factory.isidentifier():
        raise ModelError(
            f"load: {kind}:{rest} names no factory. Write {kind}:{'PATH.py' if kind == 'file' else 'MODULE'}:FACTORY."
        )
    module = _import_file(Path(place)) if kind == "file" else _import_module(place)
    make: Callable[..., Any] | None = getattr(module, factory, None)
    if not callable(make):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        close = difflib.get_close_matches(factory, names, n=1)
        raise ModelError(
            f"load: {place} has no callable {factory!r}. {f'Did you mean {close[0]!r}?' if close else 'Check the name.'}"
        )
    takes = _arguments(make)
    if classes is not None and "classes" not in takes:
        raise ModelError(
            f"load: {factory} in {place} takes no `classes`; got {classes}. Leave it out, or let the factory take it."
        )
    options = {k: v for k, v in _given(image_shape=image_shape, classes=classes).items() if k in takes}
    if classes is None and takes.get("classes") is inspect.Parameter.empty:
        raise ModelError(
            f"load: {factory} in {place} needs `classes`, which was not given. Pass --classes, or give the argument a default."
        )
    try:
        with _beside(Path(place).absolute().parent) if kind == "file" else nullcontext():
            model = make(**options)
    except (Exception, SystemExit) as error:  # the caller's code may fail in any way, and must not end the program
        raise ModelError(f"load: {factory} in {place} failed ({type(error).__name__}: {error}). Fix the factory.") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"load: {factory} in {place} must return a torch.nn.Module; got {type(model).__name__}.")
    return model


def _arguments(make: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default."""
    try:
        return {name: parameter.default for name, parameter in inspect.signature(make).parameters.items()}
    except (ValueError, TypeError):  # code that is not Python's own
        return {}


def _import_file(path: Path) -> Any:
    if not os.path.isfile(path):
        raise ModelError(f"load: {path} does not exist. Check the path.")
    return _imported(path.absolute(), path.stat().st_mtime_ns)


@cache
def _imported(path: Path, _changed: int) -> Any:
    """A file as a module: once, so that all networks made by it are of one class. It may import its neighbours, as .NAME too."""
    package = types.ModuleType(f"eigencode_user_{short_digest(str(path.parent))}")
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{path.stem}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise ModelError(f"load: {path} is not a Python file. Name a .py file.")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        with _beside(path.parent):
            description.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the caller's code may fail in any way, and must not end the program
        raise ModelError(f"load: {path} could not be run ({type(error).__name__}: {error}). Fix the file.") from error
    return module


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Inside, modules in a folder can be imported; on leaving they are forgotten, since another folder may have their names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            place = getattr(sys.modules[name], "__file__", None)
            if place and Path(place).is_relative_to(folder) and not name.startswith("eigencode_user_"):
                del sys.modules[name]


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"load: {name} could not be imported ({error}). Install it, or run from its folder.") from None
    except (Exception, SystemExit) as error:
        raise ModelError(f"load: {name} could not be run ({type(error).__name__}: {error}). Fix the module.") from error
