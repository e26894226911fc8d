"""Attacks on the immediate input of one layer, unclipped (Jiang et al. 2020, Eq. (3))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eigencode._arguments import check_fields, checked
from eigencode.activations import hooked, model_device, named_modules, restore_training, tensors_in
from eigencode.attacks.outputs import Loss, check_labels, input_gradient, sample_cross_entropy, scores_of, undisturbed
from eigencode.errors import AttackError
from eigencode.perturbations.noise import standard_normal
from eigencode.perturbations.specification import LossAt

_CACHE = 2**30
"""Bytes of directions kept between strengths; beyond that they are computed again."""

_LAYER_STREAM, _CALLS = 2**35, 2**16


def local_readouts(model: nn.Module) -> Mapping[str, nn.Module]:
    """Layer name -> classifier of that layer's output, for networks with a method of this name; else nothing."""
    method = getattr(model, "local_readouts", None)
    return method() if callable(method) else {}


@dataclass(frozen=True)
class LayerAttack:
    """Adds epsilon times a direction to the immediate input I of a layer, without clipping.

    Args:
        direction: "gaussian": standard normal numbers z; "fgsm": the sign of the gradient of the loss with respect to I.
        loss_at: "local": the loss of the layer's own classifier; "network": that of the network. Default: local where the
            network has ``local_readouts`` or ``readouts`` are given.
        readouts: Layer name -> module that turns the layer's output, flattened to (n, units), into scores (n, classes). Default:
            the network's own ``local_readouts()``.
        seed: Seed of Gaussian directions, which are a function of (seed, layer, image index).
        loss: Scores and labels to one loss for each image. Default: cross entropy.

    Raises:
        AttackError: an argument is out of range.

    Source: Jiang et al. 2020, Eq. (3).
    """

    direction: Literal["gaussian", "fgsm"]
    loss_at: LossAt | None = None
    readouts: Mapping[str, nn.Module] | None = None
    seed: int = 0
    loss: Loss = sample_cross_entropy

    def __post_init__(self) -> None:
        check_fields(self, AttackError)

    @property
    def name(self) -> str:
        """layer_gaussian or layer_fgsm."""
        return f"layer_{self.direction}"

    def readouts_of(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """Classifiers of single layers that count: none where the network's loss does.

        Raises:
            AttackError: the local loss was asked for, and there is no local classifier.
        """
        if self.loss_at == "network":
            return {}
        found = self.readouts if self.readouts is not None else local_readouts(model)
        if self.loss_at == "local" and not found:
            raise AttackError(
                'LayerAttack: loss_at="local" needs classifiers of single layers, and this network has none. Pass `readouts`, or '
                'loss_at="network".'
            )
        return found

    @contextmanager
    @checked(AttackError)
    def at(self, model: nn.Module, layer: str, labels: Tensor) -> Iterator[AttackedLayer]:
        """Puts the attack on one layer for the time of the block.

        Args:
            model: Any network.
            layer: Name of a module, with #k for its k-th call.
            labels: Classes of all images, shape (n,).

        Yields:
            AttackedLayer: call its ``prepare`` with each batch before the network.

        Raises:
            AttackError: no such module, or no classifier for this layer under loss_at="local".
        """
        readouts = self.readouts_of(model)
        module_name, _, call = re.sub(r"\[.*\]$", "", layer).partition("#")
        module = named_modules(model)[0].get(module_name)
        if module is None:
            name, is_input, _ = module_name.rpartition(".input")
            remedy = f"Name {name}, whose input is attacked" if is_input else "See model.named_modules()"
            raise AttackError(f"LayerAttack: the network has no module {module_name!r}. {remedy}.")
        if self.loss_at == "local" and layer not in readouts:
            raise AttackError(f"LayerAttack: layer {layer!r} has no classifier of its own; those of {', '.join(readouts)} have.")
        place = list(model.modules()).index(module)
        readout = readouts.get(layer)
        if readout is not None and model_device(readout) != model_device(model):
            raise AttackError(
                f"LayerAttack: the classifier of {layer!r} is on {model_device(readout)}, the network on {model_device(model)}. "
                "Move it there."
            )
        stream = _LAYER_STREAM + place * _CALLS + int(call or 1)
        site = AttackedLayer(self, model, int(call or 1), labels.cpu(), readout, stream)
        with ExitStack() as stack:
            stack.enter_context(hooked(model, [module_name], before=site.change_input, after=site.read_output))
            if readout is not None:
                stack.callback(restore_training, {part: part.training for part in readout.modules()})
                readout.eval()
            yield site


class AttackedLayer:
    """A layer whose input is attacked while ``epsilon`` is set and a batch is prepared.

    Attributes:
        epsilon: Strength in units of the layer's input.
        predicted: Predicted classes by the layer's own classifier, one entry for each image; -1 where none was made.
    """

    def __init__(
        self,
        attack: LayerAttack,
        model: nn.Module,
        call: int,
        labels: Tensor,
        readout: nn.Module | None,
        stream: int,
    ) -> None:
        self.epsilon = 0.0
        self.has_readout = readout is not None
        self.predicted = torch.full_like(labels, -1)
        self._attack, self._model, self._call = attack, model, call
        self._labels, self._readout, self._stream = labels, readout, stream
        self._cache: dict[int, Tensor] = {}
        self._cached_bytes = 0
        self._indices: Tensor | None = None
        self._step: Tensor | None = None
        self._leaf: Tensor | None = None
        self._output: Any = None
        self._mode: Literal["off", "capture", "attack"] = "off"

    def prepare(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Finds the direction for a batch, and returns the batch as it is; its next pass through the network is attacked."""
        self._indices = indices
        first = int(indices[0])
        step = self._cache.get(first)
        if step is None and self.epsilon:
            step = self._direction(inputs, indices)
            size = step.numel() * step.element_size()
            if self._cached_bytes + size <= _CACHE:
                self._cache[first] = step
                self._cached_bytes += size
        self._step, self._mode = step, "attack"
        return inputs

    def change_input(
        self, _name: str, call: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Adds epsilon times the direction to the input of the call that is attacked."""
        if self._mode == "off" or call != self._call:
            return None
        position = next((i for i, arg in enumerate(args) if isinstance(arg, Tensor) and arg.dtype.is_floating_point), None)
        if position is None:
            raise AttackError("LayerAttack: the layer gets no floating-point tensor that could be attacked. Name another layer.")
        source = args[position]
        if self._mode == "capture":
            self._leaf = source.detach().requires_grad_(torch.is_grad_enabled())
            changed = self._leaf.clone()  # the layer may work in place
        elif self.epsilon == 0 or self._step is None:
            return None
        else:
            changed = source + self.epsilon * self._step.to(source)
        return (*args[:position], changed, *args[position + 1 :]), kwargs

    def read_output(self, _name: str, call: int, output: Any) -> None:
        """Classifies the layer's output by its own classifier."""
        if self._mode == "off" or call != self._call:
            return
        if self._mode == "capture":
            self._output = output
            return
        self._mode = "off"
        if self._readout is not None:
            assert self._indices is not None
            self.predicted[self._indices] = self._local_scores(output).argmax(dim=1).cpu()

    def _local_scores(self, output: Any) -> Tensor:
        assert self._readout is not None
        tensor = next(tensor for _, tensor in tensors_in(output))
        try:
            scores: Tensor = self._readout(tensor.flatten(1))
        except RuntimeError as error:
            raise AttackError(
                f"LayerAttack: the layer's classifier cannot read its output of shape {tuple(tensor.shape[1:])} "
                f"({str(error).splitlines()[0]}). Pass one that takes {tensor[0].numel()} units."
            ) from None
        return scores

    def _direction(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Direction for a batch, shaped like the layer's input: float32 noise, or signs as int8."""
        gaussian = self._attack.direction == "gaussian"
        labels = self._labels[indices].to(inputs.device)
        self._mode, self._leaf = "capture", None
        with undisturbed(self._model), torch.set_grad_enabled(not gaussian):
            outputs = self._model(inputs) if gaussian or self._readout is not None else scores_of(self._model, inputs)
            self._mode = "off"
            leaf = self._captured()
            if gaussian:
                return standard_normal(indices, leaf.shape[1:], seed=self._attack.seed, stream=self._stream, like=leaf)
            if self._readout is not None:
                outputs = self._local_scores(self._output)
            check_labels(labels, outputs)
            gradient = input_gradient(self._attack.loss(outputs, labels), leaf)
        self._leaf = self._output = None
        return gradient.sign().to(torch.int8)

    def _captured(self) -> Tensor:
        if self._leaf is None:
            raise AttackError(f"LayerAttack: the layer was not called {self._call} times. Name another layer or call.")
        return self._leaf
