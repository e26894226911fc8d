"""Accuracy against the budget of an attack, with what speaks against trusting it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from eigencode._arguments import checked, shown
from eigencode.activations import model_device
from eigencode.attacks.geometry import Ball
from eigencode.attacks.gradient import FGSM, PGD
from eigencode.attacks.outputs import Target, check_batch, check_labels, largest_budget, scores_of, undisturbed
from eigencode.attacks.reliability import Attacked, above_chance, fewer, gradient_flags
from eigencode.attacks.robustness import Mode, RobustnessCurve, RobustnessPoint
from eigencode.datasets.images import ImageSet
from eigencode.errors import AttackError
from eigencode.perturbations.noise import standard_normal
from eigencode.perturbations.specification import Norm

_NOISE_STREAM = 2**34

_SAME_SCORES = 1e-4
"""Scores of one image differ by less than this, relative to the largest, where only the order of summation is random."""

_WARM_SHARE = 10
"""A warm start gets this fraction of the steps: it is near the boundary already, and a start from the input follows."""


@runtime_checkable
class Attack(Protocol):
    """Anything that changes images within a budget; ``PGD``, ``FGSM`` and ``ArtAttack`` are."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def norm(self) -> Norm:
        """Norm of the budget."""
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of an image."""
        ...

    @property
    def targeted(self) -> bool:
        """Whether labels are targets."""
        ...

    def __call__(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, *, epsilon: float, indices: Tensor | None = None
    ) -> Attacked:
        """Attacks a batch."""
        ...


@checked(AttackError)
def attack_images(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    epsilon: float,
    indices: Tensor | None = None,
    batch_size: int = 500,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Attacked:
    """Attacks images batch by batch on the model's device; results are on the CPU.

    Args:
        model: Network that returns logits.
        inputs: Images, shape (n, ...).
        labels: Classes or targets, shape (n,).
        attack: What to do.
        epsilon: Budget in input units.
        indices: The images' indices. Default: 0..n-1.
        batch_size: Images attacked at once.
        progress: Called with the number of images after each batch.
        options: Passed to the attack; a tensor ``warm_start`` is split like the images.

    Returns:
        Attacked, with fractions over all images.
    """
    warm_start = options.pop("warm_start", None)
    target = Target(model, inputs, labels, torch.arange(len(inputs)) if indices is None else indices, batch_size)
    return under_attack(target, partial(attack, **options), epsilon, warm_start=warm_start, progress=progress)


def under_attack(
    target: Target,
    attack: Callable[..., Attacked],
    epsilon: float,
    *,
    warm_start: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Attacked:
    """A target's images under an attack; see ``attack_images``."""
    if len(target) == 0:
        return Attacked(target.inputs)
    device = model_device(target.model)
    seen: list[Attacked] = []
    for batch in torch.arange(len(target)).split(target.batch_size):
        part = target.only(batch)
        warm = {} if warm_start is None else {"warm_start": warm_start[batch].to(device)}
        inputs, labels = part.inputs.to(device), part.labels.to(device)
        found = attack(target.model, inputs, labels, epsilon=epsilon, indices=part.indices, **warm)
        seen.append(replace(found, images=found.images.cpu()))
        if progress:
            progress(len(batch))
    return Attacked(
        torch.cat([each.images for each in seen]),
        math.fsum(each.zero_gradients * len(each.images) for each in seen) / len(target),
        math.fsum(each.non_finite_gradients * len(each.images) for each in seen) / len(target),
        probabilities=any(each.probabilities for each in seen),
        out_of_reach=seen[-1].out_of_reach,
        squashed=all(each.squashed for each in seen),
    )


def advancing(progress: Callable[[str, int, int], None] | None, stage: str, total: int) -> Callable[[int], None]:
    """What is told the images of each batch, and tells ``progress`` how many are done of how many."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(stage, done, total)

    return advance


@checked(AttackError)
def robustness_curve(
    model: nn.Module,
    images: ImageSet,
    attack: Attack,
    *,
    epsilons: Sequence[float],
    mode: Mode = "independent",
    batch_size: int = 500,
    probe: int = 100,
    square: Attack | None = None,
    keep_images: bool = False,
    observe: Callable[[float, Tensor], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> RobustnessCurve:
    """Accuracy of a network under an attack, for each budget, with reliability flags.

    An image counts as correct if it is classified correctly without the attack and the stored adversarial image, classified
    again after the attack, is too.

    Args:
        model: Network that returns logits; moved nowhere.
        images: Labelled images.
        attack: ``PGD``, ``FGSM``, ``ArtAttack`` or the like; not targeted.
        epsilons: Budgets in input units, any order.
        mode: "independent": every budget on its own, all images attacked, as in the papers. "nested": budgets ascend; an
            image fooled at a smaller one counts as fooled and is attacked no more, the others start from where they are and
            stop as soon as they are fooled. Nested is faster and, up to chance, never above independent.
        batch_size: Images attacked at once.
        probe: Images on which the attack is compared with FGSM, random noise, twice the steps and a budget of half the range;
            in nested mode, at the first, middle and last budget, with an independent attack too. 0 leaves these flags out.
        square: Attack without gradients to compare with too, for example ``ArtAttack("SquareAttack")``.
        keep_images: Whether to keep all adversarial images.
        observe: Called with each budget and its adversarial images, shape (n, ...), on the CPU, in the images' order.
        progress: Called with what is being done, images done and images in all.

    Returns:
        RobustnessCurve.

    Raises:
        AttackError: no budgets, a targeted attack, or anything the attack refuses.

    Source: Gerum et al. 2022, Fig. 2f; flags after Carlini et al. 2019.
    """
    images = images.cpu()
    try:
        budgets = sorted({float(epsilon) for epsilon in epsilons})
    except (TypeError, ValueError):
        raise AttackError(f"robustness_curve: `epsilons` must be a list of numbers; got {shown(epsilons)}.") from None
    if not budgets:
        raise AttackError("robustness_curve: `epsilons` is empty. Name at least one budget.")
    if attack.targeted:
        raise AttackError(
            "robustness_curve: the attack must not be targeted; accuracy counts the labels' own class. Use targeted=False."
        )
    for epsilon in budgets:
        check_batch(images.inputs, images.labels, epsilon, attack.norm, attack.bounds, name=attack.name)
    with undisturbed(model):
        target = Target(model, images.inputs, images.labels, torch.arange(len(images)), batch_size)
        run = _Run(target, attack, advancing(progress, "attacking", len(budgets) * len(images)))
        probes = _Probes(run, min(probe, len(images)), square, budgets)
        points, kept = [], {}
        for epsilon in budgets:
            found = run.independent(epsilon) if mode == "independent" else run.nested(epsilon)
            correct = run.correct & target.hit(found.images)
            flags = [*gradient_flags(found), *probes.flags(epsilon, correct, nested=mode == "nested")]
            accuracy = float(correct.double().mean())
            points.append(
                RobustnessPoint(
                    epsilon=epsilon,
                    accuracy=accuracy,
                    stderr=math.sqrt(accuracy * (1 - accuracy) / len(images)),
                    zero_gradients=found.zero_gradients,
                    non_finite_gradients=found.non_finite_gradients,
                    flags=tuple(dict.fromkeys(flags)),
                )
            )
            if keep_images:
                kept[epsilon] = found.images
            if observe:
                observe(epsilon, found.images)
    return RobustnessCurve(tuple(points), attack.name, mode, len(images), float(run.correct.double().mean()), kept)


class _Run:
    """A network and images under attack, with the state that a nested curve carries from budget to budget."""

    def __init__(self, target: Target, attack: Attack, advance: Callable[[int], None]) -> None:
        self.target, self.attack, self.advance = target, attack, advance
        device = model_device(target.model)
        with torch.no_grad():
            scores = scores_of(target.model, target.inputs[: target.batch_size].to(device))
            check_labels(target.labels.to(device), scores)
            again = scores_of(target.model, target.inputs[: target.batch_size].to(device))
        self.classes = scores.shape[1]
        self.random_outputs = not torch.allclose(scores, again, rtol=_SAME_SCORES, atol=_SAME_SCORES * float(scores.abs().max()))
        self.correct = target.hit(target.inputs)
        self.standing, self.current = self.correct.clone(), target.inputs

    def independent(self, epsilon: float) -> Attacked:
        """All images, attacked afresh."""
        return under_attack(self.target, self.attack, epsilon, progress=self.advance)

    def nested(self, epsilon: float) -> Attacked:
        """The images that still stand, from where they are and then from the input; the others as they were fooled.

        The start from the input takes the very path of an independent attack, so that what that fools is fooled here.
        """
        before = int(self.standing.sum())
        self.advance(len(self.target) - before)
        if isinstance(self.attack, FGSM) or not isinstance(self.attack, PGD) or epsilon == 0:
            return replace(self._fool(self.attack, epsilon), images=self.current)
        fresh: PGD = replace(self.attack, stop_early=True)
        warm: PGD = replace(fresh, steps=max(1, fresh.steps // _WARM_SHARE), start="input", restarts=1)
        found = self._fool(warm, epsilon, from_current=True)
        self.advance(before - int(self.standing.sum()))
        fresh_found = self._fool(fresh, epsilon)
        return replace(found, images=self.current, out_of_reach=fresh_found.out_of_reach)

    def _fool(self, attack: Attack, epsilon: float, *, from_current: bool = False) -> Attacked:
        """Attacks standing images; those that fall, or all that start from where they are, become what the attack found."""
        standing = self.standing.nonzero()[:, 0]
        left = self.target.only(standing)
        warm_start, progress = (self.current[standing], None) if from_current else (None, self.advance)
        found = under_attack(left, attack, epsilon, warm_start=warm_start, progress=progress)
        if len(standing):
            fooled = ~left.hit(found.images)
            self.current = self.current.clone()
            changed = torch.ones_like(fooled) if from_current else fooled
            self.current[standing[changed]] = found.images[changed]
            self.standing[standing[fooled]] = False
        return found


class _Probes:
    """Comparisons with other attacks on images evenly spaced among all."""

    def __init__(self, run: _Run, count: int, square: Attack | None, budgets: Sequence[float]) -> None:
        self.run, self.count, self.square = run, count, square
        self.compared = {next(filter(None, budgets), 0.0), budgets[len(budgets) // 2], budgets[-1]}
        self.indices = torch.linspace(0, len(run.target) - 1, count).round().long()  # all classes, also of sorted images
        self.constant = ["random_outputs"] if run.random_outputs else []
        if not above_chance(run.correct, run.classes):
            self.constant.append("not_above_chance")
        if count and self._reaches_far():
            self.constant.append("not_to_chance")

    def flags(self, epsilon: float, correct: Tensor, *, nested: bool) -> list[str]:
        """Flags of one budget."""
        if epsilon == 0 or not self.count:
            return list(self.constant)
        attack, ours = self.run.attack, correct[self.indices]
        found = list(self.constant)
        if isinstance(attack, PGD) and not isinstance(attack, FGSM):
            if fewer(self._correct(FGSM(norm=attack.norm, bounds=attack.bounds, loss=attack.loss), epsilon), ours):
                found.append("weaker_than_fgsm")
            if nested:
                found += self._beside_nested(attack, epsilon, ours)
            else:
                longer = self._correct(attack.stronger(), epsilon)
                if fewer(ours, longer):
                    found.append("more_steps_weaker")
                if fewer(longer, ours):
                    found.append("more_steps_needed")
        if fewer(self._noisy(epsilon), ours):
            found.append("weaker_than_noise")
        if self.square is not None and fewer(self._correct(self.square, epsilon), ours):
            found.append("weaker_than_square")
        return found

    def _beside_nested(self, attack: PGD, epsilon: float, ours: Tensor) -> list[str]:
        """What fools images that the nested curve left standing; those it fooled it has fooled."""
        left = self.indices[ours]
        flags: dict[str, PGD] = {"more_steps_needed": replace(attack.stronger(), stop_early=True)}
        if epsilon in self.compared:
            flags["above_independent"] = attack
        return [name for name, other in flags.items() if fewer(self._hits(other, epsilon, left), torch.ones_like(left) > 0)]

    def _hits(self, attack: Attack, epsilon: float, indices: Tensor) -> Tensor:
        if not len(indices):
            return torch.ones(0, dtype=torch.bool)
        shown = self.run.target.only(indices)
        return shown.hit(under_attack(shown, attack, epsilon).images)

    def _correct(self, attack: Attack, epsilon: float) -> Tensor:
        return self.run.correct[self.indices] & self._hits(attack, epsilon, self.indices)

    def _noisy(self, epsilon: float) -> Tensor:
        """Correct under Gaussian noise as large as the budget: projected on the ball after scaling far beyond it."""
        shown, attack = self.run.target.only(self.indices), self.run.attack
        noise = standard_normal(self.indices, shown.inputs.shape[1:], seed=0, stream=_NOISE_STREAM, like=shown.inputs)
        ball = Ball(shown.inputs, epsilon, attack.norm, attack.bounds)
        return self.run.correct[self.indices] & shown.hit(ball.project_(shown.inputs + 10 * epsilon * noise))

    def _reaches_far(self) -> bool:
        """Whether accuracy stays above chance under a budget of half the range."""
        attack = self.run.attack
        half = largest_budget(attack.norm, attack.bounds, self.run.target.inputs[0].numel()) / 2
        if isinstance(attack, PGD) and not isinstance(attack, FGSM):
            attack = replace(attack, step_size=None, relative_step=True)
        return above_chance(self._correct(attack, half), self.run.classes)
