"""What a network is given: one tensor, or arguments by position and by name, all with a row for each input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from eigencode._arrays import shared
from eigencode.errors import DataError

LABELS = ("labels", "label", "targets", "target")
"""Names of what a batch holds beside the inputs."""

_MAIN = ("input_ids", "inputs_embeds", "pixel_values", "input_values", "input_features", "inputs", "x")
"""Names of arguments that have a row for each input whatever the others have."""

_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Inputs:
    """Arguments of a network's forward method.

    Attributes:
        args: By position.
        kwargs: By name.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Tensor | Mapping[str, Any] | Inputs) -> Inputs:
        """One tensor as the only argument, or a mapping of arguments by name."""
        if isinstance(given, Inputs):
            return given
        return cls((), dict(given)) if isinstance(given, Mapping) else cls((given,))

    @property
    def main(self) -> Tensor:
        """The tensor that has a row for each input."""
        named = [self.kwargs[name] for name in _MAIN if name in self.kwargs]
        found = next(
            (each for each in (*self.args, *named, *self.kwargs.values()) if isinstance(each, Tensor) and each.ndim), None
        )
        if found is None:
            raise DataError("measure: a batch must hold a tensor with a row for each input; got none. Pass tensors.")
        return found

    @property
    def is_tensor(self) -> bool:
        """Whether it is one tensor alone."""
        return len(self.args) == 1 and not self.kwargs

    def __len__(self) -> int:
        return len(self.main)

    def map(self, function: Callable[[Tensor], Tensor], *, rows_only: bool = False) -> Inputs:
        """The same with all tensors changed, or those alone that have a row for each input."""
        count = len(self)

        def changed(value: Any) -> Any:
            is_row = isinstance(value, Tensor) and (not rows_only or (value.ndim > 0 and len(value) == count))
            return function(value) if is_row else value

        return Inputs(tuple(map(changed, self.args)), {name: changed(value) for name, value in self.kwargs.items()})

    def rows(self, chosen: Tensor | slice) -> Inputs:
        """Some of the inputs."""
        return self.map(lambda tensor: tensor[chosen], rows_only=True)

    def to(self, device: torch.device) -> Inputs:
        """The same on a device; no copies of what is there."""
        return self.map(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class Arguments:
    """What a network's forward method takes.

    Attributes:
        names: Names of its arguments.
        order: Those that it takes by position, in order.
        required: How many of these it has no default for.
        needed: Names that it has no default for.
        others: Whether it takes other names too.
        variadic: Whether it takes any number of arguments by position.
    """

    names: frozenset[str]
    order: tuple[str, ...]
    required: int
    needed: frozenset[str]
    others: bool
    variadic: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> Arguments:
        """Those of a network, which no wrapper hides."""
        try:
            parameters = inspect.signature(model.forward).parameters.values()
        except (TypeError, ValueError):  # of code that is not Python's own
            return cls(frozenset(), (), 1, frozenset(), True)
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        order = tuple(each.name for each in named if each.kind is not each.KEYWORD_ONLY)
        needed = frozenset(each.name for each in named if each.default is each.empty)
        others = any(each.kind is each.VAR_KEYWORD for each in parameters)
        variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        return cls(frozenset(each.name for each in named), order, len(needed & set(order)), needed, others, variadic)


def split_batch(batch: Any, takes: Arguments) -> tuple[Inputs, Any]:
    """What of a batch the network gets, and its labels if it has any.

    A mapping gives arguments by name, without labels that the network does not ask for. Of a tuple or list, the network gets
    the first part, or as many as its forward method requires; the next are labels. A first part that is a mapping or a tuple
    itself holds all arguments.

    Args:
        batch: Tensor, array, tuple, list or mapping of these.
        takes: What the network takes.

    Raises:
        DataError: nothing in it can be what the network takes.
    """
    if isinstance(batch, Mapping):
        return _by_name(batch, takes)
    if packed := next((each for each in _parts(batch) if isinstance(each, PackedSequence)), None):
        raise DataError(
            f"measure: a {type(packed).__name__} has no row for each input. Pass padded tensors with their lengths, and pack "
            "them inside the network."
        )
    if not isinstance(batch, (tuple, list)):
        return Inputs((as_tensor(batch),)), None
    if not batch:
        raise DataError("measure: a batch must hold inputs; got an empty one. Leave it out.")
    first, rest = batch[0], batch[1:]
    if isinstance(first, Mapping):
        inputs, labels = _by_name(first, takes)
        return inputs, rest[0] if rest else labels
    if isinstance(first, (tuple, list)) and not all(isinstance(each, (int, float)) for each in first):
        return Inputs(tuple(map(as_tensor, first))), rest[0] if rest else None
    if takes.variadic and not takes.order and any(_is_branch(each) for each in rest):
        raise DataError(
            "measure: the network takes any number of arguments, and which parts of a batch it should get cannot be known. Pass "
            "them as a tuple in a tuple, ((first, second),)."
        )
    count = max(1, min(takes.required, len(batch)))
    return Inputs(tuple(map(as_tensor, batch[:count]))), batch[count] if len(batch) > count else None


def _by_name(batch: Mapping[str, Any], takes: Arguments) -> tuple[Inputs, Any]:
    tensors = {str(name): as_tensor(value) for name, value in batch.items() if isinstance(value, (Tensor, np.ndarray))}
    labels = next((tensors[name] for name in LABELS if name in tensors), None)
    given = {name: tensor for name, tensor in tensors.items() if name not in LABELS or name in takes.needed}
    settings = {
        str(name): value
        for name, value in batch.items()
        if str(name) not in tensors and (str(name) in takes.names or (takes.others and not isinstance(value, list)))
    }
    for name, value in settings.items():
        if not (value is None or isinstance(value, (bool, int, float, complex, str))):
            raise DataError(
                f"measure: `{name}` must be a tensor, an array, a number or a text; got {type(value).__name__}. Convert it with "
                "torch.tensor, or leave it out."
            )
    if takes.others and not takes.names:
        return Inputs((), given | settings), labels
    known = {name: tensor for name, tensor in given.items() if name in takes.names or takes.others}
    if set(known) & takes.names:
        if unknown := [name for name in given if name not in known]:
            raise DataError(
                f"measure: the network takes no argument {unknown[0]!r}, which the batches hold; it takes "
                f"{', '.join(sorted(takes.names))}. Leave it out of the batches, or rename it."
            )
        return Inputs((), known | settings), labels
    floating = [tensor for tensor in given.values() if tensor.is_floating_point()]
    alone = floating if len(floating) == 1 else list(given.values())
    if len(alone) != 1:
        raise DataError(
            f"measure: a batch must hold arguments of the network by their names ({', '.join(sorted(takes.names)) or 'any'}), or "
            f"one tensor of inputs; got {', '.join(map(str, batch)) or 'nothing'}. Rename them."
        )
    return Inputs((alone[0],)), labels


def _is_branch(part: Any) -> bool:
    """Whether a part of a batch looks like inputs, and not like labels."""
    is_floating = part.is_floating_point() if isinstance(part, Tensor) else getattr(part, "dtype", np.dtype("i8")).kind == "f"
    return is_floating and part.ndim > 1


def _parts(batch: Any) -> tuple[Any, ...]:
    """A batch itself and, if it is a tuple or list, what it holds."""
    return (batch, *batch) if isinstance(batch, (tuple, list)) else (batch,)


def as_tensor(values: Any) -> Tensor:
    """Numbers that come in a batch as a tensor.

    Raises:
        DataError: they are no numbers.
    """
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufc":
        return shared(values)
    kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
    remedy = "Convert them to tensors"
    if kind in ("int", "list"):
        remedy = "Pad texts to one length, with an attention_mask"
    elif hasattr(values, "getbands"):  # a picture of Pillow
        remedy = "Add transforms.ToTensor()"
    raise DataError(f"measure: batches must hold tensors of inputs; got {kind}. {remedy}.")


def given_to(model: nn.Module | Callable[..., Any], inputs: Tensor) -> Tensor:
    """Inputs as a network takes them: a copy, since it may work in place, of the type of its weights if they all have one."""
    if not inputs.is_floating_point():
        return inputs.clone()
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    kinds = {weights.dtype for weights in parameters if weights.is_floating_point()} or {inputs.dtype}
    kind = kinds.pop() if len(kinds) == 1 else inputs.dtype
    return inputs.to(kind, copy=True) if kind in _PLAIN else inputs.clone()


def run(model: nn.Module, inputs: Tensor | Inputs) -> Any:
    """What a network gives for inputs, of which it gets copies."""
    given = Inputs.of(inputs).map(lambda tensor: given_to(model, tensor))
    return model(*given.args, **given.kwargs)
