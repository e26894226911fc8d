"""Recordings whose signal is known: laws, noise and shares of signal, and the estimators tried on them."""

import json
import time
from functools import partial

import numpy as np

from benchmarks.timing import RESULTS, write
from eigencode.errors import SpectrumError
from eigencode.spectra import cvpca, dimension_of_all_units, signal_spectrum

TRIALS, QUICK_TRIALS = 200, 3
EXPONENTS = (0.7, 1.0, 1.7)
FRACTIONS = (0.05, 0.2, 1.0)
FEW = (600, 300)
LARGER = (((1500, 600), 0.7, 0.2), ((1500, 600), 1.7, 0.05), ((2800, 1000), 1.0, 0.1))
"""Stimuli and neurons; of more of them, the exponent and the share of signal, in coloured noise."""

BROKEN = ((0.5, 2.0, 20, 0.3), (0.7, 1.5, 20, 0.3), (1.0, 0.5, 20, 0.3), (0.5, 2.0, 20, 0.1))
"""Exponents before and after the rank of the break, and share of signal."""

NOISE_EXPONENT = 0.8
"""Of coloured noise, whose directions have nothing to do with those of the signal."""


DIRECTIONS, SAMPLED_LAW, SAMPLED_SHARE, SPREAD_OF_GAINS = 400, (1.2,), 0.4, 0.35
"""Of signals that a sample of neurons reads: directions, their law, share of signal, and standard deviation of log gains."""

SAMPLED = (
    ("normal weights", (300, 100)),
    ("neurons' gains", (300, 100)),
    ("t5 stimuli", (300, 100)),
    ("neurons' gains", (300, 300)),
)
"""What varies beside the signal; stimuli and neurons."""


def law(neurons, alpha, second=None, rank=None):
    ranks = np.arange(1, neurons + 1.0)
    if second is None:
        return ranks**-alpha
    return np.where(ranks < rank, ranks**-alpha, rank ** (second - alpha) * ranks**-second)


def recording(generator, stimuli, values, fraction, *, coloured, gain=False):
    """Responses to two repeats, shape (2, stimuli, neurons)."""
    neurons = len(values)
    signal = generator.standard_normal((stimuli, neurons)) * np.sqrt(values)
    if gain:
        signal *= np.sqrt(generator.gamma(4, 1 / 4, (stimuli, 1)))
    spread = np.arange(1, neurons + 1.0) ** -NOISE_EXPONENT if coloured else np.ones(neurons)
    spread *= values.sum() * (1 / fraction - 1) / spread.sum()
    noise = generator.standard_normal((2, stimuli, neurons)) * np.sqrt(spread)
    if coloured:
        noise = noise @ np.linalg.qr(generator.standard_normal((neurons, neurons)))[0]
    return signal + noise


def _covers(interval, truth):
    return interval.low <= truth <= interval.high


def row(size, alpha, fraction, trials, *, coloured, gain=False, with_cvpca=False):
    """Exponent, dimension and share of signal of one power law; of cvPCA the slope over ranks 11 to 100."""
    stimuli, neurons = size
    values = law(neurons, alpha)
    dimension = values.sum() ** 2 / (values**2).sum()
    found, old, seconds = [], [], 0.0
    for seed in range(trials):
        responses = recording(np.random.default_rng(seed), stimuli, values, fraction, coloured=coloured, gain=gain)
        started = time.process_time()
        found.append(signal_spectrum(responses))
        seconds += time.process_time() - started
        if with_cvpca:
            try:
                old.append(cvpca(responses, shuffles=2, seed=seed).fit(ranks=(11, 100)).alpha)
            except SpectrumError:
                old.append(np.nan)
    exponents = np.array([each.alpha.value for each in found])
    known = exponents[~np.isnan(exponents)]
    fractions = np.array([each.signal_fraction.value for each in found])
    return {
        "truth": alpha,
        "alpha": float(known.mean()),
        "bias": float(known.mean() - alpha),
        "median_bias": float(np.median(known) - alpha),
        "spread": float(known.std()),
        "coverage": float(np.mean([_covers(each.alpha, alpha) for each in found])),
        "not_determined": float(np.isnan(exponents).mean()),
        "open_below": float(np.mean([each.alpha.low == 0 for each in found])),
        "dimension_bias": float(np.nanmean([each.dimension.value for each in found]) / dimension - 1),
        "fraction_bias": float(fractions.mean() - fraction),
        "fraction_coverage": float(np.mean([_covers(each.signal_fraction, fraction) for each in found])),
        "agreement_below_0.05": float(np.mean([each.agreement < 0.05 for each in found])),
        "cvpca": float(np.nanmean(old)) if old and not np.isnan(old).all() else None,
        "cvpca_without_fit": float(np.isnan(old).mean()) if old else None,
        "seconds": seconds / trials,
        "trials": trials,
    }


def broken_row(size, first, second, rank, fraction, trials):
    """Both exponents and the rank of one broken law, and how often a single exponent is said not to do."""
    stimuli, neurons = size
    values = law(neurons, first, second, rank)
    found, flagged = [], []
    for seed in range(trials):
        responses = recording(np.random.default_rng(seed), stimuli, values, fraction, coloured=False)
        signal = signal_spectrum(responses)
        flagged.append(signal.agreement < 0.05)
        try:
            found.append(signal.broken_power_law())
        except SpectrumError:
            continue
    result = {"agreement_below_0.05": float(np.mean(flagged)), "determined": len(found) / trials, "trials": trials}
    for name, truth in (("first", first), ("second", second), ("rank", rank)):
        intervals = [getattr(each, name) for each in found]
        result |= {
            f"{name}_truth": truth,
            f"{name}_median": float(np.median([each.value for each in intervals])),
            f"{name}_coverage": float(np.mean([_covers(each, truth) for each in intervals])),
        }
    return result


def read_by_neurons(generator, kind, size):
    """Responses of neurons that weigh the directions of a power law at random, and the share of signal of all neurons."""
    stimuli, neurons = size
    values = law(DIRECTIONS, *SAMPLED_LAW)
    code = generator.standard_normal((stimuli, DIRECTIONS))
    if kind == "t5 stimuli":
        code *= np.sqrt(3 / generator.chisquare(5, (stimuli, 1)))
    weights = generator.standard_normal((DIRECTIONS, neurons)) * np.sqrt(values)[:, None]
    gains = np.exp(SPREAD_OF_GAINS * generator.standard_normal(neurons)) if kind == "neurons' gains" else 1.0
    noise = generator.standard_normal((2, stimuli, neurons)) * np.sqrt(values.sum() * (1 / SAMPLED_SHARE - 1))
    return (code @ weights + noise) * gains


def sampled_row(kind, size, trials):
    """Dimension in all neurons that the recorded ones are a sample of, of the signal and of one presentation."""
    values = law(DIRECTIONS, *SAMPLED_LAW)
    truth = float(values.sum() ** 2 / (values**2).sum())
    of_one = truth / SAMPLED_SHARE**2  # noise that neurons do not share is variance too
    found, once, seconds = [], [], 0.0
    for seed in range(trials):
        responses = read_by_neurons(np.random.default_rng(seed), kind, size)
        started = time.process_time()
        found.append(signal_spectrum(responses, neurons="sampled"))
        seconds += time.process_time() - started
        once.append(dimension_of_all_units(responses[0]))
    of_all = [each.dimension_of_all_neurons for each in found]
    return {
        "truth": truth,
        "dimension": float(np.mean([each.value for each in of_all])),
        "dimension_bias": float(np.mean([each.value for each in of_all]) / truth - 1),
        "coverage": float(np.mean([_covers(each, truth) for each in of_all])),
        "of_these_neurons": float(np.mean([each.dimension.value for each in found])),
        "fraction_coverage": float(np.mean([_covers(each.signal_fraction, SAMPLED_SHARE) for each in found])),
        "one_presentation_truth": of_one,
        "one_presentation_bias": float(np.mean([each.dimension for each in once]) / of_one - 1),
        "one_presentation_coverage": float(np.mean([each.low <= of_one <= each.high for each in once])),
        "seconds": seconds / trials,
        "trials": trials,
    }


def _name(size, alpha, fraction, noise):
    return f"signal, alpha {alpha}, share {fraction}, {noise}, {size[0]} stimuli, {size[1]} neurons"


def rows(*, quick, trials):
    """Name of each row and how it is found."""
    for noise in ("white noise", "coloured noise"):
        for alpha in (1.0,) if quick else EXPONENTS:
            for fraction in (0.2,) if quick else FRACTIONS:
                options = {"coloured": noise.startswith("coloured"), "with_cvpca": noise.startswith("white")}
                yield _name(FEW, alpha, fraction, noise), partial(row, FEW, alpha, fraction, trials, **options)
    for law_of in BROKEN[: 1 if quick else None]:
        name = (
            f"broken signal, {law_of[0]} to {law_of[1]} at {law_of[2]}, share {law_of[3]}, white noise, 1000 stimuli, 500 neurons"
        )
        yield name, partial(broken_row, (1000, 500), *law_of, trials)
    if quick:
        return
    for alpha in (0.7, 1.7):
        options = {"coloured": False, "gain": True}
        yield _name(FEW, alpha, 0.5, "white noise and gains"), partial(row, FEW, alpha, 0.5, trials, **options)
    for kind, size in SAMPLED:
        yield f"sampled neurons, {kind}, {size[0]} stimuli, {size[1]} neurons", partial(sampled_row, kind, size, trials)
    for size, alpha, fraction in LARGER:
        yield _name(size, alpha, fraction, "coloured noise"), partial(row, size, alpha, fraction, trials, coloured=True)


def main(*, quick=False, resume=False):
    """All rows, kept one by one; with resume=True those that are not kept yet; with quick=True a few, which are printed alone."""
    kept = RESULTS / "spectrum_bench_signals.json"
    results = json.loads(kept.read_text())["results"] if resume and not quick else {}
    for name, find in rows(quick=quick, trials=QUICK_TRIALS if quick else TRIALS):
        if name in results:
            continue
        results[name] = find()
        print(f"{name}: {results[name]}", flush=True)
        if not quick:
            write("spectrum_bench_signals", results, tell=False)
