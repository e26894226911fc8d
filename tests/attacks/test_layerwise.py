import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eigencode import datasets, models, perturbed_spectra
from eigencode.attacks import LayerAttack
from eigencode.errors import AttackError


@pytest.fixture(scope="module")
def jiang():
    torch.manual_seed(3)
    return models.JiangNetwork((1, 8, 8), width=40, depth=3)


@pytest.fixture(scope="module")
def images():
    return datasets.load("digits", count=200)


def codes_by_hand(network, images, layer, change):
    """Eq. (3): the layer's code and scores for its immediate input plus a change of it."""
    code = images.inputs.flatten(1)
    for earlier in network.layers[:layer]:
        code = earlier(code)
    code = code.detach().requires_grad_()
    output = network.layers[layer](code)
    (gradient,) = torch.autograd.grad(cross_entropy(network.classifiers[layer](output), images.labels, reduction="sum"), code)
    output = network.layers[layer](code + change * gradient.sign())
    return output.detach(), network.classifiers[layer](output).argmax(1)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_fgsm_is_equation_three(jiang, images, layer):
    found = perturbed_spectra(jiang, images, LayerAttack("fgsm"), strengths=[0.3], batch_size=64)
    clean, attacked = found.conditions
    name = f"layers.{layer}"
    assert [condition.label for condition in found.conditions] == ["unperturbed", "layer_fgsm 0.3"]
    for condition, strength in ((clean, 0.0), (attacked, 0.3)):
        output, predicted = codes_by_hand(jiang, images, layer, strength)
        expected = torch.linalg.eigvalsh(torch.cov(output.double().T)).flip(0)
        values = condition.spectra[name].eigenvalues
        assert torch.allclose(values, expected.clamp_min(0), atol=1e-6 * float(expected[0]))
        assert condition.accuracy[name] == pytest.approx(float((predicted == images.labels).double().mean()), abs=0.011)
    assert attacked.accuracy[name] < clean.accuracy[name]


def test_all_means_the_layers_with_their_own_classifier(jiang, images):
    found = perturbed_spectra(jiang, images, LayerAttack("gaussian"), strengths=[0.1])
    assert list(found.conditions[0].spectra) == ["layers.0", "layers.1", "layers.2"]


def test_gaussian_directions_are_standard_normal_and_differ_between_layers(jiang, images):
    steps = {}
    for layer in ("layers.0", "layers.1"):
        with LayerAttack("gaussian").at(jiang, layer, images.labels) as site, torch.no_grad():
            seen = []
            handle = jiang.get_submodule(layer).register_forward_pre_hook(
                lambda _m, args, seen=seen: seen.append(args[0].clone())
            )
            for epsilon in (0.0, 2.0):
                site.epsilon = epsilon
                jiang(site.prepare(images.inputs, torch.arange(200)))
            handle.remove()
        steps[layer] = (seen[-1] - seen[0]) / 2
    assert float(steps["layers.0"].std()) == pytest.approx(1, abs=0.03)
    assert steps["layers.0"].shape == (200, 64)
    assert abs(float(torch.corrcoef(torch.stack([steps[k][:, :40].flatten() for k in steps]))[0, 1])) < 0.05


def test_the_networks_own_loss(trained_mlp, images):
    attack = LayerAttack("fgsm")
    found = perturbed_spectra(trained_mlp, images, attack, strengths=[0.2], layers=["hidden1", "output"])
    inputs = images.inputs.flatten(1).requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(trained_mlp(inputs), images.labels, reduction="sum"), inputs)
    with torch.no_grad():
        scores = trained_mlp(inputs + 0.2 * gradient.sign())
    assert found.conditions[1].accuracy["hidden1"] == pytest.approx(
        float((scores.argmax(1) == images.labels).double().mean()), abs=0.011
    )
    hidden = torch.tanh(trained_mlp.hidden1(images.inputs.flatten(1))).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(trained_mlp.output(hidden), images.labels, reduction="sum"), hidden)
    output = trained_mlp.output(hidden + 0.2 * gradient.sign()).detach().double()
    expected = torch.linalg.eigvalsh(torch.cov(output.T)).flip(0)
    assert torch.allclose(found.conditions[1].spectra["output"].eigenvalues[:9], expected[:9], rtol=1e-4)


def test_batches_change_nothing(jiang, images):
    one, two = (perturbed_spectra(jiang, images, LayerAttack("gaussian"), strengths=[0.5], batch_size=size) for size in (200, 33))
    for layer in one.conditions[1].spectra:
        a, b = (found.conditions[1].spectra[layer].eigenvalues for found in (one, two))
        assert torch.allclose(a, b, atol=1e-5 * float(a[0]))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(64, 30), nn.ReLU(inplace=True), nn.Linear(30, 10)

    def forward(self, inputs):
        return self.relu(self.second(self.relu(self.first(inputs.flatten(1)))))


def test_single_calls_of_a_module_in_place(images):
    model = Reused()
    found = perturbed_spectra(model, images, LayerAttack("fgsm"), strengths=[0.5], layers=["relu#1", "relu#2"])
    clean, attacked = (condition.spectra for condition in found.conditions)
    assert not torch.allclose(clean["relu#1"].eigenvalues, attacked["relu#1"].eigenvalues)
    assert not torch.allclose(clean["relu#2"].eigenvalues, attacked["relu#2"].eigenvalues)


def test_calls_of_one_module_get_noise_of_their_own(images):
    steps = []
    for layer in ("relu#1", "relu#2"):
        model = Reused()
        with LayerAttack("gaussian").at(model, layer, images.labels) as site, torch.no_grad():
            site.epsilon = 1.0
            site.prepare(images.inputs, torch.arange(200))
            steps.append(site._step[:, :10])
    assert abs(float(torch.corrcoef(torch.stack([step.flatten() for step in steps]))[0, 1])) < 0.1


def test_a_readout_is_used_in_evaluation_mode(trained_mlp, images):
    readout = nn.Sequential(nn.Dropout(0.9), nn.Linear(2000, 10)).train()
    attack = LayerAttack("gaussian", readouts={"tanh1": readout})
    first, second = (perturbed_spectra(trained_mlp, images, attack, strengths=[0.1]).conditions[1].accuracy for _ in range(2))
    assert first == second
    assert readout[0].training


def test_a_readout_that_does_not_fit(trained_mlp, images):
    attack = LayerAttack("fgsm", readouts={"tanh1": nn.Linear(7, 10)})
    with pytest.raises(
        AttackError, match=r"the layer's classifier cannot read its output of shape \(2000,\) .* takes 2000 units"
    ):
        perturbed_spectra(trained_mlp, images, attack, strengths=[0.1])


def test_hooks_and_modes_are_gone_after_a_failure(jiang, images):
    jiang.train()
    with pytest.raises(RuntimeError), LayerAttack("fgsm").at(jiang, "layers.1", images.labels):
        raise RuntimeError
    assert jiang.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in jiang.modules())


def test_own_readouts(trained_mlp, images):
    readout = nn.Linear(2000, 10)
    found = perturbed_spectra(
        trained_mlp, images, LayerAttack("fgsm", readouts={"tanh1": readout}), strengths=[0.1], layers="all"
    )
    assert list(found.conditions[1].spectra) == ["tanh1"]


class TestRefusals:
    def test_no_local_classifier(self, trained_mlp, images):
        with pytest.raises(AttackError) as caught:
            perturbed_spectra(trained_mlp, images, LayerAttack("fgsm", loss_at="local"), strengths=[0.1])
        assert str(caught.value) == (
            'LayerAttack: loss_at="local" needs classifiers of single layers, and this network has none. Pass `readouts`, or '
            'loss_at="network".'
        )

    def test_unknown_layer(self, jiang, images):
        with (
            pytest.raises(AttackError, match="the network has no module 'layers.9'"),
            LayerAttack("fgsm").at(jiang, "layers.9", images.labels),
        ):
            pass

    def test_layer_without_its_own_classifier(self, jiang, images):
        attack = LayerAttack("fgsm", loss_at="local")
        with pytest.raises(
            AttackError, match="layer 'layers.1.0' has no classifier of its own; those of layers.0, layers.1, layers.2 have"
        ):
            perturbed_spectra(jiang, images, attack, strengths=[0.1], layers="layers.1.0")

    def test_arguments(self, jiang, images):
        with pytest.raises(AttackError, match="LayerAttack: `direction` must be one of gaussian, fgsm; got 'pgd'."):
            LayerAttack("pgd")
        with pytest.raises(AttackError, match="LayerAttack: `loss_at` must be one of local, network or None; got 'own'."):
            LayerAttack("fgsm", loss_at="own")
        with pytest.raises(AttackError, match="layer_fgsm: strengths must not be negative; got -1."):
            perturbed_spectra(jiang, images, LayerAttack("fgsm"), strengths=[-1.0])
        unlabelled = datasets.ImageSet.unlabelled(images.inputs)
        with pytest.raises(AttackError, match="layer_fgsm: an attack needs labels, and some are missing. Add them."):
            perturbed_spectra(jiang, unlabelled, LayerAttack("fgsm"), strengths=[0.1])


class Columns(nn.Module):
    """A network whose output is not a matrix of scores."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 12)

    def forward(self, inputs):
        return self.first(inputs.flatten(1)).view(-1, 3, 4)


def test_gaussian_directions_need_no_scores(images):
    """They are normal, too, and not signs, whose deviation is 1 as well."""
    with LayerAttack("gaussian").at(Columns(), "first", images.labels) as site, torch.no_grad():
        site.epsilon = 1.0
        site.prepare(images.inputs, torch.arange(200))
    assert site._step.dtype == torch.float32
    assert float(site._step.abs().mean()) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.02)


def test_a_batch_of_one_image(trained_mlp, images):
    few = images.subset(5)
    one, two = (
        perturbed_spectra(trained_mlp, few, LayerAttack("gaussian"), strengths=[0.5], layers=["output"], batch_size=size)
        for size in (5, 2)
    )
    a, b = (found.conditions[1].spectra["output"].eigenvalues for found in (one, two))
    assert torch.allclose(a, b, atol=1e-5 * float(a[0]))


def test_whose_classifiers_count(jiang):
    assert LayerAttack("fgsm", loss_at="network").readouts_of(jiang) == {}
    assert len(LayerAttack("fgsm", loss_at="local").readouts_of(jiang)) == 3


def test_the_networks_own_loss_needs_scores(images):
    with LayerAttack("fgsm").at(Columns(), "first", images.labels) as site:
        site.epsilon = 1.0
        with pytest.raises(AttackError, match=r"must return scores of shape \(n, classes\); got \(200, 3, 4\) for 200 images"):
            site.prepare(images.inputs, torch.arange(200))
