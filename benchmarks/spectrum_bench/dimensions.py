"""Plain and unbiased dimension of codes whose truth is known."""

import sys
import time

import numpy as np

from benchmarks.spectrum_bench.codes import CODES, draw
from benchmarks.timing import write
from eigencode.spectra import Eigenspectrum

TRIALS, QUICK_TRIALS = 200, 3
UNITS = 1000
COUNTS = (100, 300, 1000)
"""Images, each a sample of its own."""

TOGETHER = (("positions", 300), ("frames", 300))
"""How samples belong together, and images."""

QUICK = ("gaussian 0.5", "t5 1.0")


def spectrum_of(code, seed, together):
    """What is measured of a sample: its halves are few, since the dimension needs their groups alone."""
    generator = np.random.default_rng(seed)
    count, how = together
    if how is None:
        return Eigenspectrum.from_activations(code.sample(count, generator), half_samples=2, seed=seed)
    several = 4  # of an image: they share four fifths of their variance
    shared, own = code.sample(count, generator), code.sample(count * several, generator)
    rows = np.sqrt(0.8) * np.repeat(shared, several, axis=0) + np.sqrt(0.2) * own
    if how == "positions":
        mask = np.ones((count, several), bool)
        return Eigenspectrum.from_activations(rows.reshape(count, several, -1), mask=mask, half_samples=2, seed=seed)
    return Eigenspectrum.from_activations(rows, groups=np.repeat(np.arange(count), several), half_samples=2, seed=seed)


def dimension_row(code, together, trials):
    """Plain and unbiased dimension of one code."""
    plain, found, seconds = [], [], 0.0
    for seed in range(trials):
        spectrum = spectrum_of(code, seed, together)
        plain.append(spectrum.dimension)
        started = time.process_time()
        found.append(spectrum.population_dimension())
        seconds += time.process_time() - started
    dimensions = np.array([each.dimension for each in found])
    return {
        "truth": code.dimension,
        "plain": float(np.mean(plain)),
        "unbiased": float(dimensions.mean()),
        "bias": float(dimensions.mean() / code.dimension - 1),
        "median_bias": float(np.median(dimensions) / code.dimension - 1),
        "spread_of_logarithm": float(np.log(dimensions).std()),
        "mean_stderr": float(np.mean([each.stderr for each in found])),
        "coverage": float(np.mean([each.low <= code.dimension <= each.high for each in found])),
        "trials": trials,
    }


def main(*, quick=False):
    """All rows; with quick=True, a few, which are printed alone."""
    trials = QUICK_TRIALS if quick else TRIALS
    results = {}
    for name in QUICK if quick else CODES:
        code = draw(name, UNITS)
        for count in COUNTS[: 2 if quick else None]:
            results[f"D, {name}, {count} images, {UNITS} units"] = dimension_row(code, (count, None), trials)
        few = draw(name, UNITS // 10)
        results[f"D, {name}, {COUNTS[-1]} images, {UNITS // 10} units"] = dimension_row(few, (COUNTS[-1], None), trials)
        if few.is_gaussian:
            for how, count in TOGETHER:
                row = dimension_row(few, (count, how), trials)
                results[f"D, {name}, {count} images of four {how}, {UNITS // 10} units"] = row
    if not quick:
        write("spectrum_bench_dimensions", results)
        return
    for key, value in results.items():
        print(f"{key}: {value}", file=sys.stdout)
