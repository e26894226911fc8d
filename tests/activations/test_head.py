"""What the classifier reads, whatever lies before it and after it, against a hook of the test's own."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencode as ec
from eigencode.activations import trace


class Functions(nn.Module):
    """ReLU and pooling by functions, a shortcut that is empty."""

    def __init__(self):
        super().__init__()
        self.conv, self.shortcut, self.linear = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(), nn.Linear(16, 10)

    def forward(self, x):
        x = self.conv(x)
        x = functional.relu(x + self.shortcut(x))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.linear = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(functional.relu_(self.first(x.flatten(1))))


class ClassToken(nn.Module):
    """A part of what the module before returns."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(self.norm(x.flatten(2))[:, 0])


class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.linear = nn.GRU(3, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.linear(self.rnn(x.flatten(2).permute(2, 0, 1))[0][-1])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.linear_first, self.linear = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        code = self.body(x.flatten(1)).tanh()
        return (self.linear_first(code) + self.linear(code.square())) / 2


class AfterTheScores(nn.Module):
    """The last module that is called has no part in the scores."""

    def __init__(self):
        super().__init__()
        self.body, self.linear, self.other = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 4)
        self.seen = None

    def forward(self, x):
        code = self.body(x.flatten(1)).sigmoid()
        scores = self.linear(code)
        self.seen = self.other(code)
        return scores.log_softmax(dim=1)


class Cosine(nn.Module):
    """A head of its own, with weights but no Linear."""

    def __init__(self):
        super().__init__()
        self.body, self.linear = nn.Linear(12, 6), CosineHead()

    def forward(self, x):
        return self.linear(functional.gelu(self.body(x.flatten(1))))


class CosineHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x):
        return 10 * functional.normalize(x, dim=1) @ functional.normalize(self.weight, dim=1).T


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.linear = nn.Linear(12, 6), Named()

    def forward(self, x):
        return {"aux": [], "logits": self.linear(code=self.body(x.flatten(1)) ** 3)}


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3))

    def forward(self, *, code):
        return code @ self.weight


class Chunk(nn.Module):
    """Reads one of two parts that share memory."""

    def __init__(self):
        super().__init__()
        self.body, self.linear = Halves(), nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(self.body(x)[1])


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x):
        return self.inner(x.flatten(1)).chunk(2, 1)


class Inference(InPlace):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


class BehindAutograd(InPlace):
    def forward(self, x):
        code = self.first(x.flatten(1))
        code.data.clamp_(min=0)
        return self.linear(code)


class SecondTry(nn.Module):
    """Calls its classifier in vain before."""

    def __init__(self):
        super().__init__()
        self.body, self.smaller, self.linear = nn.Linear(12, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        code = self.body(x.flatten(1)).tanh()
        try:
            return self.linear(code)
        except RuntimeError:
            return self.linear(self.smaller(code).sigmoid())


class Scores(NamedTuple):
    logits: torch.Tensor


class InTuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.linear = nn.Linear(12, 6), Named2()

    def forward(self, x):
        return self.linear(self.body(x.flatten(1)).tanh()).logits / 2


class Named2(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(torch.randn(6, 3))

    def forward(self, x):
        return Scores(x @ self.inner)


@dataclass
class Answer:
    features: torch.Tensor
    logits: torch.Tensor


class InDataclass(InPlace):
    def forward(self, x):
        code = self.first(x.flatten(1)).tanh()
        return Answer(code * 1, self.linear(code * 2))


class Temperature(InPlace):
    """Scales its scores by a learned number."""

    def __init__(self):
        super().__init__()
        self.scale = Scale()

    def forward(self, x):
        return self.scale(self.linear(self.first(x.flatten(1)).exp()))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.full((1, 1), 3.0))

    def forward(self, x):
        return x * self.by


class WithParts(InPlace):
    """A head with weights of its own that calls another module."""

    def __init__(self):
        super().__init__()
        self.linear = Dropping()

    def forward(self, x):
        return self.linear(self.first(x.flatten(1)).exp())


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.randn(8, 3)), nn.Dropout()

    def forward(self, x):
        return self.drop(x) @ self.weight


class Prototypes(WithParts):
    def __init__(self):
        super().__init__()
        self.linear = Distances()


class Distances(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("prototypes", torch.randn(3, 8))

    def forward(self, x):
        return -torch.cdist(x, self.prototypes)


class NotANumber(WithParts):
    def forward(self, x):
        return super().forward(x) * torch.tensor([1.0, float("nan"), 1.0])


class WithAConstant(WithParts):
    def __init__(self):
        super().__init__()
        self.linear = Tempered()

    def forward(self, x):
        return self.linear(code=self.first(x.flatten(1)).exp(), temperature=torch.tensor(0.5))


class Tempered(Dropping):
    def forward(self, code, temperature):
        return super().forward(code) / temperature


NETWORKS = [Functions, InPlace, ClassToken, LastStep, TwoHeads, AfterTheScores, Cosine, ByKeyword]
NETWORKS += [
    Inference,
    BehindAutograd,
    SecondTry,
    InTuple,
    InDataclass,
    Temperature,
    WithParts,
    Prototypes,
    NotANumber,
    WithAConstant,
]


@pytest.mark.parametrize("kind", NETWORKS)
def test_is_what_the_classifier_is_given(kind, generator):
    network, images = kind(), torch.rand(20, 3, 2, 2, generator=generator)
    given = []

    def keep(_module, args, kwargs):
        given.append((*args, *kwargs.values())[0].detach().clone())

    with network.linear.register_forward_pre_hook(keep, with_kwargs=True), torch.no_grad():
        network(images)
    found = ec.collect(network, images, layer="head", batch_size=20)
    assert torch.equal(found, given[-1].flatten(1))
    assert torch.equal(ec.collect(network, images, layer="penultimate", batch_size=20), found)
    spectra = ec.measure(network, images, layers="head", batch_size=7)
    assert [name for name in spectra if name.startswith("linear") and ".input" in name] == list(spectra)
    assert not spectra.notes or kind not in PLAIN


PLAIN = (Functions, InPlace, ClassToken, LastStep, Cosine, Inference, BehindAutograd, WithParts, Prototypes)
"""Whose scores are what the head makes."""


def test_parts_of_one_tensor_are_told_apart(generator):
    network, images = Chunk(), torch.rand(20, 3, 2, 2, generator=generator)
    with torch.no_grad():
        second = network.body(images)[1]
    assert torch.equal(ec.collect(network, images, layer="head", batch_size=20), second)


@pytest.mark.parametrize("replaces", [True, False])
def test_looking_for_the_head_leaves_the_network_as_it_was(generator, replaces):
    class Normed(nn.Module):
        """Keeps the largest code that it has seen, in the same tensor or another."""

        def __init__(self):
            super().__init__()
            self.body = nn.Linear(12, 6)
            self.register_buffer("peak", torch.zeros(()))

        def forward(self, x):
            code = self.body(x)
            largest = torch.maximum(self.peak, code.abs().amax())
            self.peak = largest if replaces else self.peak.copy_(largest)
            return (code / self.peak).softmax(dim=1)

    network, images = Normed(), torch.rand(20, 12, generator=generator)
    with torch.no_grad():
        network(images)
    before = float(network.peak)
    assert list(ec.measure(network, images, layers=["head", "body"])) == ["body.input", "body"]
    assert float(network.peak) == before


def test_the_steps_of_a_recurrent_layer_of_tokens_first(generator):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 6)

        def forward(self, x):
            return self.rnn(x.transpose(0, 1))[0][-1]

    images = torch.randn(30, 5, 4, generator=generator)
    spectra = ec.measure(Pooled(), images, layers="head", batch_size=8)
    assert {name: (spectrum.n_images, spectrum.n_features) for name, spectrum in spectra.items()} == {"rnn.input": (30, 20)}


def test_is_named_as_the_layer_that_makes_it():
    """Seen through views and dropout, and not where its numbers were changed since or are a part."""
    images = torch.rand(3, 12)
    plain = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2))
    assert trace(plain, images).head.name == "1"
    assert trace(nn.Sequential(nn.Linear(12, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), images).head.name == "1"
    assert trace(InPlace(), images).head.name == "linear.input"


class TiedHead(nn.Module):
    """The scores are made by a function."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 6))
        self.body, self.last = nn.Linear(12, 8), nn.Linear(8, 6)

    def forward(self, x):
        return functional.linear(self.last(self.body(x).tanh()), self.weight)


class EachToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 7)

    def forward(self, x):
        return self.linear(self.norm(x.view(-1, 3, 4)))


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        (TiedHead, "`last.input` is what last reads, which does not return the scores itself"),
        (EachToken, "`norm` is what linear reads, which scores each token or position"),
    ],
)
def test_what_is_unusual_is_said(kind, note, generator):
    spectra = ec.measure(kind(), torch.randn(40, 12, generator=generator), layers="head")
    assert list(spectra.notes.values()) == [note]
    assert list(spectra.notes) == list(spectra)


class LayerScale(nn.Module):
    """Weights that make no units of their own, though they have several dimensions."""

    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.full((width, 1), 0.7))

    def forward(self, x):
        return x * self.gain[:, 0]


@pytest.mark.parametrize(
    ("network", "shape", "head"),
    [
        (nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)), (12,), "1"),
        (nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)), (12,), "1"),
        (nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid()), (12,), "1"),
        (nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1)), (2, 6, 6), "1"),
        (nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 1, 1)), (2, 6), "1"),
        (nn.Sequential(nn.Linear(12, 8), LayerScale(8), nn.Linear(8, 1), LayerScale(1)), (12,), "1"),
        (nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 3), LayerScale(3)), (12,), "0"),
        (nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1), nn.Linear(1, 6)), (1,), "2"),
    ],
)
def test_one_output_is_made_by_a_head_too(network, shape, head):
    images = torch.randn(30, *shape)
    assert list(ec.measure(network, images, layers="head")) == [head]


class Several(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.body, self.other, self.linear, self.order = nn.Linear(12, 8), nn.Linear(8, 5), nn.Linear(8, 4), order

    def forward(self, x):
        code = self.body(x).tanh()
        found = {"e": self.other(code), "logits": self.linear(code)}
        if self.order == "named":
            return found
        scores = tuple(found[name] for name in self.order)
        return {"features": scores[0], "output": scores[1]} if self.order == ("e", "logits") else scores


def test_of_several_outputs_the_first_is_taken_and_told(generator):
    images, labels = torch.randn(40, 12, generator=generator), torch.arange(40) % 4
    for order, head in ((("e", "logits"), "other.input"), (("logits", "e"), "linear.input")):
        found = ec.measure(Several(order), [(images, labels)], layers="head")
        assert list(found) == [head]
        assert "makes the first of 2 tensors that the network returns, none of them called logits" in found.notes[head]
        assert found.accuracy is None
        assert found.without_accuracy.startswith("the network returns several tensors")
    network = Several("named")
    found = ec.measure(network, [(images, labels)], layers="head")
    assert (list(found), found.notes) == (["linear.input"], {})
    with torch.no_grad():
        assert found.accuracy == float((network(images)["logits"].argmax(1) == labels).double().mean())


class Remembering(nn.Module):
    """Keeps what it has seen, as buffers and as attributes, whatever the mode."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(12, 6), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.mean, self.calls = None, 0

    def forward(self, x, attention_mask=None):
        code = self.body(x)
        self.seen += len(x)
        self.calls += 1
        self.mean = code.mean() if self.mean is None else 0.9 * self.mean + 0.1 * code.mean()
        self.last = code
        return self.head(code - self.mean)


@pytest.mark.parametrize("layers", ["head#1", "head"])
def test_looking_for_layers_leaves_no_trace_in_the_network(generator, layers):
    torch.manual_seed(0)
    network, plain = Remembering(), Remembering()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(50, 12, generator=generator)
    spectrum = next(iter(ec.measure(network, images, layers=layers, batch_size=10).values()))
    assert (int(network.seen), network.calls) == (50, 5)
    with torch.no_grad():
        codes = []
        plain.head.register_forward_hook(lambda _m, args, output: codes.append(output if layers == "head#1" else args[0]))
        for batch in images.split(10):
            plain(batch)
    values = torch.linalg.eigvalsh(torch.cat(codes).double().T.cov()).flip(0)
    assert torch.allclose(spectrum.eigenvalues[: len(values)], values, rtol=0, atol=1e-6 * float(values[0]))


def test_what_a_network_makes_of_its_attributes_is_undone(generator):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(12, 6), nn.Linear(6, 3)
            self.cache, self.last, self.mean = (), [], torch.zeros(6)

        def forward(self, x):
            code = self.body(x)
            assert isinstance(self.cache, tuple) or len(self.cache)
            self.cache, self.last, self.mean, self.new = code, code, None, 1
            return self.head(code)

    network = Caching()
    trace(network, torch.randn(3, 12, generator=generator))
    assert (network.cache, network.last, network.mean.tolist(), hasattr(network, "new")) == ((), [], [0.0] * 6, False)
    assert list(ec.measure(network, torch.randn(30, 12, generator=generator), layers="head")) == ["body"]


def test_lazy_layers_are_made_by_the_first_pass(generator):
    network = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    assert list(ec.measure(network, torch.randn(30, 12, generator=generator), layers="head")) == ["1"]


def test_noise_in_the_network_does_not_make_a_module_matter():
    class Noisy(AfterTheScores):
        def forward(self, x):
            return super().forward(functional.dropout(x, 0.5, training=True))

    assert trace(Noisy(), torch.rand(3, 12)).head.name == "linear.input"
