"""What a curve of accuracy against the budget of an attack holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
from torch import Tensor

from eigencode._arguments import check_fields
from eigencode._shown import Shown, ShownRows
from eigencode.errors import AttackError

Mode = Literal["independent", "nested"]


@dataclass(frozen=True, repr=False)
class RobustnessPoint(Shown):
    """Accuracy under one budget.

    Attributes:
        epsilon: Budget in input units.
        accuracy: Fraction of all images that are classified correctly both before and after the attack.
        stderr: Binomial standard error of the accuracy.
        zero_gradients: Fraction of attacked images without a gradient; NaN for attacks without gradients.
        non_finite_gradients: Fraction of attacked images with NaN or infinite values in their gradient.
        flags: Names of ``FLAGS`` that were raised.
    """

    epsilon: float
    accuracy: float
    stderr: float
    zero_gradients: float
    non_finite_gradients: float
    flags: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class RobustnessCurve(ShownRows):
    """Accuracy against epsilon.

    Attributes:
        points: One for each budget, in ascending order.
        attack: Name of the attack.
        mode: "independent" or "nested".
        n_images: Images attacked.
        clean_accuracy: Accuracy without an attack.
        adversarials: Budget -> adversarial images, if they were kept.
    """

    points: tuple[RobustnessPoint, ...]
    attack: str
    mode: Mode
    n_images: int
    clean_accuracy: float
    adversarials: dict[float, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the mode."""
        check_fields(self, AttackError, choices_only=True)

    def _told(self) -> str:
        kind = f"{self.attack}, {self.mode}" if self.attack else self.mode
        return f"RobustnessCurve: {kind}, {self.n_images} images, accuracy {self.clean_accuracy:.3g} without an attack."

    def _rows(self) -> list[dict[str, object]]:
        names = ("epsilon", "accuracy", "stderr", "flags")
        return [{**{name: getattr(point, name) for name in names[:3]}, "flags": ", ".join(point.flags)} for point in self.points]

    def table(self) -> pd.DataFrame:
        """Columns epsilon, accuracy, stderr, zero_gradients, non_finite_gradients, flags (separated by commas)."""
        return pd.DataFrame([{**vars(point), "flags": ", ".join(point.flags)} for point in self.points])
