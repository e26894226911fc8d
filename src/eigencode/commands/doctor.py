"""``eigencode doctor``: what there is on this machine, and the command that fixes what is missing."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from eigencode._torchvision import import_torchvision
from eigencode.commands.options import DoctorConfig
from eigencode.datasets import data_root
from eigencode.provenance import hardware, versions

_EXTRAS = {"timm": "timm"}
_DATA = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1",
}


def run(config: DoctorConfig) -> None:
    """Prints what there is and what is missing."""
    found = examine(config.data_root)
    for section in ("versions", "hardware", "data"):
        print(f"{section}:")
        for key, value in found[section].items():
            shown = {True: "there", False: "missing"}.get(value, value) if isinstance(value, bool) else value
            print(f"  {key}: {shown}")
    print(f"data root: {found['data_root']}")
    print("missing:" if found["missing"] else "missing: nothing")
    for what, remedy in found["missing"].items():
        print(f"  {what}: {remedy}")


def examine(root: str | None = None) -> dict[str, Any]:
    """Versions, hardware, data sets and what is missing.

    Args:
        root: Folder of data sets; default as in ``datasets.load``.

    Returns:
        JSON values: versions, hardware, mps, data_root, data (name -> there or not), missing (what -> command that mends it).
    """
    folder = data_root(root)
    there = {name: (folder / path).exists() for name, path in _DATA.items()}
    missing = {
        f"data set {name}": f"eigencode measure --model gerum_cnn --data {name} --data_root {folder}  (downloads it)"
        for name, found in there.items()
        if not found
    }
    for extra, module in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            missing[f"extra {extra}"] = f"pip install 'eigencode[{extra}]'"
    try:
        import_torchvision("models")
    except Exception as error:  # whatever is wrong with it, the user wants to hear it here
        missing["torchvision"] = f"pip install --force-reinstall torchvision  ({type(error).__name__}: {error})"
    if not torch.cuda.is_available():
        missing["GPU"] = "none found; everything runs on the CPU (https://pytorch.org/get-started for a CUDA build)"
    return {
        "versions": versions(),
        "hardware": hardware(),
        "data_root": str(folder),
        "data": {"digits": True, **there},
        "missing": missing,
    }
