"""One loop for all gradient attacks: FGSM is its first step, PGD goes on; the norm is a seam (see ``geometry``)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eigencode._arguments import check_fields, checked
from eigencode.attacks.geometry import Ball, per_image, steepest
from eigencode.attacks.outputs import (
    Loss,
    are_probabilities,
    are_squashed,
    check_batch,
    check_labels,
    input_gradient,
    sample_cross_entropy,
    scores_of,
    undisturbed,
)
from eigencode.attacks.reliability import FLAGS, Attacked, gradient_flags
from eigencode.errors import AttackError, ReliabilityWarning
from eigencode.perturbations.specification import Direction, GradientSteps, Keep, Norm, Start, conflict, step_length


@dataclass(frozen=True, kw_only=True)
class PGD(GradientSteps):
    """Projected gradient descent (Madry et al. 2018; Gerum et al. 2022, Eq. (8)).

    x <- x + step * direction, moved to the nearest point within epsilon of the original, then cut to the bounds. Its steps are
    those of ``GradientSteps`` (norm, steps, step_size, relative_step, direction, start, restarts, keep), given by name.

    Args:
        targeted: Labels are targets, to be reached.
        stop_early: Leave an image as it is as soon as it is misclassified (or reaches its target); costs shrink with the
            images left.
        bounds: Lowest and highest value of an image.
        seed: Seed of random starts.
        loss: Scores (n, classes) and labels (n,) to one loss for each image (n,). Default: cross entropy; ``sample_margin`` is
            another.

    Raises:
        AttackError: an argument is out of range.
    """

    targeted: bool = False
    stop_early: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    loss: Loss = sample_cross_entropy

    name = "pgd"

    def __post_init__(self) -> None:
        check_fields(self, AttackError, owner=self.name)
        if wrong := conflict(self):
            raise AttackError(f"{self.name}: {wrong}")
        if not self.bounds[0] < self.bounds[1]:
            raise AttackError(f"{self.name}: `bounds` must be (lowest, highest); got {self.bounds}.")

    @checked(AttackError)
    def step(self, epsilon: float) -> float:
        """Length of a step for a budget, in input units."""
        return step_length(self.norm, epsilon, self.steps, self.step_size, relative=self.relative_step)

    @checked(AttackError)
    def __call__(
        self,
        model: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        *,
        epsilon: float,
        indices: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> Attacked:
        """Attacks a batch; the model's modes, its gradients and the random state are left as found.

        Args:
            model: Network that returns logits (n, classes).
            inputs: Images inside the bounds, float32 or float64, on the model's device.
            labels: Classes, or targets, shape (n,).
            epsilon: Budget in input units.
            indices: The images' indices, on which random starts depend. Default: 0..n-1.
            warm_start: Images within the budget to start from, in place of ``start``.

        Returns:
            Attacked.

        Raises:
            AttackError: budget, images, labels or the network's output are not as they must be.
        """
        check_batch(inputs, labels, epsilon, self.norm, self.bounds, name=self.name)
        if len(inputs) == 0:
            return Attacked(inputs.clone())
        indices = torch.arange(len(inputs)) if indices is None else indices
        inputs = inputs.detach()
        ball = Ball(inputs, epsilon, self.norm, self.bounds)
        climb = Ascent(self, model, epsilon)
        chosen: tuple[Tensor, _Harm] | None = None
        images = inputs
        with undisturbed(model):
            labels = labels.clone()  # of inference mode, perhaps, which could not be differentiated
            for restart in range(self.restarts):
                if restart == 0 and warm_start is not None:
                    start = ball.project_(warm_start.clone())
                elif self.start == "random" and epsilon > 0:
                    start = ball.random_start(indices, seed=self.seed, restart=restart)
                else:
                    start = inputs.clone()
                images = climb.run_until_fooled(start, labels, ball) if self.stop_early else climb.run(start, labels, ball)
                if self.restarts > 1:
                    chosen = _more_harmful(chosen, (images, climb.harm(images, labels)))
                    images = chosen[0]
        reach = self.steps * self.step(epsilon) * (1 + 1e-9)
        out_of_reach = self.direction == "sign" and self.start == "input" and warm_start is None and reach < epsilon
        return Attacked(
            images, climb.zero_gradients, climb.non_finite_gradients, climb.probabilities, out_of_reach, climb.squashed
        )

    def stronger(self) -> PGD:
        """The same attack with twice the steps."""
        return replace(self, steps=2 * self.steps)


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al. 2014; Gerum et al. 2022, Eq. (7)): one step of length epsilon.

    Arguments are those of ``PGD`` with one step; with norm="l2" the step is the gradient over its length.
    """

    steps: int = 1

    name = "fgsm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps != 1 or self.step_size is not None:
            raise AttackError(
                f"fgsm: it takes one step of length epsilon; got steps={self.steps}, step_size={self.step_size}. Use pgd."
            )

    @checked(AttackError)
    def step(self, epsilon: float) -> float:
        """Epsilon itself."""
        return epsilon


@dataclass(frozen=True)
class _Harm:
    """What counts for each image: whether the attack succeeded, then the loss (negative if targeted)."""

    success: Tensor
    loss: Tensor


def _more_harmful(first: tuple[Tensor, _Harm] | None, second: tuple[Tensor, _Harm]) -> tuple[Tensor, _Harm]:
    """The more harmful of two versions of each image; the first where they are equal."""
    if first is None:
        return second
    (images_a, a), (images_b, b) = first, second
    better = (b.success & ~a.success) | ((b.success == a.success) & (b.loss > a.loss))
    harm = _Harm(torch.where(better, b.success, a.success), torch.where(better, b.loss, a.loss))
    return torch.where(per_image(better, images_a), images_b, images_a), harm


class Ascent:
    """Steps of one attack on one network, with what its first gradients looked like."""

    def __init__(self, attack: PGD, model: nn.Module, epsilon: float) -> None:
        self.attack, self.model = attack, model
        self.length = -attack.step(epsilon) if attack.targeted else attack.step(epsilon)
        self.zero_gradients = self.non_finite_gradients = math.nan
        self.probabilities = self.squashed = False

    def run(self, images: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """All steps for all images; ``images`` is used as storage."""
        best: tuple[Tensor, _Harm] | None = None
        for _ in range(self.attack.steps):
            gradient, harm = self._gradient(images, labels)
            if self.attack.keep == "best":
                best = _more_harmful(best, (images.clone(), harm))
            self._move(images, gradient, ball)
        if best is not None:
            images, _ = _more_harmful(best, (images, self.harm(images, labels)))
        return images

    def run_until_fooled(self, images: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """As ``run``, but an image that the attack succeeds on is left as it is; costs shrink with the images left."""
        finished = images.clone()
        left = torch.arange(len(images), device=images.device)
        for _ in range(self.attack.steps):
            gradient, harm = self._gradient(images, labels)
            if bool(harm.success.any()):
                finished[left[harm.success]] = images[harm.success]
                on = ~harm.success
                left, images, labels, gradient, ball = left[on], images[on], labels[on], gradient[on], ball.select(on)
                if not len(left):
                    break
            self._move(images, gradient, ball)
        finished[left] = images
        return finished

    def harm(self, images: Tensor, labels: Tensor) -> _Harm:
        """How harmful images are, without a gradient."""
        with torch.no_grad():
            scores = scores_of(self.model, images)
            return self._harm(scores, self.attack.loss(scores, labels), labels)

    def _gradient(self, images: Tensor, labels: Tensor) -> tuple[Tensor, _Harm]:
        images.requires_grad_(True)
        with torch.enable_grad():
            scores = scores_of(self.model, images)
            first = math.isnan(self.zero_gradients)
            if first:
                check_labels(labels, scores)
            losses = self.attack.loss(scores, labels)
            gradient = input_gradient(losses, images)
        images.requires_grad_(False)
        if first:
            self._look(scores, gradient)
        return gradient, self._harm(scores, losses, labels)

    def _look(self, scores: Tensor, gradient: Tensor) -> None:
        rows = gradient.flatten(1)
        self.zero_gradients = float((rows == 0).all(dim=1).double().mean())
        self.non_finite_gradients = float((~rows.isfinite()).any(dim=1).double().mean())
        self.probabilities, self.squashed = are_probabilities(scores), are_squashed(scores)

    def _move(self, images: Tensor, gradient: Tensor, ball: Ball) -> None:
        direction = (
            steepest(gradient, self.attack.norm) if self.attack.direction == "sign" else gradient.nan_to_num(0.0, 0.0, 0.0)
        )
        ball.project_(images.add_(direction, alpha=self.length))

    def _harm(self, scores: Tensor, losses: Tensor, labels: Tensor) -> _Harm:
        predicted = scores.detach().argmax(dim=1)
        if self.attack.targeted:
            return _Harm(predicted == labels, -losses.detach())
        return _Harm(predicted != labels, losses.detach())


@checked(AttackError)
def fgsm(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    loss: Loss = sample_cross_entropy,
) -> Tensor:
    """Adversarial images by one step along the gradient's sign: x + epsilon * sign(d loss / d x), cut to the bounds.

    Args:
        model: Network that returns logits (n, classes).
        inputs: Images, shape (n, ...), float32 or float64, inside the bounds.
        labels: Classes (targets, if ``targeted``), shape (n,).
        epsilon: Budget in input units, e.g. ``8 / 255``.
        norm: "linf", or "l2" for a step along the gradient itself, of length epsilon.
        targeted: Whether to lower the loss of ``labels``.
        bounds: Lowest and highest value of an image.
        loss: One loss for each image; see ``PGD``.

    Returns:
        Adversarial images, shape (n, ...).

    Raises:
        AttackError: budget, images, labels or the network's output are not as they must be.

    Warns:
        ReliabilityWarning: outputs look like probabilities, or gradients vanish or are not finite.

    Source: Goodfellow et al. 2014; Gerum et al. 2022, Eq. (7).

    Example:
        >>> model = nn.Linear(2, 2)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), "bias": torch.zeros(2)})
        >>> fgsm(model, torch.tensor([[0.6, 0.5]]), torch.tensor([0]), epsilon=0.25)
        tensor([[0.3500, 0.7500]])
    """
    attack = FGSM(norm=norm, targeted=targeted, bounds=bounds, loss=loss)
    return _warned(attack(model, inputs, labels, epsilon=epsilon), attack)


@checked(AttackError)
def pgd(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: float | None = None,
    direction: Direction = "sign",
    start: Start = "input",
    restarts: int = 1,
    keep: Keep = "final",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    loss: Loss = sample_cross_entropy,
) -> Tensor:
    """Adversarial images by projected gradient ascent on the loss; see ``PGD`` for what each argument decides.

    Args:
        model: Network that returns logits (n, classes).
        inputs: Images, shape (n, ...), float32 or float64, inside the bounds.
        labels: Classes (targets, if ``targeted``), shape (n,).
        epsilon: Budget in input units, e.g. ``8 / 255``.
        norm: "linf" or "l2".
        steps: Number of steps.
        step_size: Length of a step; default 0.01 for "linf", 2.5 epsilon / steps for "l2".
        direction: "sign" or "gradient".
        start: "input" or "random".
        restarts: Random starts of which the most harmful is kept.
        keep: "final" or "best" iterate.
        targeted: Whether to lower the loss of ``labels``.
        bounds: Lowest and highest value of an image.
        seed: Seed of random starts.
        loss: One loss for each image.

    Returns:
        Adversarial images, shape (n, ...).

    Raises:
        AttackError: an argument, budget, images, labels or the network's output are not as they must be.

    Warns:
        ReliabilityWarning: outputs look like probabilities, or gradients vanish or are not finite.

    Source: Madry et al. 2018; Gerum et al. 2022, Eq. (8).
    """
    attack = PGD(
        norm=norm,
        steps=steps,
        step_size=step_size,
        direction=direction,
        start=start,
        restarts=restarts,
        keep=keep,
        targeted=targeted,
        bounds=bounds,
        seed=seed,
        loss=loss,
    )
    return _warned(attack(model, inputs, labels, epsilon=epsilon), attack)


def _warned(attacked: Attacked, attack: PGD) -> Tensor:
    for name in gradient_flags(attacked):
        flag = FLAGS[name]
        warnings.warn(f"{attack.name}: {flag.meaning} {flag.remedy}", ReliabilityWarning, stacklevel=3)
    return attacked.images
