import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eigencode.errors import TrainingError
from eigencode.models.papers import JiangNetwork
from eigencode.training.local_errors import LocalErrors


def networks(count=3, **sizes):
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(JiangNetwork((1, 6, 6), 5, width=11, depth=4, **sizes).double())
    return made


@pytest.fixture
def batches(generator):
    inputs = torch.rand(20, 3, 30, 36, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (20, 3, 30), generator=generator)
    return list(zip(inputs, labels, strict=True))


def test_the_update_is_autograd_of_each_layers_own_loss(batches):
    models, rates = networks(), torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    stacked = LocalErrors(models)
    for inputs, labels in batches:
        expected = []
        for number, model in enumerate(models):
            code, losses = inputs[number], []
            for layer, classifier in zip(model.layers, model.classifiers, strict=True):
                code = layer(code.detach())
                losses.append(cross_entropy(classifier(code), labels[number]))
            gradients = torch.autograd.grad(sum(losses), list(model.layers.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(model.layers.parameters(), gradients, strict=True):
                    weight -= rates[number] * gradient
            expected.append(torch.stack(losses).detach())
        losses, _ = stacked.step(inputs, labels, rates)
        assert torch.allclose(losses, torch.stack(expected), rtol=1e-10)
    for number, model in enumerate(models):
        for mine, theirs in zip(stacked.member(number).parameters(), model.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-12)


def test_nothing_crosses_layers(batches):
    """The update of a layer stays the same when the classifiers of all others are exchanged."""
    inputs, labels = batches[0]
    rates = torch.full((3,), 0.1, dtype=torch.float64)
    plain, other = LocalErrors(networks()), LocalErrors(networks())
    for number in (0, 1, 3):
        other.classifiers[number].normal_()
    plain.step(inputs, labels, rates)
    other.step(inputs, labels, rates)
    assert torch.equal(plain.weights[2], other.weights[2])
    assert not torch.equal(plain.weights[1], other.weights[1])


def test_fixed_classifiers_and_greedy_layers_stay_as_they_are(batches):
    inputs, labels = batches[0]
    stacked = LocalErrors(networks())
    weights, classifiers = [w.clone() for w in stacked.weights], [c.clone() for c in stacked.classifiers]
    stacked.step(inputs, labels, torch.full((3,), 0.1, dtype=torch.float64), layers=range(1, 2))
    changed = [not torch.equal(before, after) for before, after in zip(weights, stacked.weights, strict=True)]
    assert changed == [False, True, False, False]
    assert all(torch.equal(before, after) for before, after in zip(classifiers, stacked.classifiers, strict=True))


def test_scores_and_codes_are_those_of_the_networks(batches):
    inputs, _ = batches[0]
    models = networks()
    stacked = LocalErrors(models)
    scores, codes = stacked.scores(inputs), stacked.codes(inputs)
    for number, model in enumerate(models):
        for layer, expected in enumerate(model.local_scores(inputs[number])):
            assert torch.allclose(scores[layer, number].T, expected, atol=1e-12)
        assert torch.allclose(codes[0][number], model.layers[0](inputs[number]), atol=1e-12)


def test_refusals():
    with pytest.raises(TrainingError, match=r"got Linear\. Use jiang_mlp, or eigencode\.models\.papers\.JiangNetwork\.$"):
        LocalErrors([nn.Linear(3, 4)])
    with pytest.raises(TrainingError, match="these differ in depth or width"):
        LocalErrors([JiangNetwork(width=10), JiangNetwork(width=11)])
