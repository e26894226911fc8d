"""Curves that are linear between knots and bend little, but may bend sharply in a few places: their likeliest fits to data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import lsq_linear

Array = np.ndarray

_SCALES = np.geomspace(40, 0.005, 14)
"""Scales of bending that are tried, the largest first: change of slope over a factor e of rank. The last is as good as none."""

_SHARES = np.r_[np.full(len(_SCALES) - 1, 0.5 / (len(_SCALES) - 1)), 0.5]
"""Of them before any data: a curve without bends is as likely as one with bends."""

_ROUNDS = 3
"""Iterations for each scale: they begin where those of the scale before have ended."""

_WIDE = 1e-4
"""Precision of the prior for level and first slope: none."""

_LEAST = 0.02
"""Scales less likely than the likeliest by this factor are left out."""


class Bending:
    """Prior for falling curves: each change of slope, over the root of the distance it is spread over, has a Cauchy distribution.

    Heavy tails let a curve be straight in most places and have a step in one, which no Gaussian of one width allows. Its width
    is not known: fits for a series of widths are averaged, each with its likelihood, or rather a lower bound of it. Before any
    data a straight line is as likely as all that bends.

    Args:
        places: Of the knots, rising, shape (k,).

    Attributes:
        changes: What a curve's level, first slope and bends are of its values at the knots, shape (k, k).

    Source: the lower bound of the likelihood: Jaakkola and Jordan 2000, Stat. Comput. 10, with the bound of Student's t by a
    Gaussian as in Tipping and Lawrence 2005, Neurocomputing 69.
    """

    def __init__(self, places: Array) -> None:
        size, steps = len(places), np.diff(places)
        changes = np.zeros((size, size))
        changes[0, 0] = 1
        changes[1, :2] = np.array([-1, 1]) / steps[0]
        for row, (left, right) in enumerate(pairwise(steps), start=2):
            changes[row, row - 2 : row + 1] = np.array([1 / left, -1 / left - 1 / right, 1 / right]) / np.sqrt((left + right) / 2)
        self.changes, self._curves = changes, np.linalg.inv(changes)
        self._falls = np.tri(size)  # the first coefficient, and steps that must not rise
        self._falls[:, 1:] *= -1

    def fit(self, jacobian: Array, aim: Array) -> tuple[Array, Array]:
        """Falling curve that fits data with errors of one.

        Args:
            jacobian: Change of each datum with the curve at the knots, over the datum's error, shape (n, k).
            aim: The data, over their errors, shape (n,).

        Returns:
            The curve at the knots, and the part of its covariance that comes from the prior and not from the data's errors.
        """
        precisions, likelihoods = self._of_scales(jacobian @ self._curves, aim)
        shares = np.exp(likelihoods - likelihoods.max()) * _SHARES
        shares = shares / shares.max()
        kept = shares > _LEAST
        shares = shares[kept] / shares[kept].sum()
        fits = [self._falling(jacobian, aim, precision) for precision in precisions[kept]]
        curves = np.stack([curve for curve, _ in fits])
        mean = shares @ curves
        apart = (curves - mean) * np.sqrt(shares)[:, None]
        return mean, np.einsum("s,sij->ij", shares, np.stack([part for _, part in fits])) + apart.T @ apart

    def likeliest(self, jacobian: Array, aim: Array) -> Array:
        """Roots of the precisions of level, first slope and bends, of the likeliest scale, shape (k,)."""
        precisions, likelihoods = self._of_scales(jacobian @ self._curves, aim)
        likeliest: Array = precisions[np.argmax(likelihoods + np.log(_SHARES))]
        return likeliest

    def _of_scales(self, design: Array, aim: Array) -> tuple[Array, Array]:
        """Roots of the precisions of level, slope and bends for each scale, and logarithms of likelihoods, up to a constant.

        A Cauchy density is bounded from below by Gaussians: with x the mean square of a bend over that of the scale, the best
        one has the precision 2 / (1 + x) over the square of the scale.
        """
        squares, likelihoods, precisions = None, [], []
        for scale in _SCALES:
            for _ in range(_ROUNDS):
                weights = np.ones(design.shape[1] - 2) if squares is None else 2 / (1 + squares / scale**2)
                root = np.r_[_WIDE, _WIDE, weights / scale**2] ** 0.5
                scaled = design / root
                factor = np.linalg.cholesky(scaled.T @ scaled + np.eye(len(root)))
                inverse = np.linalg.inv(factor)
                projected = inverse @ (scaled.T @ aim)
                means = inverse.T @ projected / root
                before = weights * scale**2 if squares is None else squares
                squares = (means**2 + np.square(inverse).sum(0) / root**2)[2:]
            bound = -np.log1p(before / scale**2) + weights * before / scale**2 / 2 - np.log(weights) / 2
            fitted = (projected @ projected) / 2 - np.log(np.diag(factor)).sum()
            likelihoods.append(fitted + bound.sum())
            precisions.append(root)
        return np.stack(precisions), np.array(likelihoods)

    def _falling(self, jacobian: Array, aim: Array, precision: Array) -> tuple[Array, Array]:
        """The likeliest curve that does not rise, and the prior's part of its covariance."""
        prior = precision[:, None] * self.changes
        rows, size = np.vstack([jacobian, prior]), len(precision)
        found = lsq_linear(rows @ self._falls, np.r_[aim, np.zeros(size)], ([-np.inf, *np.zeros(size - 1)], np.inf), "bvls")
        free = self._falls[:, found.active_mask == 0]
        inverse = np.linalg.inv(np.linalg.qr(rows @ free)[1])
        spread = prior @ free @ inverse @ inverse.T @ free.T
        curve: Array = self._falls @ found.x
        return curve, spread.T @ spread
