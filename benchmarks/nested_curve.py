"""Accuracy at 20 budgets: a nested curve of ours against 20 independent PGD-40 attacks of torchattacks, 1000 images.

What is gained depends on how many images are left standing over the budgets: much where accuracy falls early.
"""

import sys
from pathlib import Path

import torch

from benchmarks.timing import compare, write
from eigencode import datasets, models
from eigencode._torchvision import import_torchvision
from eigencode.attacks import PGD, robustness_curve

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from train_cnn import train

EPSILONS = [number / 100 for number in range(20)]


def main():
    import_torchvision("datasets")  # torchattacks imports torchvision by itself
    import torchattacks

    results = {}
    for name, data, repeats, probes in (
        ("gerum_shallow_mlp", "mnist", 3, (0, 100)),
        ("schaeffer_cnn", "cifar10", 1, (100,)),
        ("gerum_cnn", "mnist", 1, (100,)),
    ):
        training, images = datasets.load(data, split="train"), datasets.load(data, count=1000)
        model = models.load(name, image_shape=training.shape)
        train(model, training, epochs=1)

        def independent(model=model, images=images):
            found = []
            for epsilon in EPSILONS:
                attack = torchattacks.PGD(model, eps=epsilon, alpha=0.01, steps=40, random_start=False)
                adversarial = attack(images.inputs, images.labels)
                with torch.no_grad():
                    clean = model(images.inputs).argmax(1) == images.labels
                    found.append(float((clean & (model(adversarial).argmax(1) == images.labels)).double().mean()))
            return found

        for probe in probes:

            def nested(model=model, images=images, probe=probe):
                curve = robustness_curve(model, images, PGD(), epsilons=EPSILONS, mode="nested", probe=probe, batch_size=1000)
                return [point.accuracy for point in curve.points]

            times, found = compare(nested, independent, repeats=repeats)
            higher = max(ours - theirs for ours, theirs in zip(found["ours"], found["theirs"], strict=True))
            results[f"{name} on {data}, {probe} probe images"] = {
                **times,
                "highest_accuracy_above_theirs": higher,
                "accuracies": found["ours"],
                "accuracies_of_independent": found["theirs"],
            }
    write("nested_curve", results)
