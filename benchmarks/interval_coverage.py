"""How often the nominal 95 % interval holds the true exponent of Gaussian codes: 200 trials of each setting, six minutes."""

import torch

from benchmarks.timing import write
from eigencode.spectra import Eigenspectrum

TRIALS = 200
SIZES = ((2000, 200, (6, 50)), (2000, 200, (1, 10)), (500, 300, (6, 50)), (500, 1000, (6, 50)))


def trial(alpha, n_samples, n_features, ranks, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, n_features + 1, dtype=torch.float64) ** (-alpha / 2)
    code = torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64) * scale
    spectrum = Eigenspectrum.from_activations(code, seed=seed)
    return spectrum.fit(ranks).alpha, spectrum.alpha_interval(ranks)


def main():
    results = {}
    for alpha in (0.5, 1.0, 2.0):
        for n_samples, n_features, ranks in SIZES:
            trials = [trial(alpha, n_samples, n_features, ranks, seed) for seed in range(TRIALS)]
            plain, intervals = zip(*trials, strict=True)
            results[f"alpha {alpha}, {n_samples} images, {n_features} units, ranks {ranks[0]}-{ranks[1]}"] = {
                "coverage": sum(interval.low <= alpha <= interval.high for interval in intervals) / TRIALS,
                "plain_alpha": sum(plain) / TRIALS,
                "corrected_alpha": sum(interval.alpha for interval in intervals) / TRIALS,
                "half_width": sum(interval.high - interval.low for interval in intervals) / 2 / TRIALS,
            }
    write("interval_coverage", results)
