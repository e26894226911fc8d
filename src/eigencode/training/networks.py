"""One network, or K networks of one architecture as stacked tensors: both are members side by side to everything above."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, stack_module_state, vmap

from eigencode.activations import Site, captured, model_device, restore_training, trace
from eigencode.errors import TrainingError
from eigencode.penalties.gradients import as_member

Codes = dict[str, Tensor]
"""Layer name to outputs, shape (members, n, ...)."""

_RANDOM = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU)
"""Modules that draw random numbers in training: stacked, a member's draws would depend on the others."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

_MEMORY_SHARE = 0.1
"""Of a GPU's memory, for what back-propagation keeps of images that are run at once."""


class Members(Protocol):
    """Networks that are trained side by side.

    Attributes:
        count: Number of members K.
        leaves: Tensors that gradients reach, in a fixed order; shape (K, ...) where stacked.
        parameters: For each member its parameters, sharing memory with the leaves, for an optimiser to move.
    """

    count: int
    leaves: list[Tensor]
    parameters: list[list[nn.Parameter]]

    def forward(self, inputs: Tensor, layers: Sequence[str] = ()) -> tuple[Tensor, Codes]:
        """Scores (K, n, classes) of inputs (K, n, ...), and the outputs of layers (K, n, ...)."""
        ...

    def assign_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Hands each member's parameters their part of the leaves' gradients."""
        ...

    def train(self, mode: bool) -> None:
        """Training or evaluation mode of all modules."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers, as they are held."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts back what ``state`` gave."""
        ...

    def member(self, number: int) -> nn.Module:
        """A network of its own with the present weights of a member."""
        ...

    def flattened(self) -> nn.Module:
        """A module from inputs (K n, ...), member after member, to scores (K n, classes)."""
        ...


def _captured(model: nn.Module, sites: Sequence[Site], found: Codes) -> AbstractContextManager[None]:
    """Puts the outputs of layers, as autograd sees them, into ``found`` while the model runs."""
    changing = any(getattr(module, "inplace", False) for module in model.modules())  # which may overwrite an output

    def keep(name: str, output: Tensor) -> None:
        found[name] = output.clone() if changing else output

    return captured(model, sites, keep)


class Single:
    """One network, used as it is: any module will do.

    Args:
        model: Network, changed by training.
        sample: A small batch (n, ...) on the model's device, to find out which modules are called.
    """

    def __init__(self, model: nn.Module, sample: Tensor) -> None:
        self.count, self._model = 1, model
        self._sites = trace(model, sample, head=False).sites
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trainable:  # fused optimisers read weights, gradients and moments flat
            parameter.data = parameter.data.contiguous()
        self.leaves: list[Tensor] = list(trainable)
        self.parameters = [trainable]

    def forward(self, inputs: Tensor, layers: Sequence[str] = ()) -> tuple[Tensor, Codes]:
        """See ``Members``."""
        found: Codes = {}
        with _captured(self._model, [self._sites[name] for name in layers], found):
            scores = self._model(inputs[0])
        return scores[None], {name: as_member(found[name]) for name in layers if name in found}

    def assign_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """See ``Members``."""
        for parameter, gradient in zip(self.parameters[0], gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.contiguous()

    def train(self, mode: bool) -> None:
        """See ``Members``."""
        self._model.train(mode)

    def state(self) -> dict[str, Tensor]:
        """See ``Members``."""
        return {name: value.detach() for name, value in self._model.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See ``Members``."""
        self._model.load_state_dict(state)

    def member(self, number: int) -> nn.Module:
        """See ``Members``."""
        del number
        return self._model

    def flattened(self) -> nn.Module:
        """See ``Members``."""
        return self._model


class Stacked:
    """K networks of one architecture as stacked tensors, run by torch.func.

    Args:
        models: Networks with the same modules; they are copied, not changed.
        sample: A small batch (n, ...) on their device.

    Attributes:
        in_turn: Run the members one after the other: on GPUs stacked convolutions are grouped ones, far slower than plain ones.

    Raises:
        TrainingError: modules that draw random numbers, which would make a member depend on the others, or unlike architectures.
    """

    def __init__(self, models: Sequence[nn.Module], sample: Tensor) -> None:
        random = _random_modules(models[0])
        if random:
            raise TrainingError(
                f"Networks with random modules ({random[0]}) cannot be stacked, since each member must be a function "
                "of its own seed alone. Train them one by one."
            )
        self.count = len(models)
        self._base = copy.deepcopy(models[0])
        self._sites = trace(models[0], sample, head=False).sites
        convolves = any(isinstance(module, _CONVOLUTIONS) for module in self._base.modules())
        self.in_turn = sample.is_cuda and convolves
        try:
            stacked, self._buffers = stack_module_state(list(models))
        except (RuntimeError, KeyError) as error:
            raise TrainingError(f"Only networks of one architecture can be stacked ({str(error).splitlines()[0]}).") from None
        self._stacked = {name: value.detach() for name, value in stacked.items()}
        trainable = {name for name, parameter in models[0].named_parameters() if parameter.requires_grad}
        self._trainable = [name for name in self._stacked if name in trainable]
        for name in self._trainable:
            self._stacked[name].requires_grad_(True)
        self.leaves: list[Tensor] = [self._stacked[name] for name in self._trainable]
        self.parameters = [[nn.Parameter(leaf.detach()[number]) for leaf in self.leaves] for number in range(self.count)]

    def forward(self, inputs: Tensor, layers: Sequence[str] = ()) -> tuple[Tensor, Codes]:
        """See ``Members``."""

        def one(weights: Codes, buffers: Codes, batch: Tensor) -> tuple[Tensor, Codes]:
            found: Codes = {}
            with _captured(self._base, [self._sites[name] for name in layers], found):
                scores = functional_call(self._base, (weights, buffers), (batch,))
            return scores, {name: found[name] for name in layers if name in found}

        if self.in_turn:
            return self._forward_in_turn(one, inputs)
        result: tuple[Tensor, Codes] = vmap(one)(self._stacked, self._buffers, inputs)
        return result

    def _forward_in_turn(self, one: Callable[..., tuple[Tensor, Codes]], inputs: Tensor) -> tuple[Tensor, Codes]:
        """Members as stacks of one, with all that a stack refuses."""
        weights, buffers = ({name: value.split(1) for name, value in values.items()} for values in (self._stacked, self._buffers))
        found = []
        for number, batch in enumerate(inputs.split(1)):
            own = ({name: parts[number] for name, parts in values.items()} for values in (weights, buffers))
            found.append(vmap(one)(*own, batch))
        scores, codes = zip(*found, strict=True)
        return torch.cat(scores), {name: torch.cat([each[name] for each in codes]) for name in codes[0]}

    def assign_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """See ``Members``."""
        for number, parameters in enumerate(self.parameters):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else gradient[number].contiguous()

    def train(self, mode: bool) -> None:
        """See ``Members``."""
        self._base.train(mode)

    def state(self) -> dict[str, Tensor]:
        """See ``Members``."""
        return {name: value.detach() for name, value in (self._stacked | self._buffers).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See ``Members``."""
        with torch.no_grad():
            for name, value in (self._stacked | self._buffers).items():
                value.copy_(state[name])

    def member(self, number: int) -> nn.Module:
        """See ``Members``."""
        model, state = copy.deepcopy(self._base), self.state()
        with torch.no_grad():
            for name, own in itertools.chain(model.named_parameters(), model.named_buffers()):
                own.copy_(state[name][number])
        return model

    def flattened(self) -> nn.Module:
        """See ``Members``."""
        return _Flattened(self)


def _random_modules(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _RANDOM)]


def stackable(model: nn.Module) -> bool:
    """Whether copies of a network may be trained as one stack: it draws no random numbers."""
    return not _random_modules(model)


class _Flattened(nn.Module):
    """All members as one network over inputs (K n, ...), for attacks, which see independent images."""

    def __init__(self, members: Stacked) -> None:
        super().__init__()
        self._members = members
        self._base = members._base
        self.register_buffer("_device", torch.empty(0, device=members.leaves[0].device), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        grouped = inputs.unflatten(0, (self._members.count, -1))
        return self._members.forward(grouped)[0].flatten(0, 1)


def members_of(models: Sequence[nn.Module], sample: Tensor) -> Members:
    """One network as it is, several as a stack.

    Args:
        models: Networks of one architecture.
        sample: A small batch of inputs.

    Returns:
        Members.

    Raises:
        TrainingError: no networks, on different devices, or networks that cannot be stacked.
    """
    if not models:
        raise TrainingError("There are no networks to train. Pass at least one.")
    if len({model_device(model) for model in models}) > 1:
        raise TrainingError("All networks of an ensemble must be on one device. Move them with .to(device).")
    return Single(models[0], sample) if len(models) == 1 else Stacked(models, sample)


def bytes_kept(model: nn.Module, image: Tensor) -> int:
    """Bytes that back-propagation to weights and input keeps for one image (1, ...), in evaluation mode."""
    storages: dict[int, torch.UntypedStorage] = {}
    modes = {module: module.training for module in model.modules()}

    def keep(saved: Tensor) -> Tensor:
        storages[saved.untyped_storage().data_ptr()] = saved.untyped_storage()
        return saved

    own = image.detach().clone()  # not a view of all images
    try:
        model.eval()
        with torch.enable_grad(), saved_tensors_hooks(keep, lambda saved: saved):
            model(own.requires_grad_() if own.is_floating_point() else own)
    finally:
        restore_training(modes)
    held = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    return sum(storage.nbytes() for place, storage in storages.items() if place not in held)


def images_at_once(model: nn.Module, image: Tensor, *, members: int) -> int:
    """Images of each of so many networks that a GPU has ample room for, where image (1, ...) is."""
    _, whole = torch.cuda.mem_get_info(image.device)
    return max(1, int(_MEMORY_SHARE * whole / (members * max(1, bytes_kept(model, image)))))


@contextmanager
def evaluating(members: Members) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode is restored afterwards."""
    base = members.flattened()
    modes = {module: module.training for module in base.modules()}
    try:
        members.train(False)
        with torch.no_grad():
            yield
    finally:
        restore_training(modes)
