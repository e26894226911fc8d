"""Networks whose forward pass or output is not what an attack expects."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import eigencode as ec
from eigencode.attacks import PGD, robustness_curve
from eigencode.errors import AttackError, PenaltyError


@pytest.fixture
def images(generator):
    return torch.rand(120, 1, 4, 4, generator=generator), torch.arange(120) % 3


def _layers():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


class InPlace(nn.Module):
    """Normalises the images that it is given."""

    def __init__(self, *, really):
        super().__init__()
        self.inner, self.really = _layers(), really

    def forward(self, x):
        return self.inner(x.sub_(0.5).div_(0.25) if self.really else (x - 0.5) / 0.25)


def _pair(kind, **options):
    pair = [kind(really=really, **options) for really in (True, False)]
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


@pytest.mark.parametrize("attack", [ec.attacks.fgsm, ec.attacks.pgd])
def test_a_network_that_works_in_place_is_attacked_as_any_other(images, attack):
    inputs, labels = images
    before = inputs.clone()
    found = [attack(network, inputs, labels, epsilon=0.1) for network in _pair(InPlace)]
    assert torch.equal(*found)
    assert torch.equal(inputs, before)


def test_a_network_that_works_in_place_has_a_jacobian(images):
    inputs, _ = images
    before = inputs.clone()
    pair = _pair(InPlace)
    found = [float(ec.penalties.jacobian_penalty(network, inputs).detach()) for network in pair]
    assert found[0] == found[1]
    assert torch.equal(inputs, before)
    spectra = [ec.measure(network, inputs, layers="head")["inner.2"].dimension for network in pair for _ in range(2)]
    assert len(set(spectra)) == 1
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_a_network_of_another_type_gets_images_of_its_type(images, kind):
    inputs, labels = images
    network = _layers()
    other = _layers().to(kind)
    other.load_state_dict(network.state_dict())
    found, expected = (ec.attacks.fgsm(each, inputs, labels, epsilon=0.1) for each in (other, network))
    assert found.dtype == inputs.dtype
    assert float((found == expected).double().mean()) > 0.95
    codes = [ec.collect(each, inputs, layer="head") for each in (other, network)]
    assert codes[0].dtype == kind
    assert torch.allclose(codes[0].double(), codes[1].double(), atol=0.02)


class LeavesTorch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = _layers()

    def forward(self, x):
        return self.inner(torch.from_numpy(x.numpy()))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = _layers()

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


def _inference():
    with torch.inference_mode():
        return _layers()


@pytest.mark.parametrize("make", [LeavesTorch, Checkpointed, _inference])
def test_no_gradient_can_be_followed(images, make):
    with pytest.raises(AttackError, match="[Nn]o gradient can be followed through this network") as caught:
        ec.attacks.fgsm(make(), *images, epsilon=0.1)
    assert len(str(caught.value).splitlines()) == 1


def test_one_score_for_each_image_is_refused(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    for labels in (images[1] % 2, torch.zeros(120, dtype=torch.int64)):
        with pytest.raises(AttackError, match=r"returns one score for each image.*torch\.cat\(\[-y, y\], dim=1\)"):
            ec.attacks.fgsm(network, images[0], labels, epsilon=0.1)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Tanh()])
def test_squashed_scores_are_flagged(images, last):
    inputs, _ = images
    network = _layers()
    network[3].weight.data *= 8
    with torch.no_grad():
        labels = network(inputs).argmax(dim=1)

    def flags(model):
        curve = robustness_curve(model, ec.ImageSet(inputs, labels), PGD(steps=2), epsilons=[0.05], probe=0)
        return {flag for point in curve.points for flag in point.flags}

    assert "squashed" in flags(nn.Sequential(network, last))
    assert "squashed" not in flags(network)


def test_accuracy_at_chance_is_flagged(images):
    inputs, labels = images
    network = _layers()
    with torch.no_grad():
        right = network(inputs).argmax(dim=1)
    for given, is_flagged in ((labels, True), (right, False)):
        curve = robustness_curve(network, ec.ImageSet(inputs, given), PGD(steps=2), epsilons=[0.05], probe=0)
        assert ("not_above_chance" in curve.points[0].flags) == is_flagged


def test_the_jacobian_of_other_outputs(images):
    inputs, _ = images
    linear = nn.Linear(16, 1)
    regression = ec.penalties.jacobian_penalty(lambda x: linear(x.flatten(1)).squeeze(1), inputs)
    assert float(regression.detach()) == pytest.approx(float(linear.weight.detach().norm()))
    with pytest.raises(PenaltyError, match=r"must return one tensor with a row for each of 120 images; got tuple\. Wrap it"):
        ec.penalties.jacobian_penalty(lambda x: (x, x), inputs)
