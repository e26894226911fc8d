import pytest
import torch
from torch import nn

from eigencode._codes import CodeOptions
from eigencode.activations import as_code, capture_codes, select_sites, trace
from eigencode.errors import ActivationError
from eigencode.measurement.measuring import collect


class Twice(nn.Module):
    """One ReLU called twice, in place, and a tuple and an integer output."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(5)
        self.pair, self.index = Pair(), Index()

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        x, _ = self.pair(self.drop(x))
        self.index(x)
        return self.last(self.relu(self.second(x)))


class Pair(nn.Module):
    def forward(self, x):
        return x * 2, {"half": x / 2}


class Index(nn.Module):
    def forward(self, x):
        return x.argmax(dim=1)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Twice()


@pytest.fixture
def inputs(generator):
    return torch.randn(8, 6, generator=generator)


def read(model, inputs, layers):
    traced = trace(model, inputs[:2])
    codes = {}
    chosen = select_sites(traced, layers)
    with capture_codes(model, chosen, lambda name, code: codes.__setitem__(name, code.rows.clone()), CodeOptions()):
        model(inputs)
    return codes


def names(model, inputs, layers):
    return [layer.name for layer in select_sites(trace(model, inputs), layers)]


class TestNames:
    def test_all_is_every_leaf_that_computes(self, model, inputs):
        assert names(model, inputs, "all") == [
            "first",
            "norm",
            "relu#1",
            "pair[0]",
            "pair[1][half]",
            "index",
            "second",
            "relu#2",
            "last",
        ]

    def test_penultimate_is_what_the_last_weights_read(self, model, inputs):
        assert names(model, inputs, "penultimate") == ["relu#2"]

    def test_penultimate_sees_through_dropout_and_views(self, inputs):
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Dropout(), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 2))
        assert names(model, inputs, "penultimate") == ["3"]  # the same numbers as module 1, seen last in module 3

    @pytest.mark.parametrize(
        ("request_", "found"),
        [
            ("relu", ["relu#1", "relu#2"]),
            ("relu#2", ["relu#2"]),
            (["last", "first"], ["first", "last"]),
            ("*n*", ["norm", "index", "second"]),
            ("pair*", ["pair[0]", "pair[1][half]"]),
            (["first", "first", "f*"], ["first"]),
        ],
    )
    def test_names_and_globs(self, model, inputs, request_, found):
        assert names(model, inputs, request_) == found

    def test_parametrized_weights_are_no_layers(self, inputs):
        last = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), last)
        assert names(model, inputs, "penultimate") == ["3"]
        assert names(model, inputs, "all") == ["0", "1", "2", "3", "4"]

    def test_a_module_under_two_names_is_one_layer_called_twice(self, inputs):
        model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
        model[2] = model[0]
        assert names(model, inputs, "all") == ["0#1", "1", "0#2"]

    def test_containers_can_be_named(self, inputs):
        model = nn.Sequential(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 2))
        assert names(model, inputs, "0") == ["0"]
        assert names(model, inputs, "all") == ["0.0", "0.1", "1"]

    def test_unknown_layer(self, model, inputs):
        with pytest.raises(ActivationError) as caught:
            names(model, inputs, "secnd")
        assert str(caught.value) == "`layers`: no layer is called 'secnd' (the network has 10). Did you mean 'second' or 'index'?"

    @pytest.mark.parametrize("layers", [3, [], [1], None])
    def test_no_names(self, model, inputs, layers):
        with pytest.raises(ActivationError) as caught:
            names(model, inputs, layers)
        assert (
            str(caught.value) == f"`layers` must be a name, a glob, 'head', 'blocks', 'all' or a list of these; got {layers!r}."
        )

    def test_no_penultimate(self, inputs):
        with pytest.raises(ActivationError, match="'penultimate' finds no layer"):
            names(nn.Sequential(nn.ReLU()), inputs, "penultimate")

    def test_wrong_images(self, model):
        with pytest.raises(ActivationError) as caught:
            trace(model, torch.ones(2, 7))
        assert str(caught.value) == (
            "The network cannot run on inputs of shape (7,) (RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x7 and "
            "6x5)). Use inputs of the size and channels it was made for."
        )


class TestReading:
    def test_equals_a_forward_pass_by_hand(self, model, inputs):
        codes = read(model, inputs, "all")
        model.eval()
        with torch.no_grad():
            first = model.first(inputs)
            normed = model.norm(first)
            rectified = normed.relu()
            second = model.second(rectified * 2)
        expected = {
            "first": first,
            "norm": normed,  # not what the in-place ReLU made of it
            "relu#1": rectified,
            "pair[0]": rectified * 2,
            "pair[1][half]": rectified / 2,
            "second": second,
            "relu#2": second.relu(),
            "last": model.last(second.relu()),
        }
        for name, code in expected.items():
            assert torch.equal(codes[name].squeeze(1), code), name

    def test_everything_is_left_as_it_was(self, model, inputs):
        model.train()
        model.norm.eval()
        model.first.weight.requires_grad_(False)
        loss = model(inputs).sum()
        loss.backward()
        before = {name: (p.detach().clone(), p.grad, p.requires_grad) for name, p in model.named_parameters()}
        statistics = model.norm.running_mean.clone()
        flags = [module.training for module in model.modules()]
        read(model, inputs, "all")
        assert [module.training for module in model.modules()] == flags
        assert torch.equal(model.norm.running_mean, statistics)
        for name, parameter in model.named_parameters():
            value, grad, requires = before[name]
            assert torch.equal(parameter, value)
            assert parameter.grad is grad
            assert parameter.requires_grad == requires
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def test_also_when_the_model_raises(self, model, inputs):
        model.train()
        traced = trace(model, inputs)
        with (
            pytest.raises(ZeroDivisionError),
            capture_codes(model, select_sites(traced, "all"), lambda *_: 1 / 0, CodeOptions()),
        ):
            model(inputs)
        assert all(module.training for module in model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def test_consumes_no_randomness(self, inputs):
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Identity()

            def forward(self, x):
                return self.layer(nn.functional.dropout(x, training=True))

        before = torch.random.get_rng_state()
        trace(Noisy(), inputs)
        collect(Noisy(), inputs, layer="layer")
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_calls_are_counted_in_each_pass(self, model, inputs):
        traced = trace(model, inputs)
        seen = []
        layers = select_sites(traced, "relu#2")
        with capture_codes(model, layers, lambda name, code: seen.append((name, code.rows.shape[2])), CodeOptions()):
            for _ in range(3):
                model(inputs)
        assert seen == [("relu#2", 4)] * 3


class TestAsCode:
    maps = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    sequence = torch.arange(2 * 7 * 3, dtype=torch.float32).view(2, 7, 3)

    def code(self, output, units="all", tokens="all"):
        return as_code(output, units=units, tokens=tokens)

    def test_a_mask_that_leaves_nothing_out_changes_nothing(self):
        for length in (7, 3):
            whole = torch.ones(2, length)
            assert torch.equal(
                as_code(self.sequence, units="pooled", tokens="all", mask=whole), self.code(self.sequence, "pooled")
            )
        half = whole.clone()
        half[0, 2:] = 0
        with pytest.raises(ActivationError, match="does not have the tokens of the mask"):
            as_code(self.sequence, units="pooled", tokens="all", mask=half)

    def test_maps(self):
        assert torch.equal(self.code(self.maps), self.maps.view(2, 1, 60))
        channels = self.code(self.maps, "channels")
        assert channels.shape == (2, 20, 3)
        assert torch.equal(channels[1, 7], self.maps[1, :, 1, 2])
        assert torch.equal(self.code(self.maps, "pooled"), self.maps.mean(dim=(2, 3))[:, None])

    def test_tokens(self):
        assert self.code(self.sequence).shape == (2, 1, 21)
        assert torch.equal(self.code(self.sequence, tokens="mean"), self.sequence.mean(1, keepdim=True))
        assert torch.equal(self.code(self.sequence, tokens="cls"), self.sequence[:, :1])
        assert torch.equal(self.code(self.sequence, "channels"), self.sequence)
        assert torch.equal(self.code(self.sequence, "pooled"), self.sequence.mean(1, keepdim=True))

    def test_vectors_and_scalars(self):
        assert self.code(torch.ones(4, 3), "channels").shape == (4, 1, 3)
        assert self.code(torch.ones(4)).shape == (4, 1, 1)
