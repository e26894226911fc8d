"""Arguments by position and by name, sets of images and labels: every number is that of a plain NumPy computation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

import eigencode as ec
from eigencode.errors import ActivationError, DataError
from plain_numpy import Images, eigenvalues


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, left, right, *, scale=1.0):
        return self.head(torch.tanh(self.a(left) * scale + self.b(right)))


class TestArguments:
    @pytest.fixture
    def pair(self, generator):
        torch.manual_seed(0)
        return Pair().eval(), torch.rand(60, 6, generator=generator), torch.rand(60, 6, generator=generator)

    def test_all_ways_to_give_two_arguments(self, pair):
        network, left, right = pair
        labels = torch.zeros(60, dtype=torch.int64)
        ways = [
            (left, right),
            {"left": left, "right": right},
            {"right": right, "left": left, "labels": labels},
            [(left[:30], right[:30], labels[:30]), (left[30:], right[30:], labels[30:])],
            [((left[:20], right[:20]), labels[:20]), ((left[20:], right[20:]), labels[20:])],
            DataLoader([{"left": a, "right": b} for a, b in zip(left, right, strict=True)], batch_size=13),
            (left.numpy(), right.numpy()),
            {"left": left.numpy()[::-1].copy()[::-1], "right": right.numpy().astype(">f4")},
        ]
        with torch.no_grad():
            expected = eigenvalues(torch.tanh(network.a(left) + network.b(right)).double().numpy())
        for way in ways:
            (spectrum,) = ec.measure(network, way, layers="head").values()
            assert np.allclose(spectrum.eigenvalues.numpy(), expected, rtol=0, atol=1e-6 * expected[0])
            assert spectrum.n_images == 60

    def test_what_is_no_row_is_handed_on(self, pair):
        network, left, right = pair
        scaled = ec.measure(network, {"left": left, "right": right, "scale": torch.tensor(0.5)}, layers="head", batch_size=7)
        with torch.no_grad():
            expected = eigenvalues(torch.tanh(network.a(left) / 2 + network.b(right)).double().numpy())
        (spectrum,) = scaled.values()
        assert np.allclose(spectrum.eigenvalues.numpy(), expected, rtol=0, atol=1e-6 * expected[0])

    @pytest.mark.parametrize(
        ("given", "error", "text"),
        [
            (lambda a, b: {"left": a, "right": b, "middle": a}, DataError, "takes no argument 'middle'"),
            (lambda a, b: {"one": a, "two": b}, DataError, "must hold arguments of the network by their names"),
            (lambda a, b: ({"left": a, "right": b} for _ in range(2)), DataError, "a generator can be read only once"),
            (lambda a, b: [], DataError, "there are no batches of inputs"),
            (lambda a, b: {"left": a}, ActivationError, "cannot run on a batch of left float32"),
            (
                lambda a, b: {"left": a, "right": b.tolist()},
                DataError,
                "`right` must be a tensor, an array, a number or a text; got list",
            ),
            (lambda a, b: [("one", "two")], DataError, "batches must hold tensors of inputs; got str"),
            (lambda a, b: (a[:1], b[:1]), DataError, "at least 2 inputs are needed"),
        ],
    )
    def test_what_cannot_be_given_is_refused(self, pair, given, error, text):
        network, left, right = pair
        with pytest.raises(error, match=text):
            ec.measure(network, given(left, right), layers="head")

    def test_numbers_and_texts_are_passed_on(self, pair):
        network, left, right = pair
        with torch.no_grad():
            code = torch.tanh(network.a(left) * 2.5 + network.b(right)).double().numpy()
        found = ec.measure(network, {"left": left, "right": right, "scale": 2.5}, layers="head")
        values = eigenvalues(code)
        assert np.allclose(next(iter(found.values())).eigenvalues.numpy()[:12], values, rtol=0, atol=1e-6 * values[0])

        class ByName(Pair):
            def forward(self, **given):
                return super().forward(**given)

        by_name = ByName().eval()
        by_name.load_state_dict(network.state_dict())
        again = ec.measure(by_name, {"left": left, "right": right, "scale": 2.5}, layers="head")
        assert torch.equal(next(iter(again.values())).eigenvalues, next(iter(found.values())).eigenvalues)

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (
                lambda a: {"left": a, "right": a, "scale": object()},
                "`scale` must be a tensor, an array, a number or a text; got object",
            ),
            (lambda a: [pack_sequence([a[:3], a[3:5]])], "a PackedSequence has no row for each input"),
            (lambda a: [(pack_sequence([a[:3], a[3:5]]), a[:2])], "a PackedSequence has no row for each input"),
            (list, "every item of a list is a batch, with a row for each input; got shape \\(6,\\)"),
        ],
    )
    def test_what_has_no_rows_is_refused(self, pair, given, text):
        network, left, _ = pair
        with pytest.raises(DataError, match=text):
            ec.measure(network, given(left), layers="head")

    def test_any_number_of_arguments(self, pair):
        network, left, right = pair

        class Branches(Pair):
            def forward(self, *given):
                return super().forward(*given)

        branches = Branches().eval()
        branches.load_state_dict(network.state_dict())
        with pytest.raises(DataError, match="Pass them as a tuple in a tuple"):
            ec.measure(branches, (left, right), layers="head")
        found, expected = (
            ec.measure(net, given, layers="head") for net, given in ((branches, ((left, right),)), (network, (left, right)))
        )
        assert torch.equal(found["head.input"].eigenvalues, expected["head.input"].eigenvalues)

    def test_a_mask_that_the_network_would_not_get_is_refused(self, generator):
        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                self.line = nn.Linear(4, 3)

            def forward(self, x, mask=None):
                return self.line(x if mask is None else x * mask[:, :, None]).mean(1)

        x, mask = torch.randn(30, 5, 4, generator=generator), torch.ones(30, 5)
        labels = torch.arange(30) % 3
        for batch in ((x, mask), (x, mask, labels)):
            with pytest.raises(DataError, match="two parts with one number of tokens"):
                ec.measure(Masked(), [batch], layers="line")
        found = ec.measure(Masked(), [(x, labels)], layers="line")
        assert found.n_labelled == 30
        for whole in (({"x": x}, mask), ((x,), mask)):  # all arguments are there, and what follows are labels of tokens
            assert "line" in ec.measure(Masked(), [whole], layers="line")

    def test_a_graph_is_a_list_of_one_batch(self, generator):
        class Graph(nn.Module):
            def __init__(self):
                super().__init__()
                self.line = nn.Linear(6, 4)

            def forward(self, nodes, edges):
                return self.line(nodes.index_add(0, edges[1], nodes[edges[0]]))

        nodes, edges = torch.randn(200, 6, generator=generator), torch.randint(0, 200, (2, 700), generator=generator)
        with pytest.raises(ActivationError, match="such as a graph, in a list of whole batches"):
            ec.measure(Graph(), (nodes, edges), layers="line")
        found = ec.measure(Graph(), [(nodes, edges)], layers="line.input")["line.input"]
        values = eigenvalues(nodes.index_add(0, edges[1], nodes[edges[0]]).double().numpy())
        assert np.allclose(found.eigenvalues.numpy(), values, rtol=0, atol=1e-6 * values[0])

    def test_the_callers_tensors_are_not_changed(self, pair):
        _, left, right = pair

        class InPlace(Pair):
            def forward(self, left, right):
                return super().forward(left.mul_(3), right.sub_(1))

        before = left.clone(), right.clone()
        ec.measure(InPlace(), (left, right), layers="head")
        assert torch.equal(left, before[0])
        assert torch.equal(right, before[1])

    def test_a_dataset_is_read_in_batches(self, generator):
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 4)).eval()
        images, labels = torch.rand(50, 1, 4, 4, generator=generator), torch.arange(50) % 4
        whole = ec.measure(network, images, layers="all")
        piecewise = ec.measure(network, Images(images, labels), layers="all", batch_size=11)
        for name in whole:
            assert torch.allclose(whole[name].eigenvalues, piecewise[name].eigenvalues, rtol=0, atol=1e-12)
        with torch.no_grad():
            right = float((network(images).argmax(1) == labels).double().mean())
        assert (piecewise.accuracy, piecewise.n_labelled, whole.accuracy) == (right, 50, None)


class TestSets:
    def test_half_samples_have_all_images_of_a_set_or_none(self, generator):
        originals = torch.randn(40, 30, generator=generator, dtype=torch.float64)
        images = originals.repeat_interleave(3, dim=0)
        groups = np.repeat([f"cat {number}" for number in range(40)], 3)
        network = nn.Sequential(nn.Identity(), nn.Linear(30, 30, bias=False, dtype=torch.float64))
        once = ec.measure(network, originals, layers="1")["1"]
        together = ec.measure(network, images, layers="1", groups=groups, batch_size=7)["1"]
        apart = ec.measure(network, images, layers="1")["1"]
        assert all(count % 3 == 0 for count in together.half_counts)
        names = {name: number for number, name in enumerate(sorted(set(groups)))}
        assert [names[name] for name in groups[::3]] != list(range(40))  # numbered by name: other halves than once
        spread = [float(s.half_samples[:, :5].log().std(dim=0).mean()) for s in (once, together, apart)]
        assert spread[1] == pytest.approx(spread[0], rel=0.35)
        assert spread[2] < 0.9 * spread[0]  # copies in both halves hide what images differ by

    def test_lists_of_batches_have_no_sets(self, generator):
        batches = list(torch.rand(60, 6, generator=generator).split(20))
        with pytest.raises(DataError, match="`groups` need inputs whose number is known"):
            ec.measure(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), batches, layers="0", groups=range(60))

    def test_loaders_that_shuffle_have_no_sets(self, generator):
        network, images = (
            nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)),
            Images(torch.rand(60, 6, generator=generator), [0] * 60),
        )
        groups = torch.arange(60) // 2
        with pytest.raises(DataError, match="`groups` are in the order of the data"):
            ec.measure(network, DataLoader(images, 10, shuffle=True), layers="all", groups=groups)
        (spectrum, *_) = ec.measure(network, DataLoader(images, 10), layers="all", groups=groups).values()
        (whole, *_) = ec.measure(network, images.images, layers="all", groups=groups).values()
        assert torch.allclose(spectrum.half_samples, whole.half_samples)

    @pytest.mark.parametrize(
        "groups",
        [[0, 1], np.zeros((60, 2)), [np.nan] * 60, [None] * 60, [[1], [1, 2]] * 30, np.array(["a", np.nan] * 30, object)],
    )
    def test_wrong_sets_are_refused(self, groups, generator):
        network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
        with pytest.raises(DataError, match="`groups` must"):
            ec.measure(network, torch.rand(60, 6, generator=generator), layers="all", groups=groups)


class TestLabels:
    def test_negative_ones_are_unknown_whatever_the_batches(self, generator):
        network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        images, labels = torch.rand(100, 6, generator=generator), torch.arange(100) % 4
        labels[0] = -100
        with torch.no_grad():
            right = float((network(images).argmax(1) == labels)[1:].double().mean())
        for size in (20, 100):
            found = ec.measure(network, Images(images, labels), layers="0", batch_size=size)
            assert (found.accuracy, found.n_labelled) == (right, 99)

    def test_arguments_with_names_of_labels_are_given_where_they_are_needed(self, generator):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.line, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

            def forward(self, source, target):
                return self.head(self.line(source) * self.line(target))

        given = torch.rand(40, 6, generator=generator)
        assert ec.measure(Both(), {"source": given, "target": given}, layers="head")["head.input"].n_features == 8

    def test_inputs_of_other_sizes_are_told_how(self):
        ragged = Images([torch.rand(n, 6) for n in (3, 4, 5)], [0, 1, 2])
        with pytest.raises(DataError, match="must have one size.*collate_fn"):
            ec.measure(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), ragged, layers="0")


@pytest.mark.parametrize(
    ("labels", "outputs", "text"),
    [
        (torch.arange(40) % 4 + 1, 4, "labels go up to 4, and the 4 outputs are numbered from 0"),
        (torch.arange(40) % 4, None, "one score"),
    ],
)
def test_why_there_is_no_accuracy(labels, outputs, text, generator):
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), *([nn.Linear(5, outputs)] if outputs else [nn.Unflatten(1, (5, 1))]))
    found = ec.measure(network, Images(torch.rand(40, 6, generator=generator), labels), layers="0")
    assert (found.accuracy, found.n_labelled) == (None, 40)
    assert text in found.without_accuracy


def test_normalisation_by_any_name(generator):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.head = nn.Flatten(), nn.Linear(12, 2)

        def forward(self, x):
            return self.head(self.flat(x))

    images = torch.rand(50, 3, 2, 2, generator=generator)
    network = ec.models.normalize_inputs(Net(), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    one, other = (ec.measure(network, given, layers="flat")["flat"].total_variance for given in (images, {"x": images}))
    assert one == pytest.approx(other, rel=1e-6)
    assert one == pytest.approx(100 * float(images.flatten(1).double().var(dim=0).sum()), rel=1e-4)
