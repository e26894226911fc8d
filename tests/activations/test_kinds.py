"""Networks whose outputs are not plain tensors with a row for each image, and what wraps them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import eigencode as ec
from eigencode.errors import ActivationError, DataError


@pytest.fixture
def images(generator):
    return torch.rand(60, 1, 8, 8, generator=generator)


class Recurrent(nn.Module):
    def __init__(self, kind, *, batch_first, **options):
        super().__init__()
        self.rnn = kind(8, 6, batch_first=batch_first, **options)
        self.fc = nn.Linear(12 if options.get("bidirectional") else 6, 3)
        self.batch_first = batch_first

    def forward(self, x):
        x = x.squeeze(1)
        output, _ = self.rnn(x if self.batch_first else x.transpose(0, 1))
        return self.fc(output[:, -1] if self.batch_first else output[-1])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("kind", "options"), [(nn.LSTM, {"bidirectional": True}), (nn.GRU, {"num_layers": 3}), (nn.RNN, {})])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 60])
def test_recurrent_outputs_and_states_have_a_row_for_each_image(images, kind, options, batch_first, batch_size):
    network = Recurrent(kind, batch_first=batch_first, **options)
    with torch.no_grad():
        output, state = network.rnn(images.squeeze(1) if batch_first else images.squeeze(1).transpose(0, 1))
    output = output if batch_first else output.transpose(0, 1)
    hidden = (state[0] if isinstance(state, tuple) else state).transpose(0, 1)
    spectra = ec.measure(network, images, layers="rnn*", batch_size=batch_size, half_samples=0)
    first = "rnn[1][0]" if kind is nn.LSTM else "rnn[1]"
    for name, code in (("rnn[0]", output), (first, hidden)):
        expected = ec.Eigenspectrum.from_activations(code.reshape(60, -1), half_samples=0)
        assert spectra[name].n_images == 60
        assert torch.allclose(spectra[name].eigenvalues[:20], expected.eigenvalues[:20], rtol=1e-4, atol=1e-7)
    steps = ec.measure(network, images, layers="rnn[[]0]", units="channels", half_samples=0)["rnn[0]"]
    assert (steps.n_samples, steps.n_features) == (60 * 8, output.shape[2])


@pytest.mark.parametrize("length", [2, 3, 4, 60])
@pytest.mark.parametrize("batch_size", [2, 3, 60])
def test_tokens_before_images_are_refused_for_every_length(generator, length, batch_size):
    class TokensFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.turned, self.fc = nn.Identity(), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(self.turned(x.transpose(0, 1)).mean(dim=0))

    images = torch.randn(60, length, 5, generator=generator)
    spectra = ec.measure(TokensFirst(), images, layers=["turned", "fc"], batch_size=batch_size)
    assert list(spectra) == ["fc"]
    assert "row" in spectra.skipped["turned"]


def test_attention_is_read_with_and_without_batches_first(generator):
    images = torch.randn(50, 5, 8, generator=generator)
    first, last = (nn.TransformerEncoderLayer(8, 2, 16, batch_first=way).eval() for way in (True, False))
    last.load_state_dict(first.state_dict())

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = last

        def forward(self, x):
            return self.layer(x.transpose(0, 1)).transpose(0, 1).mean(dim=1)

    one = ec.measure(nn.Sequential(first), images, layers=["0", "0.self_attn"], batch_size=10)
    other = ec.measure(Turned(), images, layers=["layer", "layer.self_attn"], batch_size=10)
    for (_, found), (_, expected) in zip(other.items(), one.items(), strict=True):
        assert found.n_images == 50
        assert torch.allclose(found.eigenvalues, expected.eigenvalues, atol=1e-6)


def test_a_module_that_calls_no_other_is_listed():
    """Attention uses the weights of its output projection without calling it."""
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    spectra = ec.measure(network, torch.randn(30, 5, 8), layers="all")
    assert [name for name in spectra if "attn" in name] == ["layers.0.self_attn"]


def test_noise_in_a_network_is_fresh_in_every_batch(generator):
    """Repeated noise would leave as many dimensions as a batch has images."""

    class Noise(nn.Module):
        def forward(self, x):
            return functional.dropout(x, 0.5, training=True)

    network = nn.Sequential(nn.Linear(40, 30), nn.Tanh(), Noise(), nn.Linear(30, 2))
    images = torch.rand(400, 40, generator=generator)
    state = torch.random.get_rng_state()
    found = [ec.measure(network, images, layers="2", batch_size=size, half_samples=0)["2"] for size in (1, 16, 400)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({each.numerical_rank for each in found}) == 1
    assert [each.dimension for each in found] == pytest.approx([found[0].dimension] * 3, rel=0.1)


@dataclass
class Result:
    code: torch.Tensor
    label: str


@dataclass
class Pair:
    code: torch.Tensor
    other: torch.Tensor


class Structured(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return Result(x * 2, "twice") if self.kind is Result else Pair(x * 2, x * 3)


class Shared(nn.Module):
    """One module under two names, a dataclass and a keyword."""

    def __init__(self):
        super().__init__()
        self.act1 = self.act2 = nn.Tanh()
        self.first, self.structured, self.pair, self.last = (
            nn.Linear(64, 6),
            Structured(Result),
            Structured(Pair),
            nn.Linear(6, 2),
        )

    def forward(self, x):
        return self.last(self.act2(self.pair(self.structured(self.act1(self.first(x.flatten(1)))).code).code))


def test_dataclasses_and_modules_under_two_names(images):
    assert list(ec.measure(Shared(), images, layers="structured")) == ["structured"]
    assert list(ec.measure(Shared(), images, layers="pair")) == ["pair[code]", "pair[other]"]
    assert list(ec.measure(Shared(), images, layers="act2")) == ["act1#1", "act1#2"]
    assert list(ec.measure(Shared(), images, layers="act2.input")) == ["act1#1.input", "act1#2.input"]


def test_inputs_can_be_named(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 2))
    spectra = ec.measure(network, images, layers=["1.input", "3.input", "2"])
    assert list(spectra) == ["1.input", "2", "3.input"]
    assert torch.equal(spectra["2"].eigenvalues, spectra["3.input"].eigenvalues)
    assert spectra["1.input"].n_features == 64


def _net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 3))


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.backbone, self.fc = inner, nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.backbone(x))


class Checkpointed(Around):
    def forward(self, x):
        return self.fc(checkpoint(self.backbone, x, use_reentrant=True))


@pytest.mark.parametrize("wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel])
def test_wrapped_networks_are_read_as_they_are_inside(images, wrap):
    inner = _net()
    expected = ec.measure(inner, images, layers="all")
    whole, part = wrap(inner), Around(wrap(inner)).eval()
    with torch.no_grad():
        whole(images[:20]), part(images[:20])
    found = ec.measure(whole, images, layers="all", batch_size=20)
    inside = ec.measure(part, images, layers="backbone.*", batch_size=20)
    assert list(found) == list(expected)
    for name, spectrum in expected.items():
        for other in (found[name], inside[f"backbone.{name}"]):
            assert other.n_images == 60
            assert torch.allclose(other.eigenvalues, spectrum.eigenvalues, atol=1e-6)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpointed_modules_are_read(images):
    assert ec.measure(Checkpointed(_net()), images, layers="backbone.2", batch_size=20)["backbone.2"].n_images == 60


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("program", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(2, 1, 8, 8))])
def test_programs_of_jit_are_refused_or_left_out(images, program):
    with pytest.raises(ActivationError, match=r"a program of torch\.jit, whose layers cannot be read"):
        ec.measure(program(_net()), images)
    assert list(ec.measure(Around(program(_net())), images, layers="all")) == ["fc"]


def test_a_layer_that_misses_batches_is_left_out(images):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 2)

        def forward(self, x):
            code = self.first(x.flatten(1))
            return self.last(self.act(code) if len(x) != 20 else code.tanh())

    spectra = ec.measure(Sometimes(), images, layers="all", batch_size=20)
    assert list(spectra) == ["first", "last"]
    assert spectra.skipped == {"act": "it was not called for every batch"}


def test_the_last_token(generator):
    images = torch.randn(30, 5, 8, generator=generator)
    network = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))
    last = ec.measure(network, images, layers="0", tokens="last")["0"]
    with torch.no_grad():
        expected = ec.Eigenspectrum.from_activations(network[0](images)[:, -1])
    assert torch.allclose(last.eigenvalues, expected.eigenvalues, atol=1e-6)


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer, self.error = nn.Linear(64, 2), error

    def forward(self, x):
        raise self.error


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def forward(self, *, pixels):
        return self.layer(pixels.flatten(1))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(7, 2)),
            "Use inputs of the size and channels it was made for; channels come first.",
        ),
        (ByKeyword(), "or wrap it in a module whose forward method takes the inputs alone."),
        (Raises(ValueError("28 x 28, please")), "Use inputs of the size and channels it was made for; channels come first."),
        (Raises(KeyError("pixels")), "Fix its forward method, or pass what it expects."),
        (Raises(RuntimeError("no more tokens")), "Fix its forward method, or pass what it expects."),
    ],
)
def test_why_a_network_cannot_run_is_said_as_it_is(images, network, sentence):
    with pytest.raises(ActivationError) as caught:
        ec.measure(network, images)
    assert str(caught.value).endswith(sentence)
    assert len(str(caught.value).splitlines()) == 1


def test_batches_that_are_dicts(images):
    network = _net()
    expected = ec.measure(network, images, layers="head")["2"]
    for extra in ({}, {"labels": torch.zeros(60)}, {"index": torch.arange(60), "name": ["x"] * 60}):
        rows = [{"pixel_values": image, **{key: value[i] for key, value in extra.items()}} for i, image in enumerate(images)]
        found = ec.measure(network, DataLoader(rows, batch_size=16), layers="head")["2"]
        assert torch.allclose(found.eigenvalues, expected.eigenvalues, atol=1e-10)
    two = [{"left": image, "right": image} for image in images]
    with pytest.raises(DataError, match="or one tensor of inputs; got left, right"):
        ec.measure(network, DataLoader(two, batch_size=16), layers="head")


class Within(nn.Module):
    """Calls itself, as for averages over turned images, or a part of itself."""

    def __init__(self):
        super().__init__()
        self.body, self.fc = nn.Linear(64, 6), nn.Linear(6, 2)

    def forward(self, x, features=False):
        if features:
            return self.body(x.flatten(1)).tanh()
        return self.fc(self(x, True) + self(x.flip(-1), True))


def test_a_network_that_calls_itself(images):
    spectra = ec.measure(Within(), images, layers=["body", "head"], batch_size=20)
    assert {name: spectrum.n_images for name, spectrum in spectra.items()} == {"body#1": 60, "body#2": 60, "fc.input": 60}


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(64, 64)

    def forward(self, x, depth=2):
        return self(self.inner(x).tanh(), depth - 1) if depth else x


def test_a_module_that_calls_itself(images):
    network = nn.Sequential(nn.Flatten(), Recursive(), nn.Linear(64, 2))
    with torch.no_grad():
        once = network[1].inner(images.flatten(1)).tanh()
        twice = network[1].inner(once).tanh()
    assert torch.allclose(ec.collect(network, images, layer="head"), twice, atol=1e-6)
    assert list(ec.measure(network, images, layers=["1.inner", "1"])) == ["1.inner#1", "1.inner#2", "1#3", "1#2", "1#1"]


def test_a_call_that_fails_and_is_caught_is_not_read(images):
    class Refusing(nn.Linear):
        def forward(self, x):
            if bool((x < 0).any()):
                raise ValueError("negative")
            return super().forward(x)

    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = nn.Linear(64, 6), Refusing(6, 2)

        def forward(self, x):
            code = self.body(x.flatten(1)).tanh()
            try:
                return self.fc(code)
            except ValueError:
                return self.fc(code.abs() + 0.1)

    assert float(ec.collect(Tries(), images, layer="fc.input").min()) >= 0.1


def test_a_submodule_called_input(images):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.output = nn.Linear(64, 5), nn.Linear(5, 4)

        def forward(self, x):
            return self.output(self.input(x))

    spectra = ec.measure(nn.Sequential(nn.Flatten(), Block(), nn.Linear(4, 2)), images, layers=["1.input", "1#1.input"])
    assert {name: spectrum.n_features for name, spectrum in spectra.items()} == {"1#1.input": 64, "1.input": 5}


def test_a_network_that_takes_pairs(generator):
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(x.view(-1, 16).view(-1, 8))

    assert ec.measure(Pairs(), torch.rand(40, 8, generator=generator), layers="fc", batch_size=10)["fc"].n_images == 40


def test_sparse_arguments_and_padded_tokens(generator):
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.fc = Mix(), nn.Linear(6, 2)
            self.adjacency = torch.eye(6).to_sparse()

        def forward(self, x):
            return self.fc(self.mix(self.adjacency, x))

    class Mix(nn.Module):
        def forward(self, adjacency, x):
            return (adjacency @ x.T).T

    images = torch.rand(30, 6, generator=generator)
    assert list(ec.measure(Graph(), images, layers=["mix", "head"])) == ["mix"]

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 2)
            self.fc = nn.Linear(6, 2)

        def forward(self, x):
            padding = torch.zeros(x.shape[:2], dtype=torch.bool)
            padding[:, -1] = True
            return self.fc(self.enc(x, src_key_padding_mask=padding)[:, 0])

    spectra = ec.measure(Padded().eval(), torch.randn(30, 4, 6, generator=generator), layers="enc,blocks,head")
    assert list(spectra) == ["enc.layers.0", "enc.layers.1", "enc", "fc.input"]
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_network_that_fails_at_a_later_batch(images):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 2)

        def forward(self, x):
            if len(x) == 7:
                raise ValueError("not seven")
            return self.fc(x.flatten(1))

    with pytest.raises(ActivationError, match=r"cannot run on inputs of shape \(1, 8, 8\) \(ValueError: not seven\)"):
        ec.measure(Fixed(), images[:27], layers="fc", batch_size=20)
