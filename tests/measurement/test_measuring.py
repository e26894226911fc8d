import gc
import inspect
import weakref
from dataclasses import fields
from typing import get_type_hints

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import eigencode as ec
from eigencode._sizes import parse_bytes
from eigencode.errors import ActivationError, DataError, EigencodeError, SpectrumError
from eigencode.measurement.measuring import collect, measure
from eigencode.measurement.settings import MeasuringKeywords, MeasuringOptions
from eigencode.measurement.summary import summary_row
from oracles import spectra as oracle
from processes import torchrun

SAME = 1e-10  # float64 eigenvalues, relative to the largest


@pytest.fixture
def images():
    return ec.datasets.load("digits", count=200)


@pytest.fixture
def cnn():
    return ec.models.load("schaeffer_cnn", image_shape=(1, 8, 8))


def close(first, second):
    return float((first - second).abs().max()) <= SAME * float(first[0])


def test_equals_the_oracle_at_every_layer(cnn, images):
    spectra = measure(cnn, images, layers="all", batch_size=64)
    assert list(spectra) == [
        "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2", "relu4", "fc3",
    ]  # fmt: skip
    code = images.inputs
    with torch.no_grad():
        for name, module in cnn.named_children():
            code = module(code)
            if name in spectra:
                expected = torch.from_numpy(oracle.eigenvalues(code))
                # activations themselves are float32 and differ with the batch size of the convolution
                assert float((spectra[name].eigenvalues - expected).abs().max()) < 1e-5 * float(expected[0])


@pytest.mark.parametrize("units", ["all", "channels", "pooled"])
def test_batch_size_and_memory_change_nothing(images, units):
    model = ec.models.load("gerum_cnn", image_shape=(1, 8, 8)).double()
    inputs = images.inputs.double()
    whole = measure(model, inputs, layers="all", units=units, batch_size=200)
    pieces = measure(model, inputs, layers="all", units=units, batch_size=7, memory_limit="3MB")
    assert whole.n_passes == 1
    assert pieces.n_passes > 1 or units != "all"
    for name in whole:
        assert close(whole[name].eigenvalues, pieces[name].eigenvalues), name
        assert pieces[name].method != "sketch"


def test_a_layer_that_never_fits_is_sketched(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20000), nn.Tanh(), nn.Linear(20000, 2))
    spectra = measure(model, images, layers=["2", "3"], memory_limit="2MB")
    assert (spectra["2"].method, spectra["3"].method) == ("sketch", "covariance")
    exact = measure(model, images, layers="2")["2"]
    error = (spectra["2"].eigenvalues / exact.eigenvalues - 1)[:50].abs()
    assert float(error.max()) < spectra["2"].error_bound


def test_a_layer_that_fits_alone_is_never_sketched(generator):
    model = nn.Sequential(nn.Linear(20, 5000), nn.Linear(5000, 5000), nn.Linear(5000, 3))
    spectra = measure(model, torch.rand(100, 20, generator=generator), layers=["0", "1"], memory_limit=3_000_000)
    assert [spectrum.method for spectrum in spectra.values()] == ["gram", "gram"]
    assert spectra.n_passes == 2


def test_the_least_limit_is_told_before_any_pass():
    model = nn.Sequential(nn.Linear(1, 300_000))
    seen = []
    with pytest.raises(SpectrumError) as caught:
        measure(model, torch.rand(4, 1), layers="0", memory_limit="1.5MiB", perturbation=lambda x, i: seen.append(i) or x)
    assert str(caught.value) == (
        "0: `memory_limit` must be at least 2MiB for the 300000 units of this layer and the results of all; got 1.5MiB. Raise it."
    )
    assert not seen
    assert measure(model, torch.rand(4, 1), layers="0", memory_limit="2MiB")["0"].method == "sketch"


def test_layers_share_what_they_work_with(generator):
    """Six Gram matrices and their copies would not fit; one after the other they do, and all layers take one pass."""
    model = nn.Sequential(*[nn.Linear(1000, 1000) for _ in range(6)]).double()
    spectra = measure(model, torch.rand(500, 1000, generator=generator).double(), layers="all", memory_limit="34MB")
    assert spectra.n_passes == 1
    assert {spectrum.method for spectrum in spectra.values()} == {"gram"}


def test_a_compiled_model_is_measured_through_its_original(cnn, images):
    expected = measure(cnn, images)["relu4"].eigenvalues
    compiled = torch.compile(cnn, backend="eager")
    with torch.no_grad():
        compiled(images.inputs[:2])
    assert torch.equal(measure(compiled, images)["relu4"].eigenvalues, expected)


def test_networks_that_assert_their_image_size(images):
    model = ec.models.load("torchvision:vit_b_32")
    with pytest.raises(
        ActivationError, match=r"The network cannot run on inputs of shape \(1, 8, 8\) \(.*Use inputs of the size"
    ):
        measure(model, images)


def test_sources_of_images(cnn, images):
    expected = measure(cnn, images, batch_size=50)["relu4"].eigenvalues
    loader = DataLoader(TensorDataset(images.inputs, images.labels), batch_size=50)
    assert torch.equal(measure(cnn, loader)["relu4"].eigenvalues, expected)
    assert torch.equal(measure(cnn, images.inputs, batch_size=50)["relu4"].eigenvalues, expected)
    assert torch.equal(measure(cnn, images.inputs.numpy(), batch_size=50)["relu4"].eigenvalues, expected)
    bare = DataLoader(TensorDataset(images.inputs), batch_size=50)
    assert torch.equal(measure(cnn, bare)["relu4"].eigenvalues, expected)


def test_perturbation_sees_inputs_and_indices(cnn, images):
    seen = []

    def darken(inputs, indices):
        seen.append(indices)
        return inputs * (indices % 2).view(-1, 1, 1, 1)

    spectra = measure(cnn, images, perturbation=darken, batch_size=64)
    assert torch.cat(seen).tolist() == list(range(200))
    half = images.inputs.clone()
    half[::2] = 0
    assert torch.equal(spectra["relu4"].eigenvalues, measure(cnn, half, batch_size=64)["relu4"].eigenvalues)


def test_no_randomness_is_consumed(cnn, images):
    before = torch.random.get_rng_state()
    measure(cnn, DataLoader(TensorDataset(images.inputs), batch_size=50, shuffle=True), layers="all")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_model_is_left_as_it_was(cnn, images):
    cnn.train()
    before = {name: value.clone() for name, value in cnn.state_dict().items()}
    measure(cnn, images, layers="all")
    assert cnn.training
    assert all(torch.equal(value, before[name]) for name, value in cnn.state_dict().items())


def test_layers_that_cannot_be_measured_are_listed(images):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.dead, self.last = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)
            self.position, self.index = nn.Embedding(3, 8), nn.Identity()

        def forward(self, x):
            code = self.first(x.flatten(1)) - 1e6
            self.index(code.argmax(dim=1))
            return self.last(self.dead(code)) + self.position(torch.arange(3)).sum()

    spectra = measure(Odd(), images, layers=["all", "index"])
    assert list(spectra) == ["first"]
    dead = "its output is the same for every input (dead units, or no dependence on the input)"
    assert spectra.skipped == {
        "index": "its output is int64, not floating point",
        "position": "it gave 3 rows for a batch of 128 inputs",
        "dead": dead,
        "last": dead,
    }
    with pytest.raises(ActivationError) as caught:
        measure(Odd(), images, layers="dead")
    assert str(caught.value) == f"No layer could be measured. dead: {dead}. Name other layers or pass other inputs."


def test_activations_are_not_kept(images):
    kept = []

    class Spy(nn.Module):
        def forward(self, x):
            y = x.flatten(1) * 2
            kept.append(weakref.ref(y))
            return y

    model = nn.Sequential(Spy(), nn.Linear(64, 2))
    measure(model, images, layers="all", batch_size=20)
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_token_models(generator):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(4, 6)

        def forward(self, x):
            return self.embed(x).mean(1)

    x = torch.rand(50, 5, 4, generator=generator)
    model = Tokens()
    assert measure(model, x, layers="embed")["embed"].n_features == 30
    assert measure(model, x, layers="embed", tokens="cls")["embed"].n_features == 6
    channels = measure(model, x, layers="embed", units="channels")["embed"]
    assert (channels.n_samples, channels.n_images, channels.n_features) == (250, 50, 6)


def test_collect_gives_the_activations_behind_a_spectrum(cnn, images):
    code = collect(cnn, images)
    assert code.shape == (200, 1000)
    assert close(ec.Eigenspectrum.from_activations(code).eigenvalues, measure(cnn, images)["relu4"].eigenvalues)
    assert collect(cnn, images, layer="conv1", units="channels").shape == (200, 64, 6)
    with pytest.raises(ActivationError) as caught:
        collect(cnn, images, layer="relu*")
    assert str(caught.value) == (
        "collect: `layer` must name one layer; 'relu*' matches 4 (relu1, relu2, relu3, relu4). Name one of them."
    )


def test_what_is_no_model(images):
    with pytest.raises(EigencodeError) as caught:
        measure("schaeffer_cnn", images)
    assert str(caught.value) == "measure: `model` must be a torch.nn.Module (see eigencode.models.load); got 'schaeffer_cnn'."


def test_values_that_are_not_finite_name_the_layer(cnn, images):
    with torch.no_grad():
        cnn.fc2.bias[3] = float("nan")
    with pytest.raises(SpectrumError) as caught:
        measure(cnn, images, layers=["fc1", "fc2"])
    assert str(caught.value) == (
        "fc2: activations must be finite; got 128 NaN or infinite values in one batch, the first in sample 0. Check the images "
        "and the network's weights."
    )
    assert not any(module._forward_hooks for module in cnn.modules())


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (
            torch.zeros(5, 1, 8, 8, dtype=torch.uint8),
            "The network cannot run on uint8: its weights are float32 (RuntimeError: Input type (unsigned char) and bias type "
            "(float) should be the same). Use ImageSet.from_uint8, or divide them by 255.",
        ),
        (torch.zeros(1, 1, 8, 8), "measure: at least 2 inputs are needed; got 1. Pass more of them."),
        (
            DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8, dtype=torch.int64))),
            "The network cannot run on int64: its weights are float32 (RuntimeError: Input type (long int) and bias type (float) "
            "should be the same). Convert them with .float().",
        ),
    ],
)
def test_wrong_images(cnn, images, text):
    with pytest.raises((ActivationError, DataError)) as caught:
        measure(cnn, images)
    assert str(caught.value) == text


def test_sizes_in_bytes():
    assert [parse_bytes(size) for size in ("2000kB", "1.5MiB", 2**20, "2 GiB", "3m")] == [
        2_000_000,
        3 * 2**19,
        2**20,
        2**31,
        3_000_000,
    ]
    with pytest.raises(EigencodeError, match="`memory_limit` must be at least 1MiB; got '1B'. Raise it."):
        parse_bytes("1B")
    with pytest.raises(EigencodeError, match="`memory_limit` must be a number of bytes such as 4GiB or 500MB; got 'much'"):
        parse_bytes("much")


def test_summary_says_why_a_number_is_missing(cnn, images):
    table = measure(cnn, images, layers=["relu4", "fc3"]).summary("gerum")
    row = table.set_index("layer").loc["fc3"]
    assert row["note"] == (
        "fc3: `ranks` (6, 50) goes beyond the numerical rank 10; the largest window possible is (6, 10). Lower the last rank: there "
        "are 10 units."
    )
    assert row[["alpha", "r2", "alpha_low"]].isna().all()
    assert row["dimension"] > 1
    good = table.set_index("layer").loc["relu4"]
    assert good["note"] == ""
    assert good["alpha_low"] < good["alpha_population"] < good["alpha_high"]


def test_summary_of_a_recording(generator):
    from eigencode.spectra import cvpca

    signal = torch.randn(100, 60, generator=generator) * torch.arange(1, 61) ** -0.5
    row = summary_row(cvpca(signal + 0.01 * torch.randn(2, 100, 60, generator=generator), name="v1"), (1, 10))
    assert row["method"] == "cross-validated"
    assert row["alpha"] == pytest.approx(1, abs=0.4)


WORKER = """
import sys, torch, torch.distributed as dist, eigencode as ec
dist.init_process_group("gloo")
model = ec.models.load("gerum_deep_mlp", image_shape=(1, 8, 8)).double()
spectra = ec.measure(model, ec.datasets.load("digits").inputs.double(), layers="all", batch_size=32)
with open(f"{sys.argv[1]}/{dist.get_rank()}.txt", "w") as file:
    for name, s in spectra.items():
        print(name, s.n_images, *(float(v).hex() for v in s.eigenvalues[:40]), file=file)
"""


def test_processes_share_the_images(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun(tmp_path / "worker.py", tmp_path)
    model = ec.models.load("gerum_deep_mlp", image_shape=(1, 8, 8)).double()
    alone = measure(model, ec.datasets.load("digits").inputs.double(), layers="all")
    lines = [line.split() for path in tmp_path.glob("*.txt") for line in path.read_text().splitlines()]
    assert sorted(line[0] for line in lines) == sorted([*alone, *alone])
    for name, count, *values in lines:
        assert int(count) == 500
        expected = alone[name].eigenvalues[:40]
        assert close(expected, torch.tensor([float.fromhex(v) for v in values], dtype=torch.float64))


@pytest.mark.real_data("mnist")
def test_mnist_pixels_equal_scikit_learn():
    from sklearn.decomposition import PCA

    images = ec.datasets.load("mnist", count=1000)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 784, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(784))
    spectrum = measure(model, images, layers="1")["1"]
    reference = PCA(svd_solver="full").fit(images.inputs.flatten(1).double().numpy())
    assert spectrum.eigenvalues.numpy()[:300] == pytest.approx(reference.explained_variance_[:300], rel=1e-6)


@pytest.mark.real_data("cifar10")
def test_interval_of_3000_cifar10_images_holds_the_exponent_of_50000():
    images = ec.datasets.load("cifar10", split="train").inputs
    pixels = nn.functional.avg_pool2d(images, 4).flatten(1)
    truth = ec.Eigenspectrum.from_activations(pixels, half_samples=0).fit("gerum").alpha
    inside = 0
    for seed in range(5):
        chosen = torch.randperm(50000, generator=torch.Generator().manual_seed(seed))[:3000]
        interval = ec.Eigenspectrum.from_activations(pixels[chosen], seed=seed).alpha_interval("gerum")
        inside += interval.low <= truth <= interval.high
    assert inside >= 4


class InPlace(nn.Module):
    """Normalises its input where it lies, as many networks do."""

    def __init__(self, *, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.in_place, self.layer = in_place, nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU())

    def forward(self, images):
        return self.layer(images.sub_(0.5).div_(0.25) if self.in_place else (images - 0.5) / 0.25)


def test_a_network_that_works_in_place_gets_its_own_images(digits):
    before = digits.inputs.clone()
    for take in (digits, digits.inputs.numpy(), DataLoader(TensorDataset(digits.inputs, digits.labels), 250)):
        first, second = (
            ec.measure(InPlace(in_place=told), take, layers="layer.1", half_samples=0)["layer.1"].eigenvalues
            for told in (True, False)
        )
        assert torch.equal(first, second)
        assert torch.equal(digits.inputs, before)
    ec.trace(InPlace(in_place=True), digits.inputs[:20])
    ec.perturbed_spectra(
        InPlace(in_place=True), digits, ec.perturbations.GaussianNoise, strengths=[0.1], layers="layer.1", half_samples=0
    )
    assert torch.equal(digits.inputs, before)
    assert torch.equal(
        ec.collect(InPlace(in_place=True), digits, layer="layer.1"), ec.collect(InPlace(in_place=False), digits, layer="layer.1")
    )
    assert torch.equal(digits.inputs, before)


def test_images_in_reverse(digits):
    pixels = digits.inputs.numpy()
    network = InPlace(in_place=False)
    first, second = (
        ec.measure(network, told, layers="layer.1", half_samples=0)["layer.1"].eigenvalues for told in (pixels, pixels[::-1])
    )
    torch.testing.assert_close(first, second)


def test_options_are_the_same_wherever_they_are_written():
    kept = {item.name: item.default for item in fields(MeasuringOptions)}
    assert get_type_hints(MeasuringKeywords) == get_type_hints(MeasuringOptions)
    for function in (ec.measure, ec.perturbed_spectra):
        shown = inspect.signature(function).parameters
        assert {name: shown[name].default for name in kept} == kept
    with pytest.raises(TypeError, match=r"perturbed_spectra\(\) got an unexpected keyword argument 'unit'"):
        ec.perturbed_spectra(nn.Identity(), None, None, strengths=[1], unit="all")
