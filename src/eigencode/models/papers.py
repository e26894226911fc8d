"""The networks of the three papers, with the initial weights their authors used where these are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from eigencode._arguments import checked
from eigencode._running import does_not_fit
from eigencode.errors import ModelError

ImageShape = tuple[int, int, int]

_MOST_WEIGHTS = 10**9

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
    try:
        with torch.no_grad():
            return int(layers(torch.zeros(1, *image_shape)).flatten(1).shape[1])
    except RuntimeError as error:
        if not does_not_fit(error):
            raise
        channels, height, width = image_shape
        raise ModelError(
            f"Images of {channels} channels, {height} high and {width} wide are too small for this network: its convolutions "
            "leave nothing of them. Use larger images; channels come first."
        ) from None


@checked(ModelError)
def gerum_shallow_mlp(image_shape: ImageShape = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """One hidden layer of 2000 tanh units (Gerum et al. 2022, section 3.1)."""
    return _gerum_mlp(image_shape, (2000,), classes)


@checked(ModelError)
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


@checked(ModelError)
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


class _Normalised(nn.Module):
    """(x - mean) / std."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


@checked(ModelError)
def schaeffer_cnn(
    image_shape: ImageShape = (3, 32, 32), classes: int = 10, *, input_mean: float = 0.0, input_std: float = 1.0
) -> nn.Sequential:
    """Two ReLU convolutions with pooling and layers of 2000 and 1000 ReLU units (Schaeffer et al. 2020, section 7.2).

    5x5 kernels without padding, as printed; images smaller than 16x16 get 3x3 kernels with padding, since 5x5 ones would
    leave nothing. Initial weights are PyTorch's defaults (the paper does not name others).

    Args:
        image_shape: Channels, height and width.
        classes: Number of classes.
        input_mean: Number that is taken from all pixels first.
        input_std: Number by which they are divided then. The tutorial that the network is adapted from has 0.5 for both.

    Raises:
        ModelError: images that are too small, or an ``input_std`` that is not positive.
    """
    if not input_std > 0:
        raise ModelError(f"schaeffer_cnn: `input_std` must be positive; got {input_std}.")
    kernel, padding = (5, 0) if min(image_shape[1:]) >= _SMALLEST_FOR_5X5 else (3, 1)
    model = nn.Sequential()
    if (input_mean, input_std) != (0, 1):
        model.add_module("normalised", _Normalised(input_mean, input_std))
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

    The paper leaves the variance of J and of the initial weights open: both are options. ``docs/reproductions/jiang2020.md``
    shows how much depends on them.

    Args:
        image_shape: Channels, height and width.
        classes: Number of classes.
        width: Units in each layer.
        depth: Number of layers L.
        classifier_std: Standard deviation of J.
        initial_gain: Standard deviation of the initial weights, in units of 1/sqrt(inputs of the layer). The square root of 2
            (He et al. 2015) keeps the scale of y constant with depth; 0.577 is that of PyTorch's own linear layers.
    """

    @checked(ModelError)
    def __init__(
        self,
        image_shape: ImageShape = (1, 28, 28),
        classes: int = 10,
        *,
        width: int = 200,
        depth: int = 8,
        classifier_std: float = 0.3,
        initial_gain: float = math.sqrt(2),
    ) -> None:
        if width < 1 or depth < 1:
            raise ModelError(f"jiang_mlp: `width` and `depth` must be at least 1; got {width} and {depth}.")
        if (count := width * (math.prod(image_shape) + (depth - 1) * width + depth * classes)) > _MOST_WEIGHTS:
            raise ModelError(f"jiang_mlp: {depth} layers of {width} units have {count} weights; {_MOST_WEIGHTS} at most.")
        if classifier_std < 0 or initial_gain < 0:
            raise ModelError(
                f"jiang_mlp: `classifier_std` and `initial_gain` must be at least 0; got {classifier_std} and {initial_gain}."
            )
        super().__init__()
        sizes = [math.prod(image_shape), *[width] * depth]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()) for fan_in, fan_out in pairwise(sizes)
        )
        self.classifiers = nn.ModuleList(nn.Linear(width, classes, bias=False) for _ in range(depth))
        for weight in self.layers.parameters():
            nn.init.normal_(weight, std=initial_gain / math.sqrt(weight.shape[1]))
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


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = _EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != wide:
            self.shortcut.extend([nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)])

    def forward(self, inputs: Tensor) -> Tensor:
        code = self.relu1(self.bn1(self.conv1(inputs)))
        code = self.relu2(self.bn2(self.conv2(code)))
        summed: Tensor = self.relu3(self.bn3(self.conv3(code)) + self.shortcut(inputs))
        return summed


_EXPANSION = 4


class CifarResNet50(nn.Module):
    """ResNet-50 for small images: a 3x3 first convolution, no first pooling, normalisation of [0, 1] images inside.

    Its parameters are named as in the releases of the Robustness library, whose files ``load_weights`` reads.

    Args:
        image_shape: Channels, height and width.
        classes: Number of classes.
    """

    mean: Tensor
    std: Tensor

    @checked(ModelError)
    def __init__(self, image_shape: ImageShape = (3, 32, 32), classes: int = 10) -> None:
        super().__init__()
        channels = 64
        self.conv1, self.bn1 = nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        for number, blocks in enumerate((3, 4, 6, 3), 1):
            width, layer = 32 * 2**number, nn.Sequential()
            for block in range(blocks):
                layer.append(_Bottleneck(channels, width, 2 if number > 1 and not block else 1))
                channels = _EXPANSION * width
            self.add_module(f"layer{number}", layer)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.linear = nn.Linear(channels, classes)
        coloured = image_shape[0] == len(_CIFAR_MEAN)
        for name, values in (("mean", _CIFAR_MEAN), ("std", _CIFAR_STD)):
            own = values if coloured else (sum(values) / len(values),)
            self.register_buffer(name, torch.tensor(own).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores, shape (n, classes)."""
        code = self.relu(self.bn1(self.conv1((inputs - self.mean) / self.std)))
        for number in range(1, 5):
            code = self.get_submodule(f"layer{number}")(code)
        scores: Tensor = self.linear(self.flatten(self.pool(code)))
        return scores


_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""Of CIFAR-10's channels, as the Robustness library has them."""

PAPER_MODELS: dict[str, Callable[..., nn.Module]] = {
    "gerum_shallow_mlp": gerum_shallow_mlp,
    "gerum_deep_mlp": gerum_deep_mlp,
    "gerum_cnn": gerum_cnn,
    "schaeffer_cnn": schaeffer_cnn,
    "cifar_resnet50": CifarResNet50,
    "jiang_mlp": JiangNetwork,
}
