"""More situations from ordinary use, each with the right value or a refusal in a sentence."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import savemat
from torch import nn
from torch.nn import functional

import eigencode as ec
from command_line import run
from eigencode.datasets import load_recording
from eigencode.errors import EigencodeError, ModelError, PenaltyError
from eigencode.models import load_weights, read_state_dict
from eigencode.penalties import SpectralPenalty


def test_files_in_the_other_byte_order(tmp_path):
    array = np.random.default_rng(0).random((40, 6))
    np.save(tmp_path / "big.npy", array.astype(">f4"))
    found = load_recording(tmp_path / "big.npy").responses  # of neurons by stimuli
    assert np.array_equal(found.squeeze().numpy(), array.astype("f4").T)


def test_a_recording_that_is_sparse(tmp_path):
    matrix = scipy.sparse.random(40, 30, 0.2, "csc", random_state=0)
    savemat(tmp_path / "a.mat", {"resp": matrix})
    assert np.array_equal(load_recording(tmp_path / "a.mat").responses.squeeze().numpy(), matrix.toarray().T)


def test_a_pickle_of_arrays_is_named(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3))
    with (tmp_path / "w.pkl").open("wb") as file:
        pickle.dump({name: value.numpy() for name, value in network.state_dict().items()}, file)
    with pytest.raises(ModelError, match="a pickle that torch.save did not write. Save the state dict with torch.save"):
        load_weights(network, tmp_path / "w.pkl")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantised_tensor_is_named(tmp_path):
    torch.save({"a": torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="quantised"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:`torch.jit")  # that forward derivatives of PyTorch call
@pytest.mark.parametrize("how", ["vjp", "vmap", "jvp"])
def test_no_transform_of_torch_func_is_taken(how, generator):
    code = torch.randn(50, 20, generator=generator, dtype=torch.float64)
    penalty = SpectralPenalty(0.5, ranks=(2, 8))
    calls = {
        "vjp": lambda: torch.func.vjp(penalty, code),
        "vmap": lambda: torch.func.vmap(penalty)(code[None]),
        "jvp": lambda: torch.func.jvp(penalty, (code,), (code,)),
    }
    with pytest.raises(PenaltyError, match="torch.func cannot transform it"):
        calls[how]()


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.short, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 1), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(functional.relu(self.conv(x) + self.short(x)).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.fc = kind(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        hidden = self.rnn(x.squeeze(1))[1]
        return self.fc((hidden[0] if isinstance(hidden, tuple) else hidden)[-1])


@pytest.mark.parametrize("network", [Shortcut(), Recurrent(nn.LSTM), Recurrent(nn.GRU)])
def test_the_head_is_what_the_classifier_reads(network, generator):
    images = torch.rand(60, 1, 8, 8, generator=generator)
    given = []
    with network.fc.register_forward_pre_hook(lambda _module, args: given.append(args[0])), torch.no_grad():
        network(images)
    assert torch.equal(ec.collect(network, images, layer="head", batch_size=60), given[-1])


def test_tokens_that_are_mixed_are_channels_where_the_mixer_has_them(generator):
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.head = nn.Linear(16, 24), nn.Linear(24, 3)

        def forward(self, x):  # (n, tokens, channels) turned round
            return self.head(self.fc1(x.transpose(1, 2)).mean(1))

    tokens = torch.rand(50, 16, 5, generator=generator)
    network = Mixer()
    with torch.no_grad():
        rows = network.fc1(tokens.transpose(1, 2)).flatten(0, 1).double()
    spectrum = ec.measure(network, tokens, layers="fc1", units="channels")["fc1"]
    values = torch.linalg.eigvalsh(rows.T.cov()).flip(0)
    assert spectrum.n_samples == 250
    assert torch.allclose(spectrum.eigenvalues, values[:24], rtol=0, atol=1e-6 * float(values[0]))


def test_the_margin_loss_from_the_command_line(capsys):
    words = ("attack", "--model", "gerum_cnn", "--count", 60, "--perturbation", "pgd", "--strengths", "0.1", "--layers", "tanh3")
    words += ("--ranks", "2-8", "--loss", "margin", "--json")
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert "margin" in out


def test_accuracy_and_normalisation_on_the_command_line(capsys, tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    model = f"file:{tmp_path}/net.py:make"
    images = ec.datasets.load("digits", count=100)
    words = ("measure", "--model", model, "--count", 100, "--layers", "0", "--ranks", "2-8")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for options, mean, std in (((), 0.0, 1.0), (("--mean", "0.3", "--std", "0.5"), 0.3, 0.5)):
        status, out, err = run(capsys, *words, *options)
        with torch.no_grad():
            right = float((network((images.inputs - mean) / std).argmax(1) == images.labels).double().mean())
        assert status == 0, err
        assert f"accuracy: {right:.4g}" in out


def test_nothing_is_raised_but_sentences(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(EigencodeError):
        read_state_dict(tmp_path / "w.pkl")


def alpha_of(code):
    return ec.Eigenspectrum.from_activations(code.detach()).fit(ranks=(2, 12)).alpha


class Functional(nn.Module):
    """The last layer before the head is a function: relu and a mean over positions."""

    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Conv2d(1, 30, 3), nn.Linear(30, 10)

    def code(self, x):
        return nn.functional.relu(self.a(x)).mean((2, 3))

    def forward(self, x):
        return self.fc(self.code(x))


def test_training_penalises_and_reads_what_the_head_reads_after_a_function():
    digits, held = ec.datasets.load("digits", split="train", count=200), ec.datasets.load("digits", count=100)
    torch.manual_seed(0)
    network = Functional()
    alpha = alpha_of(network.code(digits.inputs))
    before = network.a.weight.detach().clone()
    settings = ec.training.Settings(
        epochs=1, batch_size=200, spectral=ec.training.SpectralSettings(ranks=(2, 12), layers="penultimate")
    )
    member = ec.training.MemberSettings(target=1.0, beta=5.0)
    history = ec.training.train(network, digits, settings=settings, cells=member, held_out=held).history
    assert list(history["layer"]) == ["fc.input"]
    assert history["alpha"][0] == pytest.approx(alpha, rel=1e-5)
    held_out = alpha_of(network.code(held.inputs))
    assert history["held_out_alpha"][0] == pytest.approx(held_out, rel=1e-5)
    torch.manual_seed(0)
    free = Functional()
    ec.training.train(free, digits, settings=settings, cells=ec.training.MemberSettings(target=1.0, beta=0.0))
    assert not torch.equal(network.a.weight, free.a.weight)
    assert not torch.equal(network.a.weight, before)


def test_a_constructed_set_matches_the_code_that_the_head_reads_after_a_function():
    torch.manual_seed(0)
    network, images = Functional(), ec.datasets.load("digits", count=20)
    made = ec.attacks.construct(network, images, ec.attacks.Construction("robust", steps=200, step_size=0.05))
    with torch.no_grad():
        wanted = network.code(images.inputs[made.originals])
        begun = (network.code(images.inputs[made.starts]) - wanted).norm(dim=1).sum() / wanted.norm(dim=1).sum()
        ended = (network.code(made.images.inputs) - wanted).norm(dim=1).sum() / wanted.norm(dim=1).sum()
    assert made.record["code_distance_at_start"] == pytest.approx(float(begun), rel=1e-5)
    assert made.record["code_distance_at_end"] == pytest.approx(float(ended), rel=1e-5)
    assert ended < 0.5 * begun
