"""From nothing to a report: trains a small CNN on the bundled digits, then measures every layer, clean and under noise.

    python examples/demo.py --out demo

Takes about 15 seconds on two CPU cores; nothing is downloaded.
"""

import argparse
import sys
from pathlib import Path

import eigencode as ec
from eigencode.perturbations import GaussianNoise
from eigencode.records import measurement_record
from eigencode.reports import check_folder, print_table, write_report
from train_cnn import accuracy, train

SEED = 0
NOISE = 0.2
RANKS = (2, 30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="demo", help="folder of the report; results of an earlier demo are replaced")
    folder = Path(parser.parse_args().out)
    check_folder(folder, overwrite=True)

    training, test = ec.datasets.load("digits", split="train"), ec.datasets.load("digits", split="test")
    model = ec.models.load("schaeffer_cnn", image_shape=training.shape, seed=SEED)
    print(f"Training schaeffer_cnn on {training} ...", file=sys.stderr)
    train(model, training, epochs=10, seed=SEED)
    correct = accuracy(model, test)
    print(f"Test accuracy {correct:.3f}")

    found = ec.perturbed_spectra(model, test, GaussianNoise, strengths=[NOISE], layers="all", seed=SEED, name="noise")
    conditions = {condition.label: condition.spectra for condition in found.conditions}
    summary = found.summary(RANKS)
    record = measurement_record(
        summary,
        title="Demo: a CNN on handwritten digits, clean and with noise",
        configuration={
            "model": "schaeffer_cnn",
            "training": "10 epochs of Adam on digits/train",
            "test accuracy": round(correct, 3),
            "data": test.name,
            "images": len(test),
            "noise": f"Gaussian, standard deviation {NOISE}, not clipped",
            "layers": "all",
        },
        ranks=RANKS,
        seed=SEED,
    )
    page = write_report(folder, conditions=conditions, summary=summary, record=record)
    print_table(summary, title=f"{record['title']} (ranks {RANKS[0]}-{RANKS[1]})")
    print(f"Report: {page.resolve()}")


if __name__ == "__main__":
    main()
