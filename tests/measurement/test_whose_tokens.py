"""Masks and sequences in networks of many kinds: what a mask belongs to, and what is refused since that cannot be known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencode as ec
from eigencode.errors import ActivationError
from plain_numpy import eigenvalues

N, TOKENS, WIDTH = 80, 12, 6


@pytest.fixture
def sequences(generator):
    """Numbers (n, tokens, width), ids, and two masks."""
    lengths = torch.randint(2, TOKENS + 1, (2, N, 1), generator=generator)
    lengths[:, 0] = TOKENS
    masks = (torch.arange(TOKENS) < lengths).long()
    ids = torch.randint(1, 40, (N, TOKENS), generator=generator)
    return torch.randn(N, TOKENS, WIDTH, generator=generator), ids, masks[0], masks[1]


def assert_equal(spectrum, rows):
    values = eigenvalues(rows.double().numpy())[: len(spectrum.eigenvalues)]
    assert spectrum.n_samples == len(rows)
    assert np.allclose(spectrum.eigenvalues.numpy(), values, rtol=0, atol=1e-6 * values[0])


class Net(nn.Module):
    """Layers that the networks below use, each in its own way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.line = nn.Embedding(40, WIDTH), nn.Linear(WIDTH, 5)
        self.conv, self.patches, self.head = nn.Conv1d(WIDTH, 5, 3, padding=1), nn.Linear(4 * WIDTH, 5), nn.Linear(5, 3)


class Signal(Net):
    """Channels come first, tokens last."""

    def forward(self, x, attention_mask=None):
        x = x if attention_mask is None else x * attention_mask[:, None]
        return self.head(self.conv(x).mean(2))


class IgnoringSignal(Signal):
    def forward(self, x, attention_mask=None):
        return super().forward(x)


class FixedPlaces(Net):
    """Has a class token and places for one number of tokens alone."""

    def __init__(self):
        super().__init__()
        self.first, self.places = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, TOKENS + 1, WIDTH))

    def forward(self, input_ids, attention_mask=None):
        embedded = torch.cat([self.first.expand(len(input_ids), -1, -1), self.embed(input_ids)], 1)
        return self.head(self.line(embedded + self.places).mean(1))


class Patches(Net):
    """Puts four tokens side by side."""

    def forward(self, input_ids, attention_mask=None):
        return self.head(self.patches(self.embed(input_ids).view(len(input_ids), -1, 4 * WIDTH)).mean(1))


class Strided(Net):
    """Has one row of output for this number of tokens and for one less."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv1d(WIDTH, 5, 7, stride=3)

    def forward(self, input_ids, attention_mask=None):
        return self.head(self.line_of(self.strided(self.embed(input_ids).transpose(1, 2)).transpose(1, 2)).mean(1))

    def line_of(self, code):
        return functional.tanh(code)


@pytest.mark.parametrize("options", [{"units": "channels"}, {"units": "pooled"}])
@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (Signal(), "conv"),
        (IgnoringSignal(), "conv"),
        (FixedPlaces(), "line"),
        (Patches(), "patches"),
        (Strided(), "strided"),
    ],
)
def test_padding_is_never_measured_where_tokens_are_not_found(sequences, network, layer, options):
    x, ids, mask, _ = sequences
    first = {"x": x.transpose(1, 2)} if isinstance(network, Signal) else {"input_ids": ids}
    found = ec.measure(network, first | {"attention_mask": mask}, layers=[layer, "head#1"], **options)
    assert "may hold padding" in found.skipped[layer]
    for full in (first, first | {"attention_mask": torch.ones_like(mask)}):
        assert layer in ec.measure(network, full, layers=[layer, "head#1"], **options)


class TwoTexts(Net):
    def forward(self, input_ids_a, attention_mask_a, input_ids_b, attention_mask_b):
        codes = [
            (self.line(self.embed(ids)) * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            for ids, mask in ((input_ids_a, attention_mask_a), (input_ids_b, attention_mask_b))
        ]
        return self.head(codes[0] * codes[1])


class QueryAndDocument(TwoTexts):
    def forward(self, query_input_ids, query_attention_mask, doc_input_ids, doc_attention_mask):
        return super().forward(query_input_ids, query_attention_mask, doc_input_ids, doc_attention_mask)


class SourceAndTarget(Net):
    def forward(self, source, target, source_mask):
        known = (self.line(self.embed(source)) * source_mask[:, :, None]).sum(1, keepdim=True)
        return self.head((self.patches(self.embed(target).repeat(1, 1, 4)) + known).mean(1))


@pytest.mark.parametrize("others", [TOKENS, TOKENS - 3])
def test_every_mask_is_that_of_its_own_sequence(sequences, others):
    _, ids, one, two = sequences
    two = two[:, :others]
    second = ids.flip(0)[:, :others]
    rows = [network_rows(TwoTexts(), each, mask) for each, mask in ((ids, one), (second, two))]
    for network, names in (
        (TwoTexts(), ("input_ids_a", "attention_mask_a", "input_ids_b", "attention_mask_b")),
        (QueryAndDocument(), ("query_input_ids", "query_attention_mask", "doc_input_ids", "doc_attention_mask")),
    ):
        given = dict(zip(names, (ids, one, second, two), strict=True))
        found = ec.measure(network, given, layers=["line#1", "line#2"], units="channels", batch_size=20)
        assert_equal(found["line#1"], rows[0])
        assert_equal(found["line#2"], rows[1])


def network_rows(network, ids, mask):
    with torch.no_grad():
        return network.line(network.embed(ids))[mask.bool()]


def test_a_sequence_without_a_mask_is_measured_whole(sequences):
    _, ids, mask, _ = sequences
    network, target = SourceAndTarget(), ids.flip(0)
    given = {"source": ids, "target": target, "source_mask": mask}
    found = ec.measure(network, given, layers=["line", "patches"], units="channels", mask="source_mask")
    assert_equal(found["line"], network_rows(network, ids, mask))
    with torch.no_grad():
        assert_equal(found["patches"], network.patches(network.embed(target).repeat(1, 1, 4)).flatten(0, 1))
    unnamed = ec.measure(network, given, layers="line", units="channels")
    assert unnamed["line"].n_samples == N * TOKENS
    assert unnamed.notes == {"line": "every token counts: name `source_mask` if it is their mask"}


class Reordered(Net):
    """Sorts its inputs by length, or turns its tokens round, or lets padding reach other tokens; or does none of these."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, input_ids, attention_mask):
        embedded = self.embed(input_ids)
        if self.how == "sorted":
            embedded = embedded[attention_mask.sum(1).argsort()]
        elif self.how == "flipped":
            embedded = embedded.flip(1)
        elif self.how == "mixed":
            embedded = self.conv(embedded.transpose(1, 2)).transpose(1, 2).repeat(1, 1, 2)[..., :WIDTH]
        return self.head(self.line(embedded).mean(1))


@pytest.mark.parametrize("how", ["sorted", "flipped", "mixed", "plain"])
def test_padding_that_reaches_tokens_is_told(sequences, how):
    _, ids, mask, _ = sequences
    mask[0, 3:], mask[1, 7:] = 0, 0
    given = {"input_ids": ids, "attention_mask": mask}
    found = ec.measure(Reordered(how), given, layers="line", units="channels")
    assert ("depends on what the padding holds" in found.notes.get("line", "")) is (how != "plain")


def test_other_masks_are_not_of_padding(sequences):
    class Attending(Net):
        def forward(self, input_ids, attention_mask, global_attention_mask, pixel_attention_mask):
            return self.head(self.line(self.embed(input_ids)).mean(1) + global_attention_mask.sum() + pixel_attention_mask.sum())

    _, ids, mask, _ = sequences
    others = {"global_attention_mask": torch.zeros_like(mask), "pixel_attention_mask": torch.ones(N, 4, 4)}
    network = Attending()
    found = ec.measure(network, {"input_ids": ids, "attention_mask": mask} | others, layers="line", units="channels")
    assert_equal(found["line"], network_rows(network, ids, mask))


@pytest.mark.parametrize("width", [TOKENS, TOKENS - 5])
def test_a_table_beside_texts_is_none_of_their_tokens(sequences, width):
    class WithTable(Net):
        def __init__(self):
            super().__init__()
            self.table = nn.Linear(width, 5)

        def forward(self, input_ids, attention_mask, table):
            return self.head(self.line(self.embed(input_ids)).mean(1) + self.table(table))

    _, ids, mask, _ = sequences
    network, table = WithTable(), torch.randn(N, width)
    given = {"input_ids": ids, "attention_mask": mask, "table": table}
    found = ec.measure(network, given, layers=["line", "table"], units="channels")
    assert_equal(found["line"], network_rows(network, ids, mask))
    with torch.no_grad():
        assert_equal(found["table"], network.table(table))


class TestRecurrentLayers:
    def test_states_of_several_layers_are_told(self, sequences):
        x, *_ = sequences

        class Stacked(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(WIDTH, 4, num_layers=2, bidirectional=True, batch_first=True)

            def forward(self, x):
                return self.lstm(x)[0].mean(1)

        found = ec.measure(Stacked(), x, layers="lstm[1][0]", units="channels")
        assert found.notes == {"lstm[1][0]": "`lstm[1][0]` has the states of 4 layers and directions, taken for as many tokens"}
        assert not ec.measure(Stacked(), x, layers="lstm[1][0]").notes

    def test_one_sequence_is_no_batch(self, sequences):
        x, *_ = sequences
        network = nn.LSTM(WIDTH, 4, batch_first=True)

        class Last(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = network

            def forward(self, x):
                return self.lstm(x)[0]

        with pytest.raises(ActivationError, match="is that of one sequence, without an axis of inputs"):
            ec.measure(Last(), list(x), layers="lstm[0]")


def test_a_gain_for_each_token_is_not_one_for_each_channel(sequences):
    class Weighted(Net):
        def __init__(self):
            super().__init__()
            self.gains = Gains()

        def forward(self, x):
            return self.head(self.line(self.gains(x)).mean(1))

    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.rand(TOKENS))

        def forward(self, x):
            return x * self.gain[:, None]

    x, *_ = sequences
    found = ec.measure(Weighted(), x, layers=["gains"], units="channels")
    assert found["gains"].n_features == WIDTH or "does not say where its channels are" in found.notes["gains"]
