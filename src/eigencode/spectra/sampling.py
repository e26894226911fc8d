"""What sampling does to eigenvalues: what those of a sample are expected to be, given those of the population.

For n images with gains t and f units with population eigenvalues l, the sample is X = sqrt(T) Z sqrt(L), Z being independent
with mean 0 and variance 1. Its eigenvalues are those of the equations, for z in the upper half plane,

    d = -(1/n) sum l / (1 + w l) / z,    w = -(1/n) sum t / (1 + d t) / z,

whose solution tells how many eigenvalues lie above each point, and how they change with each l. Nothing is simulated.

Source: Marchenko and Pastur 1967; Silverstein and Choi 1995, J. Multivariate Anal. 54; the equations with gains: Couillet and
Hachem 2014, Random Matrices 3; overlaps of eigenvectors: Ledoit and Peche 2011, Probab. Theory Relat. Fields 151; fluctuations:
Bai and Silverstein 2004, Ann. Probab. 32, Eq. (1.17).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eigencode.spectra.gains import Gains

Array = np.ndarray

_SINGLE = 10
"""Ranks that are a bin each."""

_WIDER = 1.18
"""Ratio of a bin's ends beyond them."""

_ATOMS = 1.04
"""Ratio within which population eigenvalues of neighbouring ranks beyond 60 are taken to be equal."""

_APART = 60

_LEVELS = 8
"""Points of a bin at which its mean is taken."""

_HEIGHTS = (1.0, 0.1, 0.01, 1e-3)
"""Imaginary part of z over its real part, on the way to the real axis."""

_LOWEST = 1e-4
_MISCOUNTED = 0.01
"""The last height: it miscounts by less than this part of an eigenvalue."""

_STEPS = 30
_CLOSE = 1e-6


@dataclass(frozen=True)
class Expected:
    """Sample eigenvalues that are expected.

    Attributes:
        logarithms: Means of their natural logarithms over bins of ranks, shape (bins,).
        jacobian: Their derivatives with respect to the logarithms of the population's atoms, shape (bins, atoms); rows sum to 1.
        places: Logarithm of the eigenvalue, w, and the number of eigenvalues above, at each point of the grid.
    """

    logarithms: Array
    jacobian: Array
    places: tuple[Array, Array, Array]


def rank_bins(last: int) -> Array:
    """First ranks of bins that cover ranks 1 to ``last``, and the rank after it."""
    edges = [1]
    while edges[-1] <= last:
        edges.append(edges[-1] + 1 if edges[-1] <= _SINGLE else max(edges[-1] + 1, round(edges[-1] * _WIDER)))
    return np.array([edge for edge in edges if edge <= last] + [last + 1])


def means_over_bins(eigenvalues: Array, bins: Array) -> Array:
    """Means of the logarithms of eigenvalues (..., k) over bins, shape (..., bins); k reaches the last bin."""
    sums = np.log(eigenvalues[..., : bins[-1] - 1]).cumsum(-1)
    sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], -1)
    return np.diff(sums[..., bins - 1], axis=-1) / np.diff(bins)


class Sampling:
    """Expected logarithms of sample eigenvalues.

    Args:
        degrees: Degrees of freedom of the sample's covariance: samples minus one.
        n_features: Population eigenvalues that are not zero.
        bins: Of sample ranks, as ``rank_bins`` gives them.
        gains: Of the images.
    """

    def __init__(self, *, degrees: float, n_features: int, bins: Array, gains: Gains) -> None:
        values, shares = np.asarray(gains.values), np.asarray(gains.shares)
        used = gains.independent
        self.degrees = degrees * used
        self.gains, self.shares = (values * used)[values > 0], shares[values > 0] / used
        self.bins = bins
        self.edges = self._edges(n_features)
        self.sizes = np.diff(self.edges).astype(float)
        width = np.diff(bins)
        within = (np.arange(_LEVELS) + 0.5) / _LEVELS
        self._levels = (bins[:-1, None] - 1 + within * width[:, None]).ravel()

    def _edges(self, n_features: int) -> Array:
        """First ranks of population eigenvalues that are taken to be equal: those beyond rank 60, where they lie close."""
        edges = list(range(1, min(_APART, n_features) + 2))
        while edges[-1] <= n_features:
            edges.append(max(edges[-1] + 1, round(edges[-1] * _ATOMS)))
        inside = {int(edge) for edge in (*edges, *self.bins) if edge <= n_features}
        return np.array([*sorted(inside), n_features + 1])

    def expected(self, logarithms: Array) -> Expected:
        """Sample eigenvalues for the logarithms of the population's, shape (atoms,), in falling order."""
        atoms = np.exp(logarithms)
        points, start = self._grid(atoms)
        w, count = self._solve(atoms, points, start)
        place = np.log(points)
        right = np.clip(np.searchsorted(count, self._levels), 1, len(count) - 1)
        part = (self._levels - count[right - 1]) / np.maximum(count[right] - count[right - 1], 1e-12)
        part = np.clip(part, 0, 1)
        levels = (1 - part) * place[right - 1] + part * place[right]
        overlaps = self.sizes * atoms / np.abs(1 + w[:, None] * atoms) ** 2
        overlaps /= overlaps.sum(1, keepdims=True)
        overlaps = (1 - part)[:, None] * overlaps[right - 1] + part[:, None] * overlaps[right]
        shape = len(self.bins) - 1, _LEVELS
        return Expected(levels.reshape(shape).mean(1), overlaps.reshape(*shape, -1).mean(1), (place, w, count))

    def covariance(self, expected: Expected) -> Array:
        """Covariance of the means over bins, of Gaussian samples, shape (bins, bins)."""
        place, w, count = expected.places
        length, middle, step = -np.diff(place), (w[1:] + w[:-1]) / 2, np.abs(np.diff(w))
        filled = np.diff(count) > 1e-12
        length, middle, step, at = length[filled], middle[filled], step[filled], ((count[1:] + count[:-1]) / 2)[filled]
        distance = np.abs(middle[:, None] - middle) ** 2
        np.fill_diagonal(distance, (step * np.exp(-1.5)) ** 2 + 1e-300)  # the mean of log |s - t| over a square is -3/2
        kernel = np.log1p(4 * middle.imag[:, None] * middle.imag / distance)
        own = np.searchsorted(self.bins - 1, at, side="right") - 1
        weights = np.where(own == np.arange(len(self.bins) - 1)[:, None], length, 0.0) / np.diff(self.bins)[:, None]
        covariance: Array = weights @ kernel @ weights.T / (2 * np.pi**2)
        return covariance

    def _grid(self, atoms: Array) -> tuple[Array, Array]:
        """Points from the largest down, dense where eigenvalues are, with w as it were if all gains were equal.

        Of equal gains, z is a function of -1/w = u + iv, and v, for each u, is the root of a function that falls with it.
        """
        second = float(np.square(self.gains) @ self.shares)
        degrees = self.degrees / second
        radius = atoms * np.sqrt(self.sizes / degrees)
        gaps = np.minimum(-np.diff(atoms, prepend=np.inf), -np.diff(atoms, append=0.0))
        alone = (np.arange(len(atoms)) < _APART) | (radius < 2 * gaps)
        nodes = 1.1 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
        near = (atoms[alone, None] + radius[alone, None] * nodes).ravel()
        largest = atoms[0] * (1 + 2 * np.sqrt(self.sizes.sum() / degrees))
        last = atoms[-1] * np.geomspace(1e-5, 0.2, 50)  # with about as many units as samples, eigenvalues come near zero
        below = -np.geomspace(atoms[-1] * 0.2, atoms[0], 25)
        u = np.concatenate([near[near > 0], atoms, np.geomspace(atoms[-1] / 5, largest, 150), last, -last, below])
        weights, square = self.sizes * atoms**2 / degrees, (u[:, None] - atoms) ** 2 + 1e-300
        inside = (weights / square).sum(1) > 1
        square, v2 = square[inside], np.full(int(inside.sum()), weights.sum())
        for _ in range(_STEPS):
            inverse = 1 / (square + v2[:, None])
            total = inverse @ weights
            new = v2 + (total - 1) * total / (inverse**2 @ weights)
            new = np.where(new > 0, new, v2 / 10)
            done = np.abs(new - v2).max(initial=0) <= _CLOSE * v2.min(initial=1)
            v2 = new
            if done:
                break
        theta = u.astype(complex)
        theta[inside] += 1j * np.sqrt(v2)
        points = (theta + theta * (1 / (theta[:, None] - atoms) @ (self.sizes * atoms)) / degrees).real
        kept = points > points.max() * 1e-16
        points, theta = points[kept], theta[kept]
        if len(self.gains) > 1:  # an image of a large gain has an eigenvalue of its own
            most = max(points.max(), atoms[0] * self.gains.max() * (1 + np.sqrt(self.sizes.sum() / self.degrees)) ** 2)
            more = np.geomspace(min(points.max() * 1e-4, atoms[-1] * 1e-6), most, 160)
            points, theta = np.concatenate([points, more]), np.concatenate([theta, more])
        order = np.argsort(-points)
        points, theta = points[order], theta[order]
        apart = np.r_[True, -np.diff(np.log(points)) > 1e-7]
        return points[apart], -1 / theta[apart]

    def _solve(self, atoms: Array, points: Array, w: Array) -> tuple[Array, Array]:
        """The solution w just above the real axis, and the number of eigenvalues above each point."""
        weights, shares = self.sizes * atoms / self.degrees, self.shares * self.gains
        lowest = min(_LOWEST, _MISCOUNTED / self.degrees)
        heights = [lowest]
        if len(self.gains) > 1:
            heights = [*(height for height in _HEIGHTS if height > lowest), lowest]
            while heights[-2] > 11 * lowest:
                heights.insert(-1, heights[-2] / 10)
            z = points * (1 + 1j * heights[0])
            w = -1 / z
            for _ in range(6):
                d = -_sums(w, atoms, weights)[0] / z
                w = (w - _sums(d, self.gains, shares)[0] / z) / 2
        for height in heights:
            left = np.arange(len(points))  # those that still move
            for _ in range(_STEPS):
                z, old = points[left] * (1 + 1j * height), w[left]
                total, slope = _sums(old, atoms, weights)
                other, change = _sums(-total / z, self.gains, shares)
                step = (old * z + other) / (z - change * slope / z)
                new = old - step
                least = np.abs(old) / 2
                new = np.where(new.imag > 0, new, old.real - np.clip(step.real, -least, least) + 0.3j * old.imag)
                w[left] = new
                left = left[np.abs(new - old) >= _CLOSE * np.abs(old)]
                if not len(left):
                    break
        z = points * (1 + 1j * heights[-1])
        d = -_sums(w, atoms, weights)[0] / z
        potential = _angles(d, self.gains) @ self.shares + (z * d * w).imag + np.angle(-z)
        potential += (_angles(w, atoms) @ self.sizes) / self.degrees
        return w, np.maximum.accumulate(self.degrees * (1 + potential / np.pi))


def _sums(w: Array, parts: Array, weights: Array) -> tuple[Array, Array]:
    """Sums over parts p of weight / (1 + w p), and of weight p / (1 + w p)^2, for each w: real arithmetic is much faster here."""
    real, imaginary = 1 + w.real[:, None] * parts, w.imag[:, None] * parts
    size = real * real + imaginary * imaginary
    real, imaginary = real / size, imaginary / size  # of the conjugate of 1 / (1 + w p)
    square = real * real - imaginary * imaginary
    return real @ weights - 1j * (imaginary @ weights), square @ (weights * parts) - 2j * ((real * imaginary) @ (weights * parts))


def _angles(w: Array, parts: Array) -> Array:
    """Imaginary parts of log(1 + w p), shape (w, parts)."""
    angles: Array = np.arctan2(w.imag[:, None] * parts, 1 + w.real[:, None] * parts)
    return angles
