"""Where images come from: bundled digits, torchvision's data sets, folders and tensor files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode._files import why
from eigencode._readers.arrays import names_in_npz, read_arrays
from eigencode._readers.checkpoints import Checkpoint, read_checkpoint
from eigencode._torchvision import import_torchvision
from eigencode.datasets.folders import ImageFolder
from eigencode.datasets.images import ImageSet
from eigencode.datasets.preprocessing import Preprocessing
from eigencode.errors import DataError, FileError, NotDownloadedError

Split = Literal["train", "test"]

_MAPS, _COLOURS = 4, (1, 3)
"""Dimensions of (n, channels, height, width), and numbers of channels of pictures."""

_DIGITS_TRAINING = 1297
"""The first 1297 of scikit-learn's 1797 digits are for training, the last 500 for testing."""


@checked(DataError)
def data_root(root: str | Path | None = None) -> Path:
    """Folder of data sets in torchvision's layout: the argument, else EIGENCODE_DATA, else the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(root or os.environ.get("EIGENCODE_DATA") or cache / "eigencode")


@checked(DataError)
def load(
    name: str,
    *,
    split: Split = "test",
    count: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    image_size: int | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    grey: bool = False,
    download: bool = True,
) -> ImageSet:
    """Images by name.

    Args:
        name: "digits" (bundled), "mnist", "fashion_mnist", "cifar10", "image_folder:PATH" (one folder for each class, or
            images without labels), "tensors:PATH" (.npz, .safetensors or .pt with `inputs` and, if known, `labels`, or with
            `train_images`, `test_images` and so on; of 8 bits or in [0, 1]; grey ones may lack the axis of channels) or
            "ilyas:PATH" (a folder with the released CIFAR_ims and CIFAR_lab of Ilyas et al. 2019).
        split: "train" or "test"; folders have no splits, nor have tensor files but with `train_images` and `test_images`.
        count: Size of a random subset; default: all images in their own order.
        seed: Seed of the subset.
        root: Folder of data sets; default: EIGENCODE_DATA, else the user's cache.
        image_size: For folders: shorter side is resized to this and the centre square is cut out.
        preprocessing: For folders, in place of ``image_size``: how pictures are resized and cut.
        classes: For folders: names of all classes in the order of a network's outputs, where the folders are some of these.
        grey: For folders: one channel in place of three.
        download: Fetch what is missing under ``root`` from the network.

    Returns:
        ImageSet in [0, 1].

    Raises:
        NotDownloadedError: they are not there, and ``download`` is false.
        DataError: unknown name, missing or unreadable files, no network for a download, or too few images.

    Example:
        >>> load("digits", count=100)
        ImageSet of 100 images (1, 8, 8) from digits/test
    """
    kind, _, path = name.partition(":")
    if kind == "image_folder" and path:
        how = Preprocessing(image_size, image_size) if image_size else preprocessing
        return ImageFolder(Path(path), count=count, seed=seed, preprocessing=how, classes=classes, grey=grey).in_memory()
    if kind == "tokens" and path:
        raise DataError(f"load: {name} holds texts, not images. Only measuring takes them, from load_tokens.")
    if kind == "tensors" and path:
        return _tensors(Path(path), split).subset(count, seed=seed)
    if kind == "ilyas" and path:
        return _ilyas(Path(path)).subset(count, seed=seed)
    if name in _BUNDLED:
        return _BUNDLED[name](split).subset(count, seed=seed)
    if name in _TORCHVISION:
        return _from_torchvision(name, split, data_root(root), download=download).subset(count, seed=seed)
    known = [*_BUNDLED, *_TORCHVISION, "image_folder:PATH", "tensors:PATH", "ilyas:PATH", "tokens:PATH (texts)"]
    kind = ""
    with suppress(OSError, RuntimeError, ValueError):  # of names that cannot be those of files
        own = Path(name).expanduser()
        kind = "image_folder" if own.is_dir() else "tensors" if own.is_file() else ""
    meant = f" Did you mean {kind}:{name}?" if kind else ""
    raise DataError(f"load: no data set is called {name!r}. Use one of {', '.join(known)}.{meant}")


def _digits(split: Split) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, _DIGITS_TRAINING) if split == "train" else slice(_DIGITS_TRAINING, None)
    inputs = torch.from_numpy(digits.images[part] / 16).to(torch.float32).unsqueeze(1)
    return ImageSet(inputs, torch.from_numpy(digits.target[part]).to(torch.int64), f"digits/{split}")


_BUNDLED: dict[str, Callable[[Split], ImageSet]] = {"digits": _digits}
"""Data sets that need no file."""


def _grey(dataset: Any) -> Tensor:
    pixels: Tensor = dataset.data
    return pixels.unsqueeze(1)


def _colour(dataset: Any) -> Tensor:
    return torch.from_numpy(dataset.data).permute(0, 3, 1, 2)


_TORCHVISION: dict[str, tuple[str, Callable[[Any], Tensor]]] = {
    "mnist": ("MNIST", _grey),
    "fashion_mnist": ("FashionMNIST", _grey),
    "cifar10": ("CIFAR10", _colour),
}


def _from_torchvision(name: str, split: Split, root: Path, *, download: bool) -> ImageSet:
    class_name, pixels_of = _TORCHVISION[name]
    make = getattr(import_torchvision("datasets"), class_name)
    try:
        found = list(root.glob(f"{'cifar-10-batches-py' if name == 'cifar10' else f'{class_name}/raw'}/*"))
        irregular = next((path for path in found if not path.is_file()), None)
    except (OSError, ValueError) as error:  # the latter of a name that no folder can have
        raise _unreadable(name, root, error) from None
    if irregular:
        raise DataError(f"{name}: {irregular} is not a regular file. Remove it.")
    try:
        dataset = make(root, train=split == "train", download=False)
    except RuntimeError:
        if not download:
            raise NotDownloadedError(
                f"{name} is not under {root}, and is not to be downloaded. Name its folder, or allow downloads."
            ) from None
        dataset = _downloaded(name, make, split, root)
    except Exception as error:  # damaged files fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{name}: the files under {root} are damaged ({reason}). Remove them, and they are downloaded again."
        ) from None
    return ImageSet.from_uint8(pixels_of(dataset), torch.as_tensor(dataset.targets), name=f"{name}/{split}")


def _downloaded(name: str, make: Callable[..., Any], split: Split, root: Path) -> Any:
    try:
        existing = {path for path in (root, *root.rglob("*")) if path.is_dir()} if os.path.exists(root) else set()
    except OSError as error:
        raise _unreadable(name, root, error) from None
    try:
        return make(root, train=split == "train", download=True)
    except (URLError, OSError, RuntimeError, ValueError) as error:
        _remove_new_empty_folders(root, existing)
        raise DataError(
            f"{name} is not under {root} and could not be downloaded ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Connect to the network, or put it there in torchvision's layout, or name its folder with --data_root or "
            "EIGENCODE_DATA."
        ) from None


def _unreadable(name: str, root: Path, error: OSError | ValueError) -> DataError:
    return DataError(f"{name}: {root} cannot be read ({why(error)}). Name another folder with --data_root or EIGENCODE_DATA.")


def _remove_new_empty_folders(root: Path, existing: set[Path]) -> None:
    """Takes away the folders that a failed download leaves."""
    for folder in sorted((path for path in (root, *root.rglob("*")) if path.is_dir()), reverse=True):
        if folder not in existing and not any(folder.iterdir()):
            folder.rmdir()


_INPUTS, _LABELS = ("inputs", "images", "x"), ("labels", "targets", "y", "label", "target")


def _tensors(path: Path, split: Split) -> ImageSet:
    try:
        arrays = read_arrays(path)
    except FileError as error:
        raise DataError(f"tensors: {error}") from None
    inputs = next((arrays[key] for key in _INPUTS if key in arrays), arrays.get(f"{split}_images"))
    if inputs is None:
        remedy = f"Name texts tokens:{path}" if "input_ids" in arrays else "Rename it"
        raise DataError(f"tensors: {path} must hold an array `inputs`; got {', '.join(arrays) or 'none'}. {remedy}.")
    known = (*_LABELS, f"{split}_labels")
    labels = next((arrays[key] for key in known if key in arrays), None)
    if labels is None and path.suffix == ".npz" and (unread := [name for name in names_in_npz(path) if name in known]):
        raise DataError(f"tensors: {path}: {unread[0]} must be whole numbers; got something else. Number the classes from 0.")
    if labels is not None and labels.ndim == 2 and 1 in labels.shape:
        labels = labels.flatten()  # MATLAB has no lists of numbers but rows and columns
    return ImageSet.unlabelled(_as_images(inputs), labels, name=f"tensors:{path}")


def _as_images(inputs: Tensor) -> Tensor:
    """Pixels of 8 bits and floating-point numbers of any size as float32, with channels first."""
    if inputs.dtype == torch.uint8:
        inputs = inputs.to(torch.float32) / 255
    elif inputs.is_floating_point():
        inputs = inputs.to(torch.float32)
    if inputs.ndim == _MAPS - 1:
        return inputs.unsqueeze(1)
    if inputs.ndim == _MAPS and inputs.shape[-1] in _COLOURS and inputs.shape[1] not in _COLOURS:
        return inputs.permute(0, 3, 1, 2).contiguous()
    return inputs


def _ilyas(path: Path) -> ImageSet:
    """The released files hold one tensor, or a list of them to be joined; nothing else in them is read."""
    parts = {}
    for name in ("CIFAR_ims", "CIFAR_lab"):
        file = path / name
        if not os.path.isfile(file):
            raise DataError(
                f"ilyas: {path} must be a folder with the released files CIFAR_ims and CIFAR_lab; {name} is not there."
            )
        try:
            parts[name] = read_checkpoint(file, _joined)
        except FileError as error:
            raise DataError(f"ilyas: {error}") from None
    return ImageSet(parts["CIFAR_ims"].to(torch.float32), parts["CIFAR_lab"].to(torch.int64), f"ilyas:{path}")


def _joined(checkpoint: Checkpoint) -> Tensor:
    content = checkpoint.content
    parts = content if isinstance(content, (list, tuple)) else [content]
    if not parts or not all(checkpoint.is_tensor(part) for part in parts):
        kind = type(content).__name__ if isinstance(content, (list, tuple, dict)) else "something else"
        raise FileError(f"{checkpoint.path} must hold a tensor or a list of tensors; got {kind}. Check the file.")
    tensors = [checkpoint.tensor(part, name=f"tensor {number}") for number, part in enumerate(parts)]
    if parts is not content:
        return tensors[0]
    try:
        return torch.cat([torch.atleast_1d(tensor) for tensor in tensors])
    except RuntimeError:
        raise FileError(f"{checkpoint.path} holds tensors that do not fit together. Download it again.") from None
