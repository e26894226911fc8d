"""PGD-40 in l-infinity on 1000 images against a hand-written loop, torchattacks and foolbox: CPU time of theirs over ours."""

import warnings

import torch

from benchmarks.timing import compare, write
from eigencode import datasets, models
from eigencode._torchvision import import_torchvision
from eigencode.attacks import PGD

EPSILON, STEP, STEPS = 0.1, 0.01, 40


def plain_loop(model, inputs, labels):
    """What one writes by hand: sum of the cross entropy, its gradient, step, two clamps."""
    images = inputs.clone()
    for _ in range(STEPS):
        images.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(images), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        images = images.detach() + STEP * gradient.sign()
        images = torch.minimum(torch.maximum(images, inputs - EPSILON), inputs + EPSILON).clamp(0, 1)
    return images


def peers():
    import_torchvision("datasets")  # torchattacks imports torchvision by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox
        import torchattacks

    def with_torchattacks(model, inputs, labels):
        return torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)(inputs, labels)

    def with_foolbox(model, inputs, labels):
        attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
        return attack.run(foolbox.PyTorchModel(model, bounds=(0, 1)), inputs, labels, epsilon=EPSILON)

    return {"plain loop": plain_loop, "torchattacks": with_torchattacks, "foolbox": with_foolbox}


def main():
    results = {}
    for data, name in (("mnist", "gerum_shallow_mlp"), ("cifar10", "schaeffer_cnn")):
        images = datasets.load(data, count=1000)
        model = models.load(name, image_shape=images.shape).eval()
        inputs, labels = images.inputs, images.labels

        def ours(model=model, inputs=inputs, labels=labels):
            return PGD(steps=STEPS, step_size=STEP)(model, inputs, labels, epsilon=EPSILON).images

        for peer, attack in peers().items():

            def theirs(attack=attack, model=model, inputs=inputs, labels=labels):
                return attack(model, inputs, labels)

            times, found = compare(ours, theirs, repeats=7)
            different = float(((found["ours"] - found["theirs"]).abs() > 1e-6).double().mean())
            results[f"{name} on {data}, {peer}"] = {**times, "pixels_that_differ": different}
    write("attack_speed", results)
