"""Adversarial images equal to those of torchattacks and foolbox where both do the same thing."""

import warnings

import pytest
import torch
from torch import nn

from eigencode import datasets, models
from eigencode._torchvision import import_torchvision
from eigencode.attacks import ArtAttack, fgsm, pgd

SAME = 1e-6
STEPS, STEP = 10, {"linf": 0.01, "l2": 0.2}
EPSILON = {"linf": 0.05, "l2": 1.0}


@pytest.fixture(scope="module")
def peers():
    import_torchvision("datasets")  # torchattacks imports torchvision by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox
        import torchattacks

    return torchattacks, foolbox


@pytest.fixture(params=["digits", pytest.param("mnist", marks=pytest.mark.real_data("mnist")), "normalised"])
def case(request, trained_cnn):
    """Network and images in float64: in float32 a gradient near zero may change its sign with the order of summation."""
    if request.param == "mnist":
        images = datasets.load("mnist", count=60)
        model = models.load("gerum_cnn", image_shape=images.shape)
    else:
        images, model = datasets.load("digits", count=60), trained_cnn
    if request.param == "normalised":
        model = nn.Sequential(model)
        models.normalize_inputs(model, mean=(0.3,), std=(0.4,))
    model = model.double().eval()
    yield model, images.inputs.double(), images.labels
    model.float()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_torchattacks(peers, case, norm):
    torchattacks, _ = peers
    model, inputs, labels = case
    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    theirs = kind(model, eps=EPSILON[norm], alpha=STEP[norm], steps=STEPS, random_start=False)
    # it averages the loss over the batch and adds 1e-10 to l2 lengths: image by image both vanish
    expected = torch.cat([theirs(inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))])
    found = pgd(model, inputs, labels, epsilon=EPSILON[norm], norm=norm, steps=STEPS, step_size=STEP[norm])
    assert float((found - expected).abs().max()) < SAME
    if norm == "linf":
        expected = torchattacks.FGSM(model, eps=0.05)(inputs, labels)
        assert float((fgsm(model, inputs, labels, epsilon=0.05) - expected).abs().max()) < SAME


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_foolbox(peers, case, norm):
    _, foolbox = peers
    model, inputs, labels = case
    attacks = foolbox.attacks
    one, many = {
        "linf": (attacks.LinfFastGradientAttack, attacks.LinfProjectedGradientDescentAttack),
        "l2": (attacks.L2FastGradientAttack, attacks.L2ProjectedGradientDescentAttack),
    }[norm]
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    theirs = many(abs_stepsize=STEP[norm], steps=STEPS, random_start=False)
    expected = theirs.run(wrapped, inputs, labels, epsilon=EPSILON[norm])
    found = pgd(model, inputs, labels, epsilon=EPSILON[norm], norm=norm, steps=STEPS, step_size=STEP[norm])
    assert float((found - expected).abs().max()) < SAME
    expected = one(random_start=False).run(wrapped, inputs, labels, epsilon=EPSILON[norm])
    assert float((fgsm(model, inputs, labels, epsilon=EPSILON[norm], norm=norm) - expected).abs().max()) < SAME


def test_adversarial_robustness_toolbox(trained_cnn, digits):
    inputs, labels = digits.inputs[:100], digits.labels[:100]
    theirs = ArtAttack("ProjectedGradientDescent", options={"max_iter": STEPS, "eps_step": 0.01})
    expected = theirs(trained_cnn, inputs, labels, epsilon=0.05).images
    found = pgd(trained_cnn, inputs, labels, epsilon=0.05, steps=STEPS, step_size=0.01)
    assert float(((found - expected).abs() > SAME).double().mean()) < 1e-3  # signs of gradients at the float32 rounding error
