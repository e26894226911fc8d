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
        precisions, shares = self._likely(*self._of_scales(jacobian @ self._curves, aim))
        fits = [self._falling(jacobian, aim, precision) for precision in precisions]
        curves = np.stack([curve for curve, _ in fits])
        mean = shares @ curves
        apart = (curves - mean) * np.sqrt(shares)[:, None]
        priors = [_left_open(rows, free, len(aim)) for _, (rows, free) in fits]
        return mean, np.einsum("s,sij->ij", shares, np.stack(priors)) + apart.T @ apart

    def curves(self, jacobian: Array, aims: Array) -> Array:
        """What ``fit`` gives for several sets of data, without covariances, in less time.

        Args:
            jacobian: As of ``fit``.
            aims: Sets of data, shape (b, n).

        Returns:
            Curves, shape (b, k).
        """
        precisions, likelihoods = self._of_scales(jacobian @ self._curves, aims)
        found = []
        for number, aim in enumerate(aims):
            likely, shares = self._likely(precisions[:, number], likelihoods[:, number])
            found.append(shares @ np.stack([self._falling(jacobian, aim, precision)[0] for precision in likely]))
        return np.stack(found)

    def likeliest(self, jacobian: Array, aim: Array) -> Array:
        """Roots of the precisions of level, first slope and bends, of the likeliest scale, shape (k,)."""
        precisions, likelihoods = self._of_scales(jacobian @ self._curves, aim)
        likeliest: Array = precisions[np.argmax(likelihoods + np.log(_SHARES))]
        return likeliest

    def _likely(self, precisions: Array, likelihoods: Array) -> tuple[Array, Array]:
        """Of the scales that are not far less likely than the likeliest: roots of precisions, and shares that add up to one."""
        shares = np.exp(likelihoods - likelihoods.max()) * _SHARES
        shares = shares / shares.max()
        kept = shares > _LEAST
        return precisions[kept], shares[kept] / shares[kept].sum()

    def _of_scales(self, design: Array, aim: Array) -> tuple[Array, Array]:
        """Roots of the precisions of level, slope and bends for each scale, and logarithms of likelihoods, up to a constant.

        Shapes (scales, ..., k) and (scales, ...) for data of shape (..., n).

        A Cauchy density is bounded from below by Gaussians: with x the mean square of a bend over that of the scale, the best
        one has the precision 2 / (1 + x) over the square of the scale.
        """
        squares, likelihoods, precisions = None, [], []
        level = np.full((*aim.shape[:-1], 2), _WIDE)
        for scale in _SCALES:
            for _ in range(_ROUNDS):
                weights = np.ones((*level.shape[:-1], design.shape[1] - 2)) if squares is None else 2 / (1 + squares / scale**2)
                root = np.concatenate([level, weights / scale**2], axis=-1) ** 0.5
                scaled = design / root[..., None, :]
                turned = np.swapaxes(scaled, -1, -2)
                factor = np.linalg.cholesky(turned @ scaled + np.eye(design.shape[1]))
                inverse = np.linalg.inv(factor)
                projected = inverse @ (turned @ aim[..., None])
                means = (np.swapaxes(inverse, -1, -2) @ projected)[..., 0] / root
                before = weights * scale**2 if squares is None else squares
                squares = (means**2 + np.square(inverse).sum(-2) / root**2)[..., 2:]
            bound = -np.log1p(before / scale**2) + weights * before / scale**2 / 2 - np.log(weights) / 2
            halves = np.square(projected[..., 0]).sum(-1) / 2
            fitted = halves - np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
            likelihoods.append(fitted + bound.sum(-1))
            precisions.append(root)
        return np.stack(precisions), np.stack(likelihoods)

    def _falling(self, jacobian: Array, aim: Array, precision: Array) -> tuple[Array, tuple[Array, Array]]:
        """The likeliest curve that does not rise; and its rows, with the directions in which it is free."""
        rows, size = np.vstack([jacobian, precision[:, None] * self.changes]), len(precision)
        found = lsq_linear(rows @ self._falls, np.r_[aim, np.zeros(size)], ([-np.inf, *np.zeros(size - 1)], np.inf), "bvls")
        curve: Array = self._falls @ found.x
        return curve, (rows, self._falls[:, found.active_mask == 0])


def _left_open(rows: Array, free: Array, data: int) -> Array:
    """The prior's part of the covariance of a curve with these rows, the data's first."""
    inverse = np.linalg.inv(np.linalg.qr(rows @ free)[1])
    spread = rows[data:] @ free @ inverse @ inverse.T @ free.T
    covariance: Array = spread.T @ spread
    return covariance
