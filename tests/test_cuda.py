"""What a GPU computes, beside what the CPU does."""

import copy

import pytest
import torch

import eigencode as ec
from eigencode._arithmetic import full_float32
from eigencode.attacks import FGSM, PGD, robustness_curve
from eigencode.measurement.perturbed import perturbed_spectra
from eigencode.penalties import SpectralPenalty
from eigencode.training import MemberSettings, Settings, SpectralSettings, robust_accuracies, train
from eigencode.training.networks import bytes_kept
from eigencode.training.settings import AdversarialSettings, JacobianSettings

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ("cpu", "cuda")


@pytest.fixture
def precision():
    """What reads the user's choice, which is put back after the test."""
    before = torch.get_float32_matmul_precision()

    def read():
        newer = [torch.backends.cuda.matmul, torch.backends.mkldnn, getattr(torch.backends.cudnn, "conv", None)]
        flags = [getattr(place, "fp32_precision", "") for place in newer]
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, flags

    yield read
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("chosen", ["highest", "high", "medium"])
def test_precision_is_asked_for_and_left_as_the_user_had_it(chosen, precision):
    torch.set_float32_matmul_precision(chosen)
    before = precision()
    for _ in range(2):
        with full_float32(), full_float32():
            assert precision()[:2] == ("highest", False)
        assert precision() == before


def test_what_back_propagation_keeps_is_of_the_images_alone():
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.BatchNorm1d(8), torch.nn.Dropout()).train()
    kept = bytes_kept(network, torch.rand(1, 4))
    assert 4 * (4 + 8) <= kept <= 4 * (4 + 8 + 8 + 8 + 8)
    assert all(module.training for module in network.modules())
    assert int(network[2].num_batches_tracked) == 0
    assert bytes_kept(network.requires_grad_(False), torch.rand(1, 4)) > 0


@needs_cuda
@pytest.mark.parametrize("memory", ["4GiB", "1MiB"])
def test_spectra(memory, trained_cnn, digits):
    here, there = (
        ec.measure(trained_cnn.to(device), digits, layers="all", memory_limit=memory, half_samples=2) for device in DEVICES
    )
    trained_cnn.cpu()
    assert list(here) == list(there)
    for layer, expected in here.items():
        found = there[layer]
        assert found.eigenvalues.device.type == "cpu"
        leading = expected.eigenvalues > 1e-6 * expected.eigenvalues[0]
        assert torch.allclose(found.eigenvalues[leading], expected.eigenvalues[leading], rtol=1e-4), layer
        assert found.dimension == pytest.approx(expected.dimension, rel=1e-5)


@needs_cuda
def test_a_spectrum_reaches_its_floor(trained_cnn, digits):
    """With TF32 convolutions eigenvalues below 1e-6 of the largest would be rounding."""
    networks = _exact_and_on_gpu(trained_cnn)
    exact, found = (ec.measure(network, digits, layers="conv2", half_samples=0)["conv2"] for network in networks)
    rank = min(found.numerical_rank, exact.numerical_rank) - 1
    assert rank > 50
    assert torch.allclose(found.eigenvalues[:rank], exact.eigenvalues[:rank], rtol=1e-2)


def _exact_and_on_gpu(network):
    double = copy.deepcopy(network).double()
    double.register_forward_pre_hook(lambda _module, inputs: (inputs[0].double(),))
    yield double
    yield copy.deepcopy(network).cuda()


@needs_cuda
@pytest.mark.parametrize("form", ["exponent", "line", "nassar"])
@pytest.mark.parametrize("solver", ["dense", "tracked"])
def test_penalties(form, solver, generator):
    scale = torch.arange(1, 401, dtype=torch.float64) ** -0.6
    code = torch.randn(3, 500, 400, generator=generator, dtype=torch.float64) * scale
    found = {}
    for device in DEVICES:
        penalty = SpectralPenalty([1.0, 2.0, 3.0], ranks=(3, 30), form=form, solver=solver)
        for step in range(3):
            moved = (code * (1 + 0.01 * step)).to(device).requires_grad_(True)
            values = penalty.members(moved)
        (gradient,) = torch.autograd.grad(values.sum(), moved)
        found[device] = values.detach().cpu(), gradient.cpu(), penalty.last.solver
    assert torch.allclose(found["cpu"][0], found["cuda"][0], rtol=1e-6)
    assert torch.allclose(found["cpu"][1], found["cuda"][1], rtol=1e-3, atol=1e-3 * float(found["cpu"][1].abs().max()))
    assert found["cpu"][2] == found["cuda"][2]


@needs_cuda
@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(steps=10), PGD(norm="l2", steps=10), PGD(steps=10, start="random", restarts=2, keep="best")]
)
def test_attacks(attack, trained_mlp, trained_cnn, digits):
    for network in (trained_mlp, trained_cnn):
        budgets = [0.05, 0.5] if attack.norm == "l2" else [0.02, 0.05]
        here, there = (robustness_curve(network.to(device), digits, attack, epsilons=budgets) for device in DEVICES)
        stacked = robust_accuracies([network, network], digits, attack, epsilons=budgets)
        network.cpu()
        for one, other in zip(here.points, there.points, strict=True):
            assert one.accuracy == pytest.approx(other.accuracy, abs=0.01)
        second = stacked[stacked["member"] == 1]["accuracy"]
        assert list(second) == pytest.approx([point.accuracy for point in there.points], abs=0.01)


@needs_cuda
def test_perturbations(trained_cnn, digits):
    training = ec.datasets.load("digits", split="train")
    components = ec.perturbations.PrincipalComponents.fit(training)
    kinds = (
        (ec.attacks.by_name("gaussian", components=lambda: components), [0.1, 0.3]),
        (ec.attacks.by_name("pca", components=lambda: components), [5, 20]),
        (ec.attacks.by_name("zca", components=lambda: components), [1]),
    )
    for perturbation, strengths in kinds:
        here, there = (
            perturbed_spectra(trained_cnn.to(device), digits, perturbation, strengths=strengths, layers="relu3", half_samples=0)
            for device in DEVICES
        )
        trained_cnn.cpu()
        for one, other in zip(here.conditions, there.conditions, strict=True):
            assert one.accuracy["relu3"] == pytest.approx(other.accuracy["relu3"], abs=0.01)
            assert one.spectra["relu3"].dimension == pytest.approx(other.spectra["relu3"].dimension, rel=1e-3)


SETTINGS = {
    "spectral": (Settings(epochs=2, batch_size=250, spectral=SpectralSettings(ranks=(2, 20))), {"target": 2.0, "strength": 0.5}),
    "covariance": (Settings(epochs=2, batch_size=250), {"covariance": 0.01}),
    "exact": (Settings(epochs=2, batch_size=250, jacobian=JacobianSettings(kind="exact")), {"jacobian": 0.1}),
    "projected": (Settings(epochs=2, batch_size=250, jacobian=JacobianSettings(kind="projected")), {"jacobian": 0.1}),
    "adversarial": (
        Settings(epochs=2, batch_size=250, adversarial=AdversarialSettings(epsilon=0.05, steps=3, start="random")),
        {},
    ),
    "clipped": (Settings(epochs=2, batch_size=250, optimizer="sgd", momentum=0.9, clip=1.0), {"learning_rate": 0.05}),
}


@needs_cuda
@pytest.mark.parametrize("name", ["gerum_shallow_mlp", "gerum_cnn"])
@pytest.mark.parametrize("told", SETTINGS)
def test_training(name, told, tmp_path):
    training, test = ec.datasets.load("digits", split="train", count=1000), ec.datasets.load("digits")
    settings, options = SETTINGS[told]
    histories = {}
    for device, count in (("cpu", 2), ("cuda", 2), ("cuda", 1)):
        networks = [ec.models.load(name, image_shape=training.shape, seed=seed).to(device) for seed in range(count)]
        cells = [MemberSettings(seed=seed, **options) for seed in range(count)]
        path = tmp_path / f"{device}{count}.safetensors"
        run = train(networks, training, settings=settings, cells=cells, held_out=test, checkpoint=path)
        assert next(run.models[0].parameters()).device.type == device
        again = train(networks, training, settings=settings, cells=cells, held_out=test, checkpoint=path) if count > 1 else run
        assert again.history.equals(run.history)
        histories[device, count] = run.history[run.history["member"] == 0]
    expected = histories["cpu", 2]
    for found in (histories["cuda", 2], histories["cuda", 1]):
        for column, tolerance in (("loss", 0.01), ("held_out_accuracy", 0.02), ("alpha", 0.02), ("held_out_alpha", 0.02)):
            assert list(found[column]) == pytest.approx(list(expected[column]), abs=tolerance, nan_ok=True), (column, told)


@needs_cuda
@pytest.mark.parametrize("rule", ["local", "greedy"])
def test_local_errors(rule):
    training = ec.datasets.load("digits", split="train", count=1000)
    histories = []
    for device in DEVICES:
        networks = [ec.models.load("jiang_mlp", image_shape=training.shape, seed=seed).to(device) for seed in (0, 1)]
        settings = Settings(epochs=1, batch_size=100, rule=rule, optimizer="sgd")
        histories.append(
            train(networks, training, settings=settings, cells=[MemberSettings(seed=seed) for seed in (0, 1)]).history
        )
    for column, tolerance in (("loss", 0.02), ("accuracy", 0.02)):
        assert list(histories[0][column]) == pytest.approx(list(histories[1][column]), abs=tolerance)
