"""When not to trust an accuracy under attack: what is looked for, what it means, and what to do (Carlini et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import bdtrc
from torch import Tensor


@dataclass(frozen=True)
class Attacked:
    """What an attack made of a batch.

    Attributes:
        images: Adversarial images, shape (n, ...).
        zero_gradients: Fraction of the images whose first gradient is zero everywhere; NaN if there was no gradient.
        non_finite_gradients: Fraction of the images whose first gradient has a NaN or infinite value; NaN likewise.
        probabilities: Whether the network's outputs look like probabilities.
        out_of_reach: Whether all steps together are shorter than epsilon.
        squashed: Whether the network's outputs look like those of a sigmoid or tanh.
    """

    images: Tensor
    zero_gradients: float = math.nan
    non_finite_gradients: float = math.nan
    probabilities: bool = False
    out_of_reach: bool = False
    squashed: bool = False


@dataclass(frozen=True)
class Flag:
    """A reason for doubt.

    Attributes:
        meaning: What was seen.
        remedy: What to do about it.
    """

    meaning: str
    remedy: str


FLAGS = {
    "zero_gradients": Flag(
        "There is no gradient at 1 % or more of the images: scores are saturated, or a step of the network has no derivative.",
        "Attack in float64, with a loss on differences of logits, or without gradients (art:SquareAttack).",
    ),
    "non_finite_gradients": Flag(
        "The gradient has NaN or infinite values at some images, whose pixels then move in wrong directions or not at all.",
        "Find the operation that divides by zero or overflows; attack in float64.",
    ),
    "probabilities": Flag(
        "The network returns probabilities: the loss applies a second softmax to them, which hides gradients.",
        "Let the network return logits (remove its last softmax), or pass a `loss` on the logarithm of the outputs.",
    ),
    "squashed": Flag(
        "All scores lie between 0 and 1, or between -1 and 1, as after a sigmoid or tanh, which hides gradients.",
        "Let the network return logits: remove a last sigmoid or tanh.",
    ),
    "not_above_chance": Flag(
        "The accuracy without an attack is not above chance.",
        "Check that labels, order of classes and normalisation are those of the network.",
    ),
    "random_outputs": Flag(
        "The network gives other scores for the same images a second time.",
        "Fix its random numbers, or attack the average of many passes; one gradient is no guide to the next draw.",
    ),
    "weaker_than_fgsm": Flag(
        "One step of FGSM fools more images than this attack with the same budget.",
        'Take more or smaller steps (`steps`, `step_size`), or keep="best".',
    ),
    "budget_out_of_reach": Flag(
        "The steps together are shorter than epsilon: the images moved less far than the budget says.",
        "Raise `steps` or `step_size`, or take steps of 2.5 epsilon / steps (`relative_step`).",
    ),
    "more_steps_weaker": Flag(
        "Twice the steps fool fewer images.",
        "Make the steps smaller, or keep the best iterate instead of the final one.",
    ),
    "more_steps_needed": Flag(
        "Twice the steps fool more images: the attack has not converged, and the accuracy is too high.",
        "Raise `steps`, or `step_size` where steps * step_size is below epsilon, until nothing changes.",
    ),
    "weaker_than_noise": Flag(
        "Random noise within the same budget fools more images than this attack.",
        "The gradients mislead: look for masked gradients, and attack without them (art:SquareAttack).",
    ),
    "weaker_than_square": Flag(
        "The Square attack, which uses no gradients, fools more images than this attack with the same budget.",
        "The gradients mislead: report the lower accuracy.",
    ),
    "not_to_chance": Flag(
        "Even a budget of half the input range leaves the accuracy above chance.",
        "The attack does not work on this network: check the other flags, the bounds and the loss.",
    ),
    "above_independent": Flag(
        "The nested curve lies above an independent attack on images it had left.",
        'Use mode="independent", or more steps.',
    ),
}
"""Flag -> what it means and what to do."""

_ZERO_GRADIENTS = 0.01
_CHANCE = 0.01
"""Differences of accuracy that chance makes more often than this raise no flag."""


def gradient_flags(attacked: Attacked) -> list[str]:
    """Flags that an attack raises by itself."""
    found = {
        "zero_gradients": attacked.zero_gradients >= _ZERO_GRADIENTS,
        "non_finite_gradients": attacked.non_finite_gradients > 0,
        "probabilities": attacked.probabilities,
        "squashed": attacked.squashed,
        "budget_out_of_reach": attacked.out_of_reach,
    }
    return [name for name, raised in found.items() if raised]


def fewer(correct: Tensor, other: Tensor) -> bool:
    """Whether ``correct`` has fewer hits than ``other`` on the same images by more than chance (McNemar's exact test, 1 %)."""
    lost, won = int((other & ~correct).sum()), int((correct & ~other).sum())
    return lost > won and float(bdtrc(lost - 1, lost + won, 0.5)) < _CHANCE


def above_chance(correct: Tensor, classes: int) -> bool:
    """Whether the accuracy exceeds 1 / classes by more than chance (one-sided, 1 %)."""
    return float(bdtrc(int(correct.sum()) - 1, len(correct), 1 / classes)) < _CHANCE
