"""The network's side of an attack: its scores, the gradient at its input, and its state, which is left as it was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eigencode._arithmetic import exact_arithmetic
from eigencode._inputs import given_to
from eigencode._running import cannot_run, does_not_fit, has_no_gradient
from eigencode.activations import model_device, restore_training
from eigencode.datasets.images import UNLABELLED
from eigencode.errors import AttackError
from eigencode.perturbations.specification import AttackLoss, Norm

Loss = Callable[[Tensor, Tensor], Tensor]
"""Scores (n, classes) and labels (n,) to one loss for each image (n,)."""

_INSIDE: ContextVar[bool] = ContextVar("undisturbed", default=False)

_SUM_TOLERANCE = 1e-3
"""Rows of probabilities add up to 1 within this, also in half precision."""


def sample_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each image, shape (n,): the loss of all three papers."""
    return cross_entropy(scores, labels, reduction="none")


def sample_margin(scores: Tensor, labels: Tensor) -> Tensor:
    """How far the largest of the other scores lies above that of the class, shape (n,): above 0 where it is misclassified.

    Source: Carlini and Wagner 2017, their f6. Its gradient does not vanish where the network is sure of the class.
    """
    own = scores.gather(1, labels[:, None])
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own[:, 0]


LOSSES: dict[AttackLoss, Loss] = {"cross_entropy": sample_cross_entropy, "margin": sample_margin}
"""By the names of the command line."""

_MANY, _NEAR_THE_END = 100, 0.95
"""Scores, and the size of the largest, from which on they are taken for squashed ones."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and full float32; on leaving, also by an exception, all modes and the random state are as before."""
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        if not _INSIDE.get():  # inside another block draws go on, so that no draw is seen twice
            stack.enter_context(exact_arithmetic(model_device(model)))
            stack.callback(_INSIDE.reset, _INSIDE.set(True))
        stack.enter_context(torch.inference_mode(False))
        stack.callback(restore_training, modes)
        model.eval()
        yield


def input_gradient(losses: Tensor, source: Tensor) -> Tensor:
    """Gradient of the summed losses with respect to an input; zero where the network cuts the way back.

    Raises:
        AttackError: there is not one loss for each image.
    """
    if losses.shape != source.shape[:1]:
        raise AttackError(
            f"attack: `loss` must return one loss for each image, shape ({len(source)},); got {tuple(losses.shape)}. "
            'Use reduction="none".'
        )
    if not losses.requires_grad:
        return torch.zeros_like(source)
    try:
        (gradient,) = torch.autograd.grad(losses.sum(), source, allow_unused=True)
    except RuntimeError as error:
        if not has_no_gradient(error):
            raise
        reason = str(error).splitlines()[0]
        raise AttackError(f"attack: no gradient can be followed through this network ({reason}).") from None
    return torch.zeros_like(source) if gradient is None else gradient


def scores_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """The network's scores, shape (n, classes).

    Raises:
        AttackError: the network cannot run on these inputs, or its output is not a matrix of floating-point scores, one row
            for each image.
    """
    try:
        scores = model(given_to(model, inputs))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        if not (does_not_fit(error) or has_no_gradient(error) or isinstance(error, TypeError)):
            raise
        raise AttackError(cannot_run(model, inputs, error)) from error
    if not isinstance(scores, Tensor):
        raise AttackError(
            f"The network must return one tensor of scores (n, classes); got {type(scores).__name__}. "
            "Wrap it in a module that returns the scores alone."
        )
    if scores.ndim != 2 or len(scores) != len(inputs) or not scores.dtype.is_floating_point:
        raise AttackError(
            f"The network must return scores of shape (n, classes); got {tuple(scores.shape)} for {len(inputs)} images. "
            "Wrap it in a module that returns such scores."
        )
    if scores.shape[1] == 1:
        raise AttackError(
            "The network returns one score for each image, and an attack needs one for each class. Wrap it in a module that "
            "returns torch.cat([-y, y], dim=1)."
        )
    return scores.to(inputs.dtype)


def check_labels(labels: Tensor, scores: Tensor) -> None:
    """Refuses labels that the network has no score for.

    Raises:
        AttackError: the first such label.
    """
    wrong = (labels < 0) | (labels >= scores.shape[1])
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise AttackError(
            f"attack: `labels` must lie in 0..{scores.shape[1] - 1}, the network's classes; got {int(labels[first])} at image "
            f"{first}. Correct the labels or use a network with these classes."
        )


def are_probabilities(scores: Tensor) -> bool:
    """Whether the scores look like the output of a softmax: none negative, every row adding up to 1."""
    if scores.shape[1] < 2:
        return False
    with torch.no_grad():
        return bool((scores >= 0).all()) and bool(((scores.sum(dim=1) - 1).abs() < _SUM_TOLERANCE).all())


def are_squashed(scores: Tensor) -> bool:
    """Whether many scores look like outputs of a sigmoid (between 0 and 1) or a tanh (between -1 and 1, some near the ends)."""
    low, high = (float(end) for end in scores.detach().aminmax())
    within = (low >= 0 and 0.5 < high <= 1) or (-1 <= low and high <= 1 and max(-low, high) > _NEAR_THE_END)
    return within and scores.numel() >= _MANY and not are_probabilities(scores)


def predictions(model: nn.Module, inputs: Tensor, *, batch_size: int) -> Tensor:
    """Predicted classes, shape (n,), on the CPU; inputs are moved to the model's device batch by batch."""
    device = model_device(model)
    with torch.no_grad():
        found = [scores_of(model, batch.to(device)).argmax(dim=1).cpu() for batch in inputs.split(batch_size)]
    return torch.cat(found)


@dataclass(frozen=True, eq=False)
class Target:
    """A network, and the images that it is shown, so many at once.

    Attributes:
        model: Network that returns logits (n, classes).
        inputs: Images, shape (n, ...).
        labels: Their classes, or those that an attack is to reach, shape (n,).
        indices: Their numbers, on which random draws depend, shape (n,).
        batch_size: Images shown at once.
    """

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    indices: Tensor
    batch_size: int

    def __len__(self) -> int:
        """Number of images."""
        return len(self.inputs)

    def only(self, chosen: Tensor | slice) -> Target:
        """The same network with some of the images."""
        return replace(self, inputs=self.inputs[chosen], labels=self.labels[chosen], indices=self.indices[chosen])

    def hit(self, inputs: Tensor) -> Tensor:
        """Whether inputs shown in place of the images are classified as these are labelled, shape (n,)."""
        return predictions(self.model, inputs, batch_size=self.batch_size) == self.labels


def largest_budget(norm: Norm, bounds: tuple[float, float], size: int) -> float:
    """Largest distance between two images inside the bounds."""
    return (bounds[1] - bounds[0]) * (1.0 if norm == "linf" else math.sqrt(size))


def check_batch(inputs: Tensor, labels: Tensor, epsilon: float, norm: Norm, bounds: tuple[float, float], *, name: str) -> None:
    """Refuses what cannot be attacked.

    Raises:
        AttackError: images that are not floating point, not finite or outside the bounds; labels that are missing or of another
            shape; a budget below zero or above the distance between two images.
    """
    low, high = bounds
    if isinstance(inputs, Tensor) and inputs.ndim == 0:
        raise AttackError(f"{name}: images must have shape (n, ...); got a single number.")
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise AttackError(f"{name}: images and labels must be tensors; got {type(inputs).__name__} and {type(labels).__name__}.")
    if inputs.dtype not in (torch.float32, torch.float64):
        whole = not inputs.is_floating_point()
        remedy = "Divide pixels by 255; ids of tokens cannot be changed a little" if whole else "Convert them"
        raise AttackError(f"{name}: images must be float32 or float64; got {str(inputs.dtype).removeprefix('torch.')}. {remedy}.")
    largest = largest_budget(norm, bounds, inputs[:1].numel())
    if not 0 <= epsilon <= largest * (1 + 1e-6):
        raise AttackError(
            f"{name}: `epsilon` must lie in 0..{largest:g}, the distance between two images in {norm} within bounds "
            f"{low:g}..{high:g}; got {epsilon:g}. It is in input units: write 8/255, not 8."
        )
    if labels.shape != inputs.shape[:1] or labels.dtype != torch.int64:
        raise AttackError(
            f"{name}: `labels` must be int64 of shape ({len(inputs)},); got {str(labels.dtype).removeprefix('torch.')} of shape "
            f"{tuple(labels.shape)}. Pass one class for each image."
        )
    if len(inputs) == 0:
        return
    if (labels == UNLABELLED).any():
        raise AttackError(
            f"{name}: an attack needs labels, and {int((labels == UNLABELLED).sum())} of them are missing. Add them."
        )
    smallest, greatest = (float(value) for value in inputs.aminmax())
    if math.isnan(smallest) or math.isinf(smallest) or math.isinf(greatest):
        bad = int((~inputs.isfinite()).flatten(1).any(dim=1).nonzero()[0])
        raise AttackError(f"{name}: images must be finite; image {bad} has NaN or infinite values. Replace them.")
    if smallest < low or greatest > high:
        raise AttackError(
            f"{name}: images must lie within bounds {low:g}..{high:g}; got values from {smallest:.4g} to {greatest:.4g}. "
            "Scale them, put their normalisation into the model (eigencode.models.normalize_inputs), or pass other bounds."
        )
