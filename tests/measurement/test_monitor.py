"""Monitors of trainings: the numbers of measure, from passes that happen anyway, without a trace in the training."""

import copy
import csv

import numpy as np
import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.measurement.gathering import CHUNK_BYTES
from processes import torchrun


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear, self.relu = nn.Linear(width, width), nn.ReLU()

    def forward(self, inputs):
        return inputs + self.relu(self.linear(inputs))


class Network(nn.Module):
    def __init__(self, width=32, blocks=2):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.out = nn.Linear(width, 3)

    def forward(self, inputs):
        return self.out(self.blocks(inputs))


def data(seed, count=100, width=32):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, width + 1) ** -0.5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network()


def trained(model, passes=9, *, called=None, monitor=None, micro=1, optimizer=None):
    """Weights after some steps; of ``micro`` passes each."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for number in range(passes):
        (model if called is None else called)(data(number)).square().mean().backward()
        if number % micro == micro - 1:
            optimizer.step()
            optimizer.zero_grad()
    return [weights.detach().clone() for weights in model.parameters()]


def nowhere(values, step):
    pass


def watched(model, **options):
    return ec.Monitor(model, **{"window": (1, 10), "log": nowhere, "half_samples": 0, **options})


def same(one, other):
    return all(map(torch.equal, one, other))


def assert_measured(found, expected):
    """All numbers of a monitor are those of measure."""
    assert list(found) == list(expected)
    for layer, spectrum in expected.items():
        assert found[layer].n_samples == spectrum.n_samples
        atol = 1e-12 * float(spectrum.eigenvalues[0])
        torch.testing.assert_close(found[layer].eigenvalues, spectrum.eigenvalues, rtol=1e-9, atol=atol)
    one, other = (each.summary((1, 10)).select_dtypes("number").to_numpy() for each in (found, expected))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def measured(model, images, **options):
    return ec.measure(model, images, **{"layers": "blocks", "half_samples": 0, "batch_size": 100, **options})


@pytest.mark.parametrize("layers", ["blocks", "all", "head", "blocks.0.relu, out.input"])
def test_numbers_are_those_of_measure(network, layers):
    expected = measured(network, torch.cat([data(0), data(1)]), layers=layers)
    with watched(network, layers=layers, batches=2) as monitor:
        network(data(0))
        network(data(1))
    assert_measured(monitor.measurement, expected)
    assert monitor.measurement.n_passes == 2


def test_intervals_are_those_of_measure(network):
    """To what their iterations leave of rounding."""
    expected = measured(network, data(0), half_samples=20)
    with watched(network, half_samples=20) as monitor:
        network(data(0))
    one, other = (each.summary((1, 10)) for each in (monitor.measurement, expected))
    for name in ("alpha_population", "alpha_low", "alpha_high", "dimension_population", "dimension_low", "dimension_high"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)
        assert one[name].notna().all()


def test_a_tensor_changed_in_place_is_read_in_the_next_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 20), nn.ReLU(inplace=True), nn.Linear(20, 3))
    expected = measured(model, data(1), layers="0")
    with watched(model, layers="0") as monitor:
        model(data(0))
        assert monitor.measurement is None
        model(data(1))
    assert_measured(monitor.measurement, expected)
    assert not monitor.measurement["0"].eigenvalues.equal(measured(model, data(1), layers="1")["1"].eigenvalues)


class Doubled(nn.Module):
    """Its code does not depend on the size of batches, to the last bit; 1 MB for each image of many positions."""

    def __init__(self, positions):
        super().__init__()
        self.relu, self.weights, self.positions = nn.ReLU(), nn.Parameter(torch.ones(1)), positions

    def forward(self, inputs):
        return self.relu((inputs * self.weights).unflatten(1, (self.positions, -1)).movedim(1, -1)).sum(-1)


@pytest.mark.parametrize(("positions", "units"), [(1, "all"), (512, "channels")])
def test_bits_do_not_depend_on_batches(positions, units):
    model, inputs = Doubled(positions), data(0, count=60, width=32 * positions)
    found = []
    for sizes in ([60], [7, 13, 1, 39], [30, 30]):
        with watched(model, layers="relu", batches=len(sizes), units=units, half_samples=10, memory_limit="64MiB") as monitor:
            for piece in inputs.split(sizes):
                model(piece)
        found.append(monitor.measurement["relu"])
    assert 60 * positions * 32 * 4 > CHUNK_BYTES / 4 or positions == 1
    for other in found[1:]:
        assert torch.equal(found[0].eigenvalues, other.eigenvalues)
        assert torch.equal(found[0].half_samples, other.half_samples)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_training_does_not_notice(network, momentum):
    alone, other = copy.deepcopy(network), copy.deepcopy(network)
    for model in (alone, other):
        model.blocks.append(nn.Dropout(0.5))
    torch.manual_seed(1)
    expected = trained(alone)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    with watched(other, every=2) as monitor:
        assert same(trained(other), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(monitor.history.step.unique()) == [0, 2, 4, 6, 8]
    assert not other._forward_hooks
    assert not other._forward_pre_hooks
    assert not any(module._forward_hooks for module in other.modules())


def test_passes_of_one_step(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    with watched(network, every=2, batches=3, optimizer=optimizer) as monitor:
        trained(network, 12, micro=3, optimizer=optimizer)
    assert list(monitor.history.step.unique()) == [0, 2]
    assert monitor.step == 4
    assert set(monitor.history.samples) == {300}
    assert not optimizer._optimizer_step_post_hooks


def test_a_scaler_that_skips_a_step_does_not_count_it(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    with watched(network, every=1, optimizer=optimizer) as monitor:
        network(data(0))
        network(data(1))
        optimizer.step()
        network(data(2))
    assert list(monitor.history.step.unique()) == [0, 1]


@pytest.mark.parametrize("when", ["training", "evaluation"])
def test_passes_of_one_mode(network, when):
    with watched(network, when=when) as monitor:
        for is_training in (True, False):
            network.train(is_training)(data(int(is_training)))
    expected = measured(network, data(int(when == "training")))
    assert_measured(monitor.measurement, expected)


def test_inference_mode_and_autocast(network):
    with watched(network, when="evaluation") as monitor, torch.inference_mode():
        network.eval()(data(0))
    assert_measured(monitor.measurement, measured(network, data(0)))
    assert not any(spectrum.eigenvalues.is_inference() for spectrum in monitor.measurement.values())
    with watched(network.train(), layers="blocks.0.linear") as monitor:
        with torch.autocast("cpu", torch.bfloat16):
            network(data(0))
        found = monitor.measurement["blocks.0.linear"]
    with torch.autocast("cpu", torch.bfloat16):
        codes = network.blocks[0].linear(data(0)).double()
    assert found.dtype == "bfloat16"
    expected = torch.linalg.eigvalsh(torch.cov(codes.T, correction=1)).flip(0)
    torch.testing.assert_close(found.eigenvalues, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # of what PyTorch's compiler does
@pytest.mark.parametrize(
    "given", ["compiled", "in place", *(pytest.param(name, marks=pytest.mark.slow) for name in ("inner", "blocks"))]
)
def test_compiled(network, given):
    expected = copy.deepcopy(network)
    with watched(expected, every=4) as plain:
        trained(expected)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    called = network
    if given == "in place":
        network.compile(backend=backend)
    elif given == "blocks":
        for number, block in enumerate(network.blocks):
            network.blocks[number] = torch.compile(block, backend=backend)
    else:
        called = torch.compile(network, backend=backend)
    with watched(called if given == "compiled" else network, every=4) as monitor:
        trained(network, called=called)
    torch._dynamo.reset()
    assert graphs
    assert list(monitor.history.step.unique()) == [0, 4, 8]
    found, wanted = (each.select_dtypes("number").to_numpy() for each in (monitor.history, plain.history))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_copies_are_not_monitored(network, tmp_path):
    with watched(network, every=1) as monitor:
        network(data(0))
        average = torch.optim.swa_utils.AveragedModel(network)
        torch.save(network, tmp_path / "network.pt")
        copies = [copy.deepcopy(network), average, torch.load(tmp_path / "network.pt", weights_only=False)]
        for other in copies:
            other(data(1))
    assert monitor.step == 1


def test_an_error_in_a_pass_drops_what_it_had_read(network):
    expected = measured(network, torch.cat([data(1), data(2)]))
    with watched(network, batches=2) as monitor:
        network(data(0))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            network(data(0)[:, :5])
        network(data(1))
        network(data(2))
    assert_measured(monitor.measurement, expected)


def test_codes_that_diverge_are_noted_and_training_goes_on(network, tmp_path):
    with watched(network, every=1, log=tmp_path / "log.csv") as monitor:
        network(data(0))
        with torch.no_grad():
            network.blocks[1].linear.weight.fill_(torch.nan)
        network(data(0))
        with torch.no_grad():
            network.blocks[0].linear.weight.fill_(torch.nan)
        network(data(0))
    assert list(monitor.measurement) == []
    assert set(monitor.measurement.skipped) == {"blocks.0", "blocks.1"}
    history = monitor.history
    assert history.alpha.isna().tolist() == [False, False, False, True, True, True]
    assert "finite" in history.note.iloc[-1]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    assert rows[0]["alpha"]
    assert not rows[-1]["alpha"]


def test_a_first_reading_without_a_number(network, tmp_path):
    with watched(network, every=1, log=tmp_path / "log.csv") as monitor:
        network(data(0) * torch.nan)
        network(data(0))
    assert monitor.history.alpha.isna().tolist() == [True, True, False, False]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


class Language(nn.Module):
    """Blocks over tokens, with masks as transformers take them."""

    def __init__(self, width=24):
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 48, 0.0, batch_first=True) for _ in range(2))
        self.out = nn.Linear(width, 50)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embedding(input_ids)
        for block in self.blocks:
            hidden = block(hidden, src_key_padding_mask=None if attention_mask is None else attention_mask == 0)
        return self.out(hidden)


def texts(seed, count=20, length=12):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(50, (count, length), generator=generator)
    lengths = torch.randint(3, length + 1, (count, 1), generator=generator)
    return {"input_ids": ids, "attention_mask": (torch.arange(length) < lengths).long()}


@pytest.mark.parametrize("options", [{"units": "channels"}, {"tokens": "mean"}, {"tokens": "last"}])
def test_padding_is_no_sample(options):
    torch.manual_seed(0)
    model = Language()
    batches = [texts(0), texts(1, length=9)]
    expected = measured(model, batches, **options)
    with watched(model, batches=2, **options) as monitor:
        for batch in batches:
            model(**batch)
    assert_measured(monitor.measurement, expected)
    assert monitor.measurement["blocks.0"].n_samples == (
        sum(int(each["attention_mask"].sum()) for each in batches) if "units" in options else 40
    )


def test_padding_that_cannot_be_left_out_is_refused():
    torch.manual_seed(0)
    with watched(Language()) as monitor:
        monitor._overheard.model(**texts(0))
    assert "padding" in monitor.measurement.skipped["blocks.0"]


def test_a_resumed_training_goes_on_in_its_file(network, tmp_path):
    path = tmp_path / "log.csv"
    with watched(network, every=2, log=path) as monitor:
        trained(network, 3)
    with pytest.raises(ec.EigencodeError, match="exists already"):
        watched(network, log=path)
    with watched(network, every=2, log=str(path), start=monitor.step):
        trained(network, 3)
    with path.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "0", "2", "2", "4", "4"]
    path.write_text("step,layer\n")
    with pytest.raises(ec.EigencodeError, match="columns"), watched(network, log=path, start=100):
        network(data(0))


def test_the_default_file_is_always_a_new_one(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with watched(network, log=None):
            network(data(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eigencode-monitor-2.csv", "eigencode-monitor.csv"]


def test_what_a_callable_gets(network):
    told = []
    with watched(network, every=4, half_samples=4, log=lambda values, step: told.append((step, values))) as monitor:
        trained(network)
    assert [step for step, _ in told] == [0, 4, 8]
    last = monitor.history.set_index(["step", "layer"]).loc[(8, "blocks.1")]
    for name in ("alpha", "dimension", "effective_rank", "effective_rank_singular"):
        assert told[-1][1][f"{name}/blocks.1"] == last[name]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": "nothing"}, "no layer is called 'nothing'"),
        ({"every": 0}, "`every` must be at least 1"),
        ({"batches": 0}, "`batches` must be at least 1"),
        ({"start": -1}, "`start` must be at least 0"),
        ({"when": "always"}, "`when` must be"),
        ({"window": "gerun"}, "gerum"),
        ({"window": (1, 2)}, "Monitor: `window` must start"),
        ({"optimizer": "adam"}, "`optimizer` must be one of torch.optim"),
        ({"log": 3}, "`log` must be"),
        ({"log": "/nowhere/log.csv"}, "cannot be written"),
        ({"mask": "padding"}, "`padding`"),
        ({"units": "channels", "tokens": "mean"}, "Leave one of them out"),
        ({"memory_limit": "1KiB"}, "memory_limit"),
        ({"batch_size": 3}, "batch_size"),
        ({"half_samples": 1}, "`half_samples` must be 0 or at least 2"),
    ],
)
def test_refused(network, options, said):
    with pytest.raises((ec.EigencodeError, TypeError), match=said), watched(network, **options):
        network(data(0))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrong", [nn.DataParallel, lambda model: torch.jit.trace(model, data(0))])
def test_networks_that_cannot_be_read_are_refused_before_a_file_is_made(network, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ec.EigencodeError, match=r"DataParallel|torch\.jit"):
        watched(wrong(network), log=None)
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_called_is_noticed(network):
    with pytest.warns(UserWarning, match="no forward pass in training mode"), watched(network):
        copy.deepcopy(network)(data(0))


def test_monitors_of_one_compiled_network_leave_it_compiled(network):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    called = torch.compile(network, backend=backend)
    with watched(called, layers="blocks.0") as one, watched(called, layers="blocks.1") as other:
        for number in range(3):
            called(data(number))
        assert graphs
    assert torch._dynamo.eval_frame._stance.stance == "default"
    torch._dynamo.reset()
    assert list(one.measurement) == ["blocks.0"]
    assert list(other.measurement) == ["blocks.1"]


def test_monitors_do_not_share_a_file(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watched(network, log=None) as one, watched(network, log=None, when="evaluation") as other:
        network(data(0))
        network.eval()(data(1))
    assert one.path != other.path
    assert [len(each.path.read_text().splitlines()) for each in (one, other)] == [3, 3]
    with watched(network.train(), log="mine.csv"):
        with pytest.raises(ec.EigencodeError, match="exists already"):
            watched(network, log="mine.csv")
        network(data(0))


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.out = nn.Conv2d(1, 5, 3), nn.Linear(5, 2)

    def forward(self, images, attention_mask=None):
        return self.out(self.convolution(images).mean((2, 3)))


def test_batches_of_other_shapes_are_noted():
    model = Pooled()
    with watched(model, layers="convolution", units="channels", batches=2, every=4) as monitor:
        for size in (8, 10, 8, 8):
            model(torch.rand(20, 1, size, size))
        assert monitor.history.note.tolist() == ["it had 36 and 64 positions in different batches"]
        for _ in range(2):
            model(torch.rand(20, 1, 8, 8))
    assert monitor.measurement["convolution"].n_samples == 40 * 36


@pytest.mark.parametrize("spoil", [lambda mask: mask * 0, lambda mask: mask * 2, lambda mask: (1.0 - mask.float()) * -1e9])
def test_a_mask_that_cannot_be_read_later_is_noted(spoil):
    torch.manual_seed(0)
    model, batch = Language(), texts(0)
    strange = batch | {"attention_mask": spoil(batch["attention_mask"])}
    with watched(model, units="channels", every=1) as monitor:
        model(**batch)
        monitor._overheard.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        with torch.no_grad():
            model(**strange)
        model(**batch)
    assert ["attention_mask" in note for note in monitor.history.note] == [False] * 4 + [True] * 2 + [False] * 2
    assert "measure:" not in "".join(monitor.history.note)
    with pytest.raises(ec.EigencodeError, match=r"^Monitor: `attention_mask`"), watched(model, units="channels"):
        model(**strange)


def test_a_mask_in_some_batches_alone_is_noted():
    model, batch = Language(), texts(0)
    with watched(model, units="channels", batches=2) as monitor:
        model(**batch)
        model(batch["input_ids"])
    assert set(monitor.history.note) == {"some batches had a mask of its tokens, and others had none"}


@pytest.mark.parametrize("first", [True, False])
def test_a_pass_that_raises_leaves_nothing_behind(network, first):
    expected = measured(network, data(2))
    with watched(network, every=2) as monitor:
        if not first:
            network(data(0))
            network(data(1))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            network(data(0)[:, :5])
        assert monitor._overheard._followed is None
        network(data(2))
        assert not any(module._forward_hooks for module in network.blocks.modules())
    assert_measured(monitor.measurement, expected)


class Failing(Block):
    """Raises an error of its own when asked to."""

    fails = False

    def forward(self, inputs):
        if self.fails:
            raise KeyError("of the network's own")
        return super().forward(inputs)


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_a_network_s_own_error_stays_what_it_is(network, passes):
    network.blocks = nn.Sequential(Failing(32), Failing(32))
    with watched(network, every=2, batches=2) as monitor:
        for number in range(passes):
            network(data(number))
        network.blocks[1].fails = True
        for _ in range(2):
            with pytest.raises(KeyError, match="of the network's own"):
                network(data(0))
        network.blocks[1].fails = False
        network.eval()(data(0))  # another mode, in which hooks of the failed pass would cost time
        assert not any(module._forward_hooks for module in network.blocks.modules())
        for number in range(4):
            network.train()(data(number))
    assert monitor.measurement["blocks.1"].n_samples == 200


def test_an_empty_batch_is_noted(network):
    with watched(network, batches=2) as monitor:
        network(data(0))
        network(data(0)[:0])
        network(data(1)[:0])
    assert monitor.measurement["blocks.0"].n_samples == 100


def test_numbers_that_are_missing_are_not_logged(network):
    told = []
    with watched(network, window=(1, 200), log=lambda values, step: told.append(values)):
        network(data(0))
    assert "dimension/blocks.0" in told[0]
    assert "alpha/blocks.0" not in told[0]


def test_a_resumed_training_is_read_at_the_steps_of_one_that_is_not(network):
    with watched(network, start=98) as monitor:
        trained(network, 4)
    assert list(monitor.history.step.unique()) == [100]


def test_a_reading_does_not_begin_within_a_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 20), nn.ReLU(inplace=True), nn.Linear(20, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watched(model, layers="0", batches=4, optimizer=optimizer) as monitor:
        trained(model, 4, micro=4, optimizer=optimizer)
        expected = measured(model, torch.cat([data(number) for number in range(4)]), layers="0")
        trained(model, 4, micro=4, optimizer=optimizer)
    assert list(monitor.history.step) == [1]
    assert_measured(monitor.measurement, expected)


def test_before_a_reading_there_are_columns_and_after_none_a_warning(network):
    monitor = watched(network, batches=2)
    network(data(0))
    assert monitor.history.empty
    assert {"step", "layer", "alpha", "note"} <= set(monitor.history)
    with pytest.warns(UserWarning, match="no reading was complete after 1 passes"):
        monitor.close()
    assert not monitor._overheard._filling.metrics


def test_notes_of_where_it_was_read_are_in_the_rows():
    with watched(Language(), layers="head", units="channels") as monitor:
        monitor._overheard.model(**texts(0))
    assert "scores each token" in monitor.history.note.iloc[0]


WORKER = """
import sys
import torch, torch.distributed as dist
import eigencode as ec

dist.init_process_group("gloo")
rank = dist.get_rank()
data = lambda number: torch.randn(60, 12, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
expected = ec.measure(network, torch.cat([data(0), data(1), data(2), data(3)]), layers="1", distributed=False)["1"]
parallel = torch.nn.parallel.DistributedDataParallel(network)
told = []
options = dict(layers="all", every=3, batches=2, window=(1, 5), half_samples=4)
with ec.Monitor(parallel, log=lambda values, step: told.append(step), **options) as monitor:
    parallel(data(rank))
    parallel(data(2 + rank))
    found = monitor.measurement["1"]
    close = torch.allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9, atol=0)
    parallel(data(0))
    if rank:
        with torch.no_grad():
            network[2].bias.fill_(torch.nan)  # of one process alone
    parallel(data(0))
    parallel(data(1))
    monitor.close()
convolution = torch.nn.Conv1d(1, 3, 2)
with ec.Monitor(torch.nn.Sequential(convolution), layers="all", units="channels", window=(1, 3), half_samples=0, log="log.csv") as other:
    other._overheard.model(torch.rand(5, 1, 12 + rank))
with ec.Monitor(torch.nn.Sequential(convolution), layers="all", units="channels", window=(1, 3), half_samples=0, distributed=False) as own:
    own._overheard.model(torch.rand(5, 1, 12))
words = rank, close, found.n_images, told, len(monitor.history), list(monitor.measurement), list(monitor.measurement.skipped), other.measurement.skipped, own.path.name, other.path
sys.stdout.write("; ".join(map(str, words)) + "\\n")
sys.stdout.flush()
dist.barrier()
"""


def test_processes_read_together_and_the_first_logs(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    said = [
        line.split("; ") for line in sorted(line for line in torchrun(script, folder=tmp_path).splitlines() if line[:1] in "01")
    ]
    for rank, words in enumerate(said):
        assert words[:2] == [str(rank), "True"]
        assert words[2:7] == ["240", str([] if rank else [1, 4]), "6", "['0', '1']", "['2']"]
        assert words[7] == "{'0': 'it had 11 and 12 positions in different batches'}"
    assert [words[8:] for words in said] == [
        ["eigencode-monitor.csv", "log.csv"],
        ["eigencode-monitor-process-1.csv", "None"],
    ]
    for name in ("log.csv", "eigencode-monitor.csv", "eigencode-monitor-process-1.csv"):
        assert len((tmp_path / name).read_text().splitlines()) == 2
