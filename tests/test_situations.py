"""Situations from ordinary use and from public reports about other tools, each with the right value; one test for each."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import eigencode as ec
from eigencode._torchvision import import_torchvision
from eigencode.errors import AttackError, DataError, EigencodeError, ModelError, PenaltyError, SpectrumError

RANKS = (2, 8)


@pytest.fixture
def images(generator):
    return torch.rand(300, 1, 8, 8, generator=generator)


def same(spectrum, rows, rel=1e-6):
    """Whether a spectrum is that of these rows."""
    rows = torch.as_tensor(rows).detach().double().flatten(1).numpy()
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1][: len(spectrum.eigenvalues)]
    return np.allclose(spectrum.eigenvalues.numpy()[: len(values)], values, rtol=0, atol=rel * values[0])


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(8, 12, batch_first=True, bidirectional=True), nn.Linear(24, 10)

    def forward(self, x):
        out, _ = self.rnn(x.squeeze(1))
        return self.fc(out[:, -1])


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Linear(64, 20), nn.Linear(20, 10)

    def forward(self, x):
        return self.fc(functional.relu(self.a(x.flatten(1))))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.t, self.c = nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10)

    def forward(self, x):
        x.sub_(0.5).div_(0.25)
        return self.c(self.t(self.a(x.flatten(1))))


class TestRows:
    @pytest.mark.parametrize("batch_size", [60, 100, 128])
    def test_states_of_a_recurrent_layer_have_all_images(self, images, batch_size):
        torch.manual_seed(0)
        network = Rnn().eval()
        spectra = ec.measure(network, images, layers="rnn*", batch_size=batch_size)
        with torch.no_grad():
            out, (h, c) = network.rnn(images.squeeze(1))
        for name, expected in {"rnn[0]": out, "rnn[1][0]": h.movedim(1, 0), "rnn[1][1]": c.movedim(1, 0)}.items():
            assert spectra[name].n_images == 300
            assert same(spectra[name], expected)

    def test_a_part_that_is_compiled_and_has_run_is_read_whole(self, images):
        class Net(nn.Module):
            def __init__(self, backbone):
                super().__init__()
                self.backbone, self.fc = backbone, nn.Linear(32, 10)

            def forward(self, x):
                return self.fc(self.backbone(x.flatten(1)))

        network = Net(torch.compile(nn.Sequential(nn.Linear(64, 32), nn.Tanh()), backend="eager")).eval()
        with torch.no_grad():
            network(images[:128])
        spectra = ec.measure(network, images, layers="all", batch_size=128)
        assert {name: spectrum.n_images for name, spectrum in spectra.items()} == {
            "backbone.0": 300,
            "backbone.1": 300,
            "fc": 300,
        }

    def test_noise_is_fresh_whatever_the_batches(self, images):
        class Always(nn.Module):
            def forward(self, x):
                return functional.dropout(x, 0.5, training=True)

        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), Always(), nn.Linear(50, 10))
        found = [ec.measure(network, images, layers="3", batch_size=size)["3"] for size in (1, 16, 300)]
        assert min(spectrum.numerical_rank for spectrum in found) > 40
        dimensions = [spectrum.dimension for spectrum in found]
        assert max(dimensions) < 1.2 * min(dimensions)


class TestInputsStay:
    def test_the_callers_images_are_never_changed(self, images):
        given, network = images.clone(), InPlace()
        one, two = (ec.measure(network, given, layers="t")["t"].dimension for _ in range(2))
        assert one == two
        assert torch.equal(given, images)
        assert same(ec.measure(network, given, layers="t")["t"], network.t(network.a((images.flatten(1) - 0.5) / 0.25)))

    def test_such_networks_are_attacked_and_have_a_jacobian(self, images):
        network, given, labels = InPlace(), images[:40].clone(), torch.zeros(40, dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of flags
            ec.attacks.pgd(network, given, labels, epsilon=0.1, steps=2)
        ec.attacks.robustness_curve(network, ec.ImageSet(given, labels), ec.attacks.FGSM(), epsilons=[0.1])
        ec.penalties.jacobian_penalty(network, given)
        assert torch.equal(given, images[:40])


class TestWhereACodeIsRead:
    def test_the_head_is_what_its_module_reads(self, images):
        network = Functions().eval()
        ((_, spectrum),) = ec.measure(network, images).items()
        assert same(spectrum, functional.relu(network.a(images.flatten(1))))

    def test_attention_is_listed(self, generator):
        network = import_torchvision("models").VisionTransformer(
            image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
        )
        found = ec.measure(network, torch.rand(100, 3, 32, 32, generator=generator), layers="all", tokens="cls")
        assert any("self_attention" in name for name in [*found, *found.skipped])

    def test_dataclasses_and_second_names(self, images):
        from dataclasses import dataclass

        @dataclass
        class Out:
            code: torch.Tensor

        class Block(nn.Module):
            def forward(self, x):
                return Out(x.flatten(1) * 2)

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.b, self.act, self.fc = Block(), nn.ReLU(), nn.Linear(64, 10)
                self.act2 = self.act

            def forward(self, x):
                return self.fc(self.act2(self.act(self.b(x).code - 1)))

        found = ec.measure(Net(), images, layers=["b", "act2"])
        assert same(found["b[code]" if "b[code]" in found else "b"], images.flatten(1) * 2)
        assert {"act#1", "act#2"} <= set(found)

    @pytest.mark.parametrize(
        ("name", "layer", "units"), [("swin_t", "features.5.0.norm1", 384), ("convnext_tiny", "features.1.0.block.2", 96)]
    )
    def test_channels_that_come_last(self, name, layer, units, generator):
        network = import_torchvision("models").get_model(name, weights=None)
        found = ec.measure(network, torch.rand(4, 3, 64, 64, generator=generator), layers=layer, units="channels", half_samples=0)
        assert found[layer].n_features == units


class TestPicturesAndLabels:
    def put(self, path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def test_sixteen_bits(self, tmp_path):
        pixels = (np.random.default_rng(0).random((16, 16)) * 60_000).astype(np.uint16)
        for name in "ab":
            self.put(tmp_path / name / "0.png", pixels)
        inputs = ec.datasets.load(f"image_folder:{tmp_path}").inputs
        assert torch.allclose(inputs[0, 0], torch.from_numpy(pixels.astype(np.float32) / 65_535))

    def test_hidden_numbered_and_empty_folders(self, tmp_path):
        for name in ("a", "b", ".ipynb_checkpoints"):
            self.put(tmp_path / "hidden" / name / "0.png", np.zeros((8, 8, 3), np.uint8))
        assert ec.datasets.load(f"image_folder:{tmp_path}/hidden").labels.tolist() == [0, 1]
        for number in range(12):
            self.put(tmp_path / "numbered" / str(number) / "0.png", np.full((8, 8, 3), 20 * number, np.uint8))
        found = ec.datasets.load(f"image_folder:{tmp_path}/numbered")
        shown = [round(float(image.mean()) * 255 / 20) for image in found.inputs]
        assert shown == found.labels.tolist() == list(range(12))
        (tmp_path / "hidden" / "c").mkdir()
        with pytest.raises(DataError, match="hidden/c has no images"):
            ec.datasets.load(f"image_folder:{tmp_path}/hidden")

    def test_orientation(self, tmp_path):
        picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "0.png", exif=exif)
        assert ec.datasets.load(f"image_folder:{tmp_path}").shape == (3, 6, 4)

    @pytest.mark.parametrize(
        ("labels", "text"),
        [
            (np.linspace(0, 1, 40), "labels must be whole numbers"),
            (np.eye(10)[np.arange(40) % 10], r"labels.argmax\(1\)"),
            (np.array(["cat"] * 40), "must be whole numbers"),
            (np.full(40, np.nan), "labels must be whole numbers"),
        ],
    )
    def test_labels_that_are_none(self, labels, text, tmp_path, generator):
        np.savez(tmp_path / "l.npz", inputs=torch.rand(40, 1, 8, 8, generator=generator).numpy(), labels=labels)
        with pytest.raises(DataError, match=text):
            ec.datasets.load(f"tensors:{tmp_path}/l.npz")

    def test_masked_entries(self, generator):
        rows = torch.randn(200, 20, generator=generator).numpy() / np.arange(1, 21)
        masked = np.ma.masked_array(rows.copy(), np.zeros_like(rows, bool))
        masked[3, 4] = np.ma.masked
        with pytest.raises(EigencodeError, match="masked"):
            ec.Eigenspectrum.from_activations(masked)

    @pytest.mark.parametrize("kind", ["u1", ">f4", "f8", "f2", "medmnist"])
    def test_arrays_as_they_are(self, kind, tmp_path):
        pixels = (np.random.default_rng(0).random((40, 1, 8, 8)) * 255).astype(np.uint8)
        if kind == "medmnist":
            np.savez(tmp_path / "u.npz", test_images=pixels[:, 0], test_labels=np.zeros((40, 1), np.uint8))
        else:
            np.savez(tmp_path / "u.npz", inputs=pixels if kind == "u1" else (pixels / 255).astype(kind))
        found = ec.datasets.load(f"tensors:{tmp_path}/u.npz").inputs
        assert torch.allclose(found, torch.from_numpy(pixels / 255).float(), atol=1e-3 if kind == "f2" else 1e-7)

    @pytest.mark.parametrize(("made", "remedy"), [(pd.DataFrame, "to_numpy"), (sp.csr_array, "toarray")])
    def test_tables_and_sparse_matrices(self, made, remedy):
        with pytest.raises(SpectrumError, match=remedy):
            ec.Eigenspectrum.from_activations(made(np.eye(30)))

    def test_activations_too_small_for_their_squares(self, generator):
        with pytest.raises(SpectrumError, match="Scale the activations up"):
            ec.Eigenspectrum.from_activations(torch.randn(50, 20, generator=generator, dtype=torch.float64) * 1e-170)


class TestGradients:
    def test_second_derivatives_are_refused(self, generator):
        rows = torch.randn(60, 20, generator=generator, dtype=torch.float64) / torch.arange(1, 21) ** 0.5
        weights = torch.eye(20, dtype=torch.float64).requires_grad_()
        value = ec.penalties.SpectralPenalty(0.2, ranks=RANKS, solver="dense")(torch.tanh(rows @ weights))
        (gradient,) = torch.autograd.grad(value, weights, create_graph=True)
        with pytest.raises(PenaltyError, match="cannot be differentiated again"):
            torch.autograd.grad(gradient.sum(), weights)

    def test_inference_mode_gives_the_value(self, generator):
        rows, penalty = torch.randn(100, 20, generator=generator), ec.penalties.SpectralPenalty(1.0, ranks=RANKS)
        with torch.inference_mode():
            inside = float(penalty(rows))
        assert inside == pytest.approx(float(penalty(rows)), rel=1e-6)

    def test_a_jacobian_of_one_number_for_each_image_or_of_a_tuple(self, images):
        class Net(nn.Module):
            def __init__(self, output):
                super().__init__()
                self.output = output

            def forward(self, x):
                return self.output(x.flatten(1) * 2)

        one, column = (ec.penalties.jacobian_penalty(Net(f), images[:10]) for f in (lambda y: y[:, 0], lambda y: y[:, :1]))
        assert float(one) == float(column) == 2
        with pytest.raises(PenaltyError):
            ec.penalties.jacobian_penalty(Net(lambda y: (y, y)), images[:10])


class TestOutputs:
    @pytest.fixture
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.Tanh(), nn.Linear(30, 10))

    def flags(self, network, images, labels):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            curve = ec.attacks.robustness_curve(network, ec.ImageSet(images, labels), ec.attacks.FGSM(), epsilons=[0.1])
        return {flag for point in curve.points for flag in point.flags}

    def test_squashed_scores_are_flagged(self, network, images):
        labels = network(images).argmax(1)
        assert "squashed" in self.flags(nn.Sequential(network, nn.Sigmoid()), images, labels)
        assert "squashed" not in self.flags(network, images, labels)

    def test_accuracy_at_chance_is_flagged(self, images):
        wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))
        assert "not_above_chance" in self.flags(wide, images, torch.arange(300) % 10)

    def test_one_column_is_refused_with_the_way_out(self, images):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        with pytest.raises(AttackError, match=r"torch.cat\(\[-y, y\], dim=1\)"):
            ec.attacks.fgsm(network, images, torch.zeros(300, dtype=torch.int64), epsilon=0.1)

    def test_bfloat16(self, images):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).bfloat16()
        assert ec.measure(network, images, layers="1")["1"].n_images == 300
        ec.attacks.fgsm(network, images, torch.zeros(300, dtype=torch.int64), epsilon=0.1)

    def test_batches_with_names(self, network, images):
        loader = DataLoader([{"pixel_values": image} for image in images], batch_size=50)
        assert same(ec.measure(network, loader, layers="1")["1"], network[1](images.flatten(1)))

    def test_the_true_reason(self, network, images):
        class Keyword(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(64, 10)

            def forward(self, *, pixels):
                return self.fc(pixels.flatten(1))

        with pytest.raises(EigencodeError, match="Pass a mapping of its arguments by name"):
            ec.measure(Keyword(), images, layers="fc")
        assert ec.measure(Keyword(), {"pixels": images}, layers="fc")["fc"].n_images == 300
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is deprecated
            program = torch.jit.trace(network, images[:2])
        with pytest.raises(EigencodeError, match=r"program of torch\.jit"):
            ec.measure(program, images)

        class Numpy(nn.Module):
            def forward(self, x):
                return torch.as_tensor(x.flatten(1).numpy())

        with pytest.raises(AttackError, match="Keep its forward method within PyTorch"):
            ec.attacks.fgsm(Numpy(), images, torch.zeros(300, dtype=torch.int64), epsilon=0.1)


class TestWeights:
    @pytest.fixture
    def network(self):
        torch.manual_seed(0)
        return Functions()

    def loaded(self, network, content, path):
        torch.save(content, path)
        other = Functions()
        ec.models.load_weights(other, path)
        return all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), network.state_dict().values(), strict=True))

    @pytest.mark.parametrize(
        "key",
        [
            "ema",
            "model_state",
            "state_dict_ema",
            "model_ema",
            "params",
            "params_ema",
            "network",
            "classifier",
            "student",
            "teacher",
        ],
    )
    def test_whatever_they_are_under(self, network, key, tmp_path):
        assert self.loaded(network, {key: network.state_dict(), "epoch": 3}, tmp_path / "w.pt")
        assert self.loaded(network, {"state_dict": [network.state_dict()]}, tmp_path / "w.pt")

    @pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "classifier.", "1.", "module.net."])
    def test_whatever_comes_before_their_names(self, network, prefix, tmp_path):
        content = {"state_dict": {prefix + name: tensor for name, tensor in network.state_dict().items()}}
        assert self.loaded(network, content, tmp_path / "w.pt")

    def test_parameters_with_attributes_and_training_histories(self, network, tmp_path):
        parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in network.state_dict().items()}
        for parameter in parameters.values():
            parameter._no_weight_decay = True
        history = {
            "log": pd.DataFrame({"loss": [1.0, 0.5]}),
            "range": range(3),
            "slice": slice(1, 2),
            "z": 1j,
            "b": bytearray(b"x"),
        }
        assert self.loaded(network, {"model": parameters, **history}, tmp_path / "w.pt")

    def test_a_whole_pickled_module(self, network, tmp_path):
        torch.save(nn.Sequential(nn.Linear(3, 2)), tmp_path / "w.pt")
        with pytest.raises(ModelError, match="Sequential|module"):
            ec.models.load_weights(network, tmp_path / "w.pt")

    def test_a_pointer_of_git(self, network, tmp_path):
        (tmp_path / "w.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
        with pytest.raises(ModelError, match="git lfs pull"):
            ec.models.load_weights(network, tmp_path / "w.pt")
