"""Codes whose population covariance is known: spectra, tails and dependences of many kinds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Code:
    """A population: how samples are drawn, shape (n, f), and its covariance's eigenvalues."""

    sample: Callable[[int, np.random.Generator], np.ndarray]
    eigenvalues: np.ndarray
    is_gaussian: bool = False

    @property
    def dimension(self):
        """Participation ratio of the population."""
        return float(self.eigenvalues.sum() ** 2 / (self.eigenvalues**2).sum())


def power_law(alpha, units):
    return np.arange(1, units + 1.0) ** -alpha


def gaussian(alpha, units):
    values = power_law(alpha, units)
    return Code(lambda n, g: g.standard_normal((n, units)) * np.sqrt(values), values, is_gaussian=True)


def t5(alpha, units):
    """Units are independent, each with Student's t of five degrees of freedom."""
    values = power_law(alpha, units)
    return Code(lambda n, g: g.standard_t(5, (n, units)) * np.sqrt(values * 3 / 5), values)


def gain(alpha, units):
    """All units of an image share a random gain: Student's t of five degrees of freedom in many dimensions."""
    values = power_law(alpha, units)

    def sample(n, g):
        return g.standard_normal((n, units)) * np.sqrt(values * 3 / g.chisquare(5, (n, 1)))

    return Code(sample, values)


def _mixed(alpha, units):
    """Square root of a covariance whose principal components are no single units."""
    generator = np.random.default_rng(SEED)
    directions = np.linalg.qr(generator.standard_normal((units, units)))[0]
    return directions * np.sqrt(power_law(alpha, units))


def relu(alpha, units):
    """Rectified Gaussian: the covariance is known in closed form (Cho and Saul 2009)."""
    root = _mixed(alpha, units)
    covariance = root @ root.T
    scale = np.sqrt(np.diag(covariance))
    pairs = np.outer(scale, scale)
    correlation = np.clip(covariance / pairs, -1, 1)
    angle = np.arccos(correlation)
    rectified = pairs / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * correlation - 1)
    return Code(lambda n, g: np.maximum(0, g.standard_normal((n, units)) @ root.T), np.linalg.eigvalsh(rectified)[::-1])


def lognormal(alpha, units):
    """Exponentials of a Gaussian whose units have variance 1/2 on average, as rates of neurons."""
    root = _mixed(alpha, units)
    root *= np.sqrt(units / 2 / (root**2).sum())
    covariance = root @ root.T
    variance = np.diag(covariance)
    rates = np.exp((variance[:, None] + variance) / 2) * np.expm1(covariance)
    return Code(lambda n, g: np.exp(g.standard_normal((n, units)) @ root.T), np.linalg.eigvalsh(rates)[::-1])


def clusters(alpha, units):
    """Ten classes, apart from each other by twice the spread within."""
    values = power_law(alpha, units)
    centres = np.random.default_rng(SEED).standard_normal((10, units)) * 2 * np.sqrt(values.mean())
    apart = centres - centres.mean(axis=0)
    covariance = np.diag(values) + apart.T @ apart / 10

    def sample(n, g):
        return centres[g.integers(0, 10, n)] + g.standard_normal((n, units)) * np.sqrt(values)

    return Code(sample, np.linalg.eigvalsh(covariance)[::-1])


def _of_variances(values):
    return Code(lambda n, g: g.standard_normal((n, len(values))) * np.sqrt(values), values, is_gaussian=True)


def floor(alpha, units):
    """A power law and white noise of a fiftieth of its first variance."""
    return _of_variances(power_law(alpha, units) + 0.02)


def spikes(alpha, units):
    """A power law whose first five variances are ten times as large."""
    return _of_variances(power_law(alpha, units) * np.where(np.arange(units) < 5, 10.0, 1.0))


def steeper(alpha, units):
    """A slower decay up to rank 20, an exponent larger by 1.5 from there."""
    ranks = np.arange(1, units + 1.0)
    return _of_variances((ranks / 20) ** np.where(ranks < 20, -alpha, -alpha - 1.5))


def flatter(alpha, units):
    """A faster decay up to rank 20, an exponent smaller by 1 from there."""
    ranks = np.arange(1, units + 1.0)
    return _of_variances((ranks / 20) ** np.where(ranks < 20, -alpha, 1 - alpha))


def _broken(rank):
    """Power laws whose exponent is larger by 0.5 from a rank on."""

    def of(alpha, units):
        ranks = np.arange(1, units + 1.0) / rank
        return _of_variances(ranks ** np.where(ranks < 1, -alpha, -alpha - 0.5))

    return of


KINDS = {
    "gaussian": gaussian,
    "t5": t5,
    "gain": gain,
    "relu": relu,
    "lognormal": lognormal,
    "clusters": clusters,
    "floor": floor,
    "spikes": spikes,
    "steeper": steeper,
    "flatter": flatter,
    **{f"break{rank}": _broken(rank) for rank in (10, 20, 35, 55)},
}

CODES = (
    "gaussian 0.3",
    "gaussian 0.5",
    "gaussian 1.0",
    "gaussian 1.5",
    "relu 1.0",
    "lognormal 1.0",
    "t5 0.5",
    "t5 1.0",
    "gain 0.5",
    "gain 1.0",
    "clusters 1.0",
)


def draw(name, units):
    """The code of a name such as "t5 1.0"."""
    kind, alpha = name.split()
    return KINDS[kind](float(alpha), units)
