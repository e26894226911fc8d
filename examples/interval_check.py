"""Does the interval from few images hold the exponent of many? Checked on real codes, where 50 000 images stand for the truth.

    python examples/interval_check.py --weights schaeffer_cifar10.safetensors

For three layers of a CNN trained on CIFAR-10 (see train_cnn.py) and three windows: the exponent of all 50 000 training images,
and from random subsets the plain exponent, the corrected one, and how often the 95 % interval holds the truth.
Takes about twelve minutes on one core.
"""

import argparse

import numpy as np
import pandas as pd
import torch

import eigencode as ec

LAYERS = ("pool2", "relu3", "relu4")
WINDOWS = ("jiang", "gerum", "schaeffer")
COUNTS = (700, 3000)


def check(code, window, *, count, subsets):
    """One row of the table."""
    truth = ec.Eigenspectrum.from_activations(code, half_samples=0).fit(window).alpha
    plain, intervals = [], []
    for seed in range(subsets):
        chosen = torch.randperm(len(code), generator=torch.Generator().manual_seed(seed))[:count]
        spectrum = ec.Eigenspectrum.from_activations(code[chosen], seed=seed)
        plain.append(spectrum.fit(window).alpha)
        intervals.append(spectrum.alpha_interval(window))
    return {
        "ranks": "{}-{}".format(*intervals[0].ranks),
        "all images": truth,
        "images": count,
        "plain": np.mean(plain),
        "corrected": np.mean([interval.alpha for interval in intervals]),
        "half-width": np.mean([(interval.high - interval.low) / 2 for interval in intervals]),
        "intervals that hold the truth": sum(interval.low <= truth <= interval.high for interval in intervals),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    options = parser.parse_args()
    images = ec.datasets.load(options.data, split="train")
    model = ec.models.load("schaeffer_cnn", image_shape=images.shape, weights=options.weights)
    rows = []
    for layer in LAYERS:
        code = ec.collect(model, images, layer=layer)
        for window in WINDOWS:
            for count in options.counts:
                try:
                    rows.append({"layer": layer, **check(code, window, count=count, subsets=options.subsets)})
                except ec.EigencodeError as error:
                    print(f"{layer}, {window}, {count} images: {error}")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
