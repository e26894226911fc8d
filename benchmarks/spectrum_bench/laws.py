"""Size and power of the test of a power law, and the rank of a break, of codes whose truth is known."""

import json
import time

import numpy as np

from benchmarks.spectrum_bench.codes import draw
from benchmarks.timing import RESULTS, write
from eigencode.spectra import Eigenspectrum

TRIALS, QUICK_TRIALS = 200, 3

STRAIGHT = ("gaussian 0.5", "gaussian 1.0", "gaussian 2.0", "t5 1.0", "gain 1.0")
BENT = ("break10 1.0", "break20 1.0", "break35 1.0")
"""An exponent larger by 0.5 from rank 10, 20 and 35 on."""

SETTINGS = ((300, 1000, (6, 50)), (1000, 1000, (6, 50)), (1000, 500, (10, 316)))
"""Images, units, window."""


def row(code, ranks, images, trials, *, broken_at=None):
    """How often a power law is rejected, and what is said of the break."""
    found, seconds = [], 0.0
    for seed in range(trials):
        spectrum = Eigenspectrum.from_activations(code.sample(images, np.random.default_rng(seed)), seed=seed)
        spectrum.population_spectrum()
        started = time.process_time()
        found.append(spectrum.power_law_test(ranks))
        seconds += time.process_time() - started
    told = [each for each in found if not each.note]
    return {
        "rejected": float(np.mean([each.answer == "bends" for each in found])),
        "no_bend": float(np.mean([each.answer == "no bend" for each in found])),
        "cannot_tell": float(np.mean([each.answer == "cannot tell" for each in found])),
        "mean_bend": float(np.mean([each.bend.value for each in told])),
        "spread": float(np.std([each.bend.value for each in told], ddof=1)),
        "median_rank": float(np.median([each.rank.value for each in told])),
        "rank_coverage": None if broken_at is None else np.mean([each.rank.low <= broken_at <= each.rank.high for each in told]),
        "before": float(np.median([each.before for each in told])),
        "after": float(np.median([each.after for each in told])),
        "cpu_seconds": seconds / trials,
        "trials": trials,
    }


def rows():
    """Name of each row, its code, window, images and the rank of its break."""
    for images, units, ranks in SETTINGS:
        where = f"{images} images, {units} units, ranks {ranks[0]}-{ranks[1]}"
        for name in STRAIGHT:
            yield f"{name}, {where}", (name, units), ranks, images, None
        for name in BENT if ranks == (6, 50) else ("break55 1.0",):
            yield f"{name}, {where}", (name, units), ranks, images, float(name.split()[0].removeprefix("break"))


def main(*, quick=False, resume=False):
    """All rows, kept one by one; with resume=True those that are not kept yet; with quick=True a few, which are printed alone."""
    kept = RESULTS / "spectrum_bench_laws.json"
    results = json.loads(kept.read_text())["results"] if resume and not quick and kept.exists() else {}
    trials = QUICK_TRIALS if quick else TRIALS
    for name, (kind, units), ranks, images, broken_at in list(rows())[: 2 if quick else None]:
        if name in results and not results[name].get("earlier"):  # a row of an earlier estimator is run again
            continue
        results[name] = row(draw(kind, units), ranks, images, trials, broken_at=broken_at)
        print(f"{name}: {results[name]}", flush=True)
        if not quick:
            write("spectrum_bench_laws", results, tell=False)
