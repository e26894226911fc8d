"""A number with its confidence interval."""

from dataclasses import dataclass

from eigencode._shown import Shown


@dataclass(frozen=True, repr=False)
class Interval(Shown):
    """An estimate and the ends of its confidence interval.

    Attributes:
        value: NaN if the data do not determine it.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float
