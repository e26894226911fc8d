"""Plain exponent and that of the population spectrum, with its interval, of codes whose truth is known."""

import json
import time

import numpy as np

from benchmarks.spectrum_bench.codes import draw
from benchmarks.timing import RESULTS, write
from eigencode.spectra import Eigenspectrum, fit_power_law

TRIALS, QUICK_TRIALS = 200, 3

FEW_IMAGES = (
    "gaussian 0.3",
    "gaussian 0.5",
    "gaussian 1.0",
    "gaussian 2.0",
    "relu 1.0",
    "lognormal 1.0",
    "t5 1.0",
    "gain 0.5",
    "gain 1.0",
    "clusters 1.0",
    "floor 1.0",
    "spikes 1.0",
    "steeper 0.5",
    "flatter 1.5",
)
"""Of 1000 units, by 300 images, over ranks 6-50."""

WIDE = ("gaussian 0.5", "gaussian 1.0", "relu 1.0", "lognormal 1.0", "t5 0.5", "t5 1.0", "gain 1.0", "clusters 1.0")
"""Of 500 units, by 800 images, over ranks 10-316."""

MANY_IMAGES = ("gaussian 0.5", "gaussian 1.0", "gaussian 2.0", "lognormal 1.0", "t5 1.0", "gain 1.0")
"""Of 200 units, by 2000 images, over ranks 6-50, and 1-10 if they are Gaussian."""

TOGETHER = (("positions", 300), ("frames", 300))
COPIES = (2, 5)
"""How samples belong together: four of an image, as positions or as frames, and near-copies of images, told as groups or not."""


def together(code, generator, count, several, share):
    """Samples in sets that have a share of their variance in common."""
    shared, own = code.sample(count, generator), code.sample(count * several, generator)
    return np.sqrt(share) * np.repeat(shared, several, axis=0) + np.sqrt(1 - share) * own


def row(code, ranks, sample, trials):
    """Bias and coverage over trials; ``sample`` gives the activations of a seed, and options."""
    truth = fit_power_law(code.eigenvalues, ranks=ranks).alpha
    found, plain, seconds = [], [], 0.0
    for seed in range(trials):
        activations, options = sample(code, np.random.default_rng(seed))
        spectrum = Eigenspectrum.from_activations(activations, seed=seed, **options)
        plain.append(spectrum.fit(ranks).alpha)
        started = time.process_time()
        found.append(spectrum.alpha_interval(ranks))
        seconds += time.process_time() - started
    estimates = np.array([each.alpha for each in found])
    closed = [each for each in found if not each.note]
    return {
        "truth": truth,
        "plain": float(np.mean(plain)),
        "bias": float(estimates.mean() - truth),
        "spread": float(estimates.std(ddof=1)),
        "median_stderr": float(np.median([each.stderr for each in found])),
        "coverage": float(np.mean([each.low <= truth <= each.high for each in closed])) if closed else None,
        "open": 1 - len(closed) / trials,
        "largest_misfit": float(max(each.misfit for each in found)),
        "cpu_seconds": seconds / trials,
        "trials": trials,
    }


def _images(count):
    return lambda code, generator: (code.sample(count, generator), {})


def _sets(count, several, share, how):
    def sample(code, generator):
        rows = together(code, generator, count, several, share)
        if how == "positions":
            return rows.reshape(count, several, -1), {"mask": np.ones((count, several), bool)}
        return rows, {"groups": np.repeat(np.arange(count), several)} if how == "frames" else {}

    return sample


def rows():
    """Name of each row, its code, window and samples."""
    for name in FEW_IMAGES:
        yield f"{name}, 300 images, 1000 units, ranks 6-50", (name, 1000), (6, 50), _images(300)
    for name in WIDE:
        yield f"{name}, 800 images, 500 units, ranks 10-316", (name, 500), (10, 316), _images(800)
    for name in MANY_IMAGES:
        for ranks in ((1, 10), (6, 50)) if name.startswith("gaussian") else ((6, 50),):
            yield f"{name}, 2000 images, 200 units, ranks {ranks[0]}-{ranks[1]}", (name, 200), ranks, _images(2000)
    for how, count in TOGETHER:
        for name in ("gaussian 0.5", "gaussian 1.0"):
            title = f"{name}, {count} images of four {how}, 100 units, ranks 6-50"
            yield title, (name, 100), (6, 50), _sets(count, 4, 0.8, how)
    for several in COPIES:
        for how in ("groups", "untold"):
            title = f"gaussian 1.0, 300 images in sets of {several} near-copies, {how}, 1000 units, ranks 6-50"
            samples = _sets(300 // several, several, 0.99, "frames" if how == "groups" else how)
            yield title, ("gaussian 1.0", 1000), (6, 50), samples


def main(*, quick=False, resume=False):
    """All rows, kept one by one; with resume=True those that are not kept yet; with quick=True a few, which are printed alone."""
    kept = RESULTS / "spectrum_bench_exponents.json"
    results = json.loads(kept.read_text())["results"] if resume and not quick and kept.exists() else {}
    trials = QUICK_TRIALS if quick else TRIALS
    for name, (kind, units), ranks, sample in list(rows())[: 2 if quick else None]:
        if name in results and not results[name].get("earlier"):  # a row of an earlier estimator is run again
            continue
        results[name] = row(draw(kind, units), ranks, sample, trials)
        print(f"{name}: {results[name]}", flush=True)
        if not quick:
            write("spectrum_bench_exponents", results, tell=False)
