"""The population's exponent by other estimators, on the samples of ``exponents`` with few images."""

import json
from functools import partial
from unittest.mock import patch

import numpy as np
from scipy.special import stdtrit

from benchmarks.spectrum_bench import exponents
from benchmarks.spectrum_bench.codes import draw
from benchmarks.timing import RESULTS, clock, write
from eigencode.spectra import Eigenspectrum, bending, fit_power_law
from eigencode.spectra.resampling import degrees_of_freedom
from eigencode.spectra.uncertainty import checked_halves
from eigencode.spectra.window import Window

TRIALS, QUICK_TRIALS = 200, 3

WIDTH = 2.5
"""Of bends, as a change of slope over a factor e of rank, where only one width is allowed."""

OF_ONE_WIDTH = ("gaussian 0.5", "floor 1.0", "spikes 1.0", "steeper 0.5", "flatter 1.5")
"""Codes on which it is tried."""


def mestre(values, degrees):
    """Population eigenvalues, each sample eigenvalue being a cluster of its own.

    Source: Mestre 2008, IEEE Trans. Inf. Theory 54(11), Theorem 3.
    """
    values = np.asarray(values)[:degrees]
    roots = np.sqrt(values)
    moved = np.linalg.eigvalsh(np.diag(values) - np.outer(roots, roots) / degrees)[::-1]
    return degrees * np.maximum(values - moved, values * np.finfo(float).eps)


def exponent_by_mestre(values, degrees, ranks):
    """Slope of the line through its estimates, which need not fall."""
    first, last = ranks
    places = np.log(np.arange(first, last + 1))
    return -float(np.polyfit(places, np.log(mestre(values, degrees)[first - 1 : last]), 1)[0])


def by_population(spectrum, ranks):
    """Exponent of the population's spectrum, and the half-width of its interval."""
    found = spectrum.alpha_interval(ranks)
    return found.alpha, (found.high - found.low) / 2


def by_one_width(spectrum, ranks):
    """Exponent of the smooth spectrum whose bends have one width, and the half-width of its interval from halves alone."""
    window = Window.of(ranks)
    with patch.multiple(bending, _SCALES=np.array([WIDTH]), _SHARES=np.ones(1)):
        population = spectrum.population_spectrum()
        halves = spectrum.half_samples, spectrum.half_counts
        halves, within = checked_halves(*halves, window, level=0.95, caller="by_one_width")
        degrees = float(np.mean(spectrum.half_counts)) - 1
        moves, _ = population.fitted.moves_of(halves, degrees=degrees, within=within)
        found = population.fitted.moved_by(moves) @ population.fitted.slope(window)
    reach = stdtrit(degrees_of_freedom(len(halves), spectrum.half_groups), 0.975)
    return population.exponent(window), float(reach * found.std(ddof=1))


ESTIMATORS = {
    "plain": lambda spectrum, ranks: (spectrum.fit(ranks).alpha, np.nan),
    "mestre": lambda spectrum, ranks: (exponent_by_mestre(spectrum.eigenvalues, spectrum.n_samples - 1, ranks), np.nan),
    "population": by_population,
    "one_width": by_one_width,
}


def row(code, ranks, sample, trials, *, names):
    """Bias and error of estimators, and coverage of those with an interval, over trials."""
    truth = fit_power_law(code.eigenvalues, ranks=ranks).alpha
    found = {name: [] for name in names}
    for seed in range(trials):
        activations, options = sample(code, np.random.default_rng(seed))
        for name in names:
            spectrum = Eigenspectrum.from_activations(activations, seed=seed, **options)
            (alpha, reach), cpu, _ = clock(partial(ESTIMATORS[name], spectrum, ranks))
            found[name].append((alpha - truth, reach, cpu))
    results = {"truth": truth, "trials": trials}
    for name, numbers in found.items():
        errors, reaches, seconds = np.array(numbers).T
        results[name] = {"bias": errors.mean(), "rmse": np.sqrt(np.mean(errors**2)), "cpu_seconds": seconds.mean()}
        if np.isfinite(reaches).all():
            covered = np.mean(np.abs(errors) <= reaches)
            results[name] |= {"coverage": covered, "median_half_width": np.median(reaches)}
    return results


def main(*, quick=False, resume=False):
    """All rows, kept one by one; with resume=True those that are not kept yet; with quick=True one, which is printed alone."""
    kept = RESULTS / "spectrum_bench_estimators.json"
    results = json.loads(kept.read_text())["results"] if resume and not quick and kept.exists() else {}
    compared = list(exponents.rows())[: len(exponents.FEW_IMAGES)]
    for name, (kind, units), ranks, sample in compared[: 1 if quick else None]:
        if name in results:
            continue
        names = [*ESTIMATORS] if kind in OF_ONE_WIDTH else ["plain", "mestre"]
        results[name] = row(draw(kind, units), ranks, sample, QUICK_TRIALS if quick else TRIALS, names=names)
        print(f"{name}: {results[name]}", flush=True)
        if not quick:
            write("spectrum_bench_estimators", results, tell=False)
