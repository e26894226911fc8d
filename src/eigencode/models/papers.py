"""The networks of the three papers, with the initial weights their authors used where these are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from eigencode.errors import ModelError

ImageShape = tuple[int, int, int]

_SMALLEST_FOR_5X5 = 16
"""Below this height, two 5x5 convolutions without padding leave nothing."""


def _glorot(model: nn.Module) -> nn.Module:
    """Glorot-uniform weights and zero biases: the default of Keras, which Gerum et al. used."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _features(layers: nn.Sequential, image_shape: ImageShape) -> int:
    with torch.no_grad():
        return int(layers(torch.zeros(1, *image_shape)).flatten(1).shape[1])


def gerum_shallow_mlp(image_shape: ImageShape = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """One hidden layer of 2000 tanh units (Gerum et al. 2022, section 3.1)."""
    return _gerum_mlp(image_shape, (2000,), classes)


def gerum_deep_mlp(image_shape: ImageShape = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Three hidden layers of 1000 tanh units (Gerum et al. 2022, section 3.2)."""
    return _gerum_mlp(image_shape, (1000, 1000, 1000), classes)


def _gerum_mlp(image_shape: ImageShape, widths: tuple[int, ...], classes: int) -> nn.Sequential:
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    inputs = math.prod(image_shape)
    for number, width in enumerate(widths, 1):
        model.add_module(f"hidden{number}", nn.Linear(inputs, width))
        model.add_module(f"tanh{number}", nn.Tanh())
        inputs = width
    model.add_module("output", nn.Linear(inputs, classes))
    _glorot(model)
    return model


def gerum_cnn(image_shape: ImageShape = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Two tanh convolutions with pooling and a hidden layer of 1000 tanh units (Gerum et al. 2022, authors' code)."""
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(image_shape[0], 16, 3))
    model.add_module("tanh1", nn.Tanh())
    model.add_module("pool1", nn.MaxPool2d(2))
    model.add_module("conv2", nn.Conv2d(16, 32, 3))
    model.add_module("tanh2", nn.Tanh())
    model.add_module("pool2", nn.MaxPool2d(2, ceil_mode=min(image_shape[1:]) < _SMALLEST_FOR_5X5))
    model.add_module("flatten", nn.Flatten())
    model.add_module("hidden", nn.Linear(_features(model, image_shape), 1000))
    model.add_module("tanh3", nn.Tanh())
    model.add_module("output", nn.Linear(1000, classes))
    _glorot(model)
    return model


def schaeffer_cnn(image_shape: ImageShape = (3, 32, 32), classes: int = 10) -> nn.Sequential:
    """Two ReLU convolutions with pooling and layers of 2000 and 1000 ReLU units (Schaeffer et al. 2020, section 7.2).

    5x5 kernels without padding, as printed; images smaller than 16x16 get 3x3 kernels with padding, since 5x5 ones would
    leave nothing. Initial weights are PyTorch's defaults (the paper does not name others).
    """
    kernel, padding = (5, 0) if min(image_shape[1:]) >= _SMALLEST_FOR_5X5 else (3, 1)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(image_shape[0], 6, kernel, padding=padding))
    model.add_module("relu1", nn.ReLU())
    model.add_module("pool1", nn.MaxPool2d(2))
    model.add_module("conv2", nn.Conv2d(6, 16, kernel, padding=padding))
    model.add_module("relu2", nn.ReLU())
    model.add_module("pool2", nn.MaxPool2d(2))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc1", nn.Linear(_features(model, image_shape), 2000))
    model.add_module("relu3", nn.ReLU())
    model.add_module("fc2", nn.Linear(2000, 1000))
    model.add_module("relu4", nn.ReLU())
    model.add_module("fc3", nn.Linear(1000, classes))
    return model


class JiangNetwork(nn.Module):
    """Fully connected ReLU layers without bias, each with its own fixed Gaussian classifier (Jiang et al. 2020, Eq. (1)).

    Layer l (``layers.l`` from 0) turns its input into y = max(0, w x); its scores are J y. The forward pass returns the last
    layer's scores; ``local_scores`` returns those of all layers.

    The paper leaves the variance of J and of the initial weights open. He-normal weights keep the scale of y constant with
    depth, and a standard deviation of J of 0.3 puts layer 1 below exponent 1 with the turn of accuracy at layer 2 in trials,
    as in the paper's Fig. 5.

    Args:
        image_shape: Channels, height and width.
        classes: Number of classes.
        width: Units in each layer.
        depth: Number of layers L.
        classifier_std: Standard deviation of J.
    """

    def __init__(
        self,
        image_shape: ImageShape = (1, 28, 28),
        classes: int = 10,
        *,
        width: int = 200,
        depth: int = 8,
        classifier_std: float = 0.3,
    ) -> None:
        if width < 1 or depth < 1:
            raise ModelError(f"jiang_mlp: `width` and `depth` must be at least 1; got {width} and {depth}.")
        super().__init__()
        sizes = [math.prod(image_shape), *[width] * depth]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()) for fan_in, fan_out in pairwise(sizes)
        )
        self.classifiers = nn.ModuleList(nn.Linear(width, classes, bias=False) for _ in range(depth))
        for weight in self.layers.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        for weight in self.classifiers.parameters():
            nn.init.normal_(weight, std=classifier_std)
            weight.requires_grad_(False)

    def local_scores(self, inputs: Tensor) -> list[Tensor]:
        """Scores of every layer's own classifier, each of shape (n, classes)."""
        code, scores = inputs.flatten(1), []
        for layer, classifier in zip(self.layers, self.classifiers, strict=True):
            code = layer(code)
            scores.append(classifier(code))
        return scores

    def local_readouts(self) -> dict[str, nn.Module]:
        """Layer name -> its own classifier, which gives that layer's scores from its output."""
        return {f"layers.{number}": classifier for number, classifier in enumerate(self.classifiers)}

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of the last layer, shape (n, classes)."""
        code = inputs.flatten(1)
        for layer in self.layers:
            code = layer(code)
        scores: Tensor = self.classifiers[-1](code)
        return scores


PAPER_MODELS: dict[str, Callable[..., nn.Module]] = {
    "gerum_shallow_mlp": gerum_shallow_mlp,
    "gerum_deep_mlp": gerum_deep_mlp,
    "gerum_cnn": gerum_cnn,
    "schaeffer_cnn": schaeffer_cnn,
    "jiang_mlp": JiangNetwork,
}
