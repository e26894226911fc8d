from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eigencode.errors import SpectrumError
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator
from eigencode.spectra.sketch import Sketch, map_bytes, sketch_error
from oracles import spectra as oracle
from processes import torchrun

SAME = 1e-10  # relative to the largest eigenvalue: what float64 sums and solvers guarantee, with room to spare

# n < f, f < n, f << n (samples turn into moments on the way), and maps
SHAPES = [(60, 200), (200, 60), (3000, 20), (50, 3, 4, 4)]


def draw(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (data * torch.linspace(1, 5, shape[-1], dtype=torch.float64) + 3).to(dtype)


def pour(batches, **options):
    metric = SpectrumAccumulator(**options)
    for batch in batches:
        metric.update(batch)
    return metric


def assert_same(first, second):
    assert first.shape == second.shape
    assert float((first - second).abs().max()) <= SAME * float(first[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_equals_the_oracle(shape, dtype):
    data = draw(shape, dtype)
    spectrum = pour([data]).compute()
    assert_same(spectrum.eigenvalues, torch.from_numpy(oracle.eigenvalues(data.to(torch.float64))))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from(SHAPES),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    half_samples=st.sampled_from([0, 4]),
)
def test_any_split_into_batches_gives_the_same(shape, cuts, half_samples):
    data = draw(shape)
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    batches = [data[a:b] for a, b in pairwise(edges)]
    whole = pour([data], half_samples=half_samples).compute()
    split = pour(batches, half_samples=half_samples).compute()
    assert_same(whole.eigenvalues, split.eigenvalues)
    if half_samples:
        assert_same(whole.half_samples.flatten(), split.half_samples.flatten())


@pytest.mark.parametrize("shape", SHAPES)
def test_any_merge_order_gives_the_same(shape):
    data = draw(shape)
    parts = [pour([piece]) for piece in data.tensor_split([len(data) // 10, len(data) // 2])]
    expected = pour([data]).compute().eigenvalues
    for order in permutations(parts):
        total = SpectrumAccumulator()
        for part in order:
            total.merge(part)
        assert_same(total.compute().eigenvalues, expected)
    nested = pour([])
    parts[1].merge(parts[2])
    nested.merge(parts[1])
    nested.merge(parts[0])
    assert_same(nested.compute().eigenvalues, expected)


def test_merging_leaves_the_other_as_it_was():
    data = draw((3000, 20))
    first, second = pour([data[:1500]]), pour([data[1500:]])
    alone = second.compute().eigenvalues
    first.merge(second)
    first.update(data[:500])
    assert torch.equal(second.compute().eigenvalues, alone)


def test_merging_samples_with_moments():
    data = draw((3000, 20))
    few, many = pour([data[:10]]), pour([data[10:]])
    few.merge(many)
    assert_same(few.compute().eigenvalues, pour([data]).compute().eigenvalues)


def test_compute_may_be_called_between_updates():
    data = draw((400, 30))
    metric = pour([data[:200]])
    first = metric.compute().eigenvalues
    assert torch.equal(metric.compute().eigenvalues, first)
    metric.update(data[200:])
    assert_same(metric.compute().eigenvalues, pour([data]).compute().eigenvalues)


def test_a_mean_far_from_zero_costs_no_accuracy():
    data = draw((500, 40))
    moved = pour((data + 1e6).split(50)).compute().eigenvalues
    # 1e6 takes six of the sixteen digits of each activation itself
    assert float((moved - pour([data]).compute().eigenvalues).abs().max()) < 1e-8


def test_activations_may_change_after_update():
    data = draw((100, 300))
    metric = SpectrumAccumulator()
    batch = data.clone()
    metric.update(batch)
    batch.zero_()
    assert_same(metric.compute().eigenvalues, pour([data]).compute().eigenvalues)


def test_numpy_and_strided_input():
    data = draw((40, 6, 50))
    assert_same(pour([data.numpy()]).compute().eigenvalues, pour([data]).compute().eigenvalues)
    transposed = data.transpose(1, 2)
    assert_same(pour([transposed]).compute().eigenvalues, pour([data]).compute().eigenvalues)


@pytest.mark.parametrize("shape", [(30, 16, 8), (3, 4, 100)])
def test_positions_are_samples(shape):
    data = draw(shape)
    spectrum = pour(data.split(7), positions=True).compute()
    assert (spectrum.n_samples, spectrum.n_images) == (shape[0] * shape[1], shape[0])
    assert_same(spectrum.eigenvalues, pour([data.flatten(0, 1)]).compute().eigenvalues)


@pytest.mark.parametrize(
    ("shape", "method"), [((60, 200), "gram"), ((200, 60), "covariance"), ((200, 200), "covariance"), ((9000, 20), "covariance")]
)
def test_says_how(shape, method):
    spectrum = Eigenspectrum.from_activations(draw(shape))
    assert spectrum.method == method
    assert (spectrum.n_samples, spectrum.n_features, len(spectrum.eigenvalues)) == (*shape, min(shape))
    assert spectrum.error_bound == 0


class TestSketch:
    LIMIT = 600_000

    def data(self):
        return draw((60, 5000)) * torch.arange(1, 5001) ** -0.5

    def test_is_used_where_nothing_else_fits_and_keeps_its_bound(self):
        exact = pour([self.data()]).compute()
        spectrum = pour(self.data().split(10), memory_limit=self.LIMIT, expected_images=60).compute()
        assert (exact.method, spectrum.method) == ("gram", "sketch")
        dimension = (self.LIMIT * 7 // 8 - map_bytes(5000) - 16 * 60**2) // (
            8 * 60
        )  # beside the map, the Gram matrix and its copy
        assert spectrum.error_bound == pytest.approx(sketch_error(60, 5000, dimension))
        rank = exact.numerical_rank
        error = (spectrum.eigenvalues / exact.eigenvalues - 1)[:rank].abs()
        assert float(error.max()) <= spectrum.error_bound
        assert float(error[:10].mean()) < 3 * (2 / dimension) ** 0.5
        assert spectrum.fit(ranks=(1, 40)).alpha == pytest.approx(exact.fit(ranks=(1, 40)).alpha, abs=0.06)

    @pytest.mark.parametrize("seed", range(20))
    def test_bound_holds_for_every_seed(self, seed):
        exact = pour([self.data()]).compute()
        spectrum = pour([self.data()], memory_limit=self.LIMIT, seed=seed).compute()
        error = (spectrum.eigenvalues / exact.eigenvalues - 1)[: exact.numerical_rank].abs()
        assert float(error.max()) <= spectrum.error_bound

    def test_does_not_depend_on_batches_or_merges(self):
        whole = pour([self.data()], memory_limit=self.LIMIT)
        parts = [pour([piece], memory_limit=self.LIMIT) for piece in self.data().split(25)]
        assert parts[-1].compute().method == "gram"
        parts[-1].merge(parts[0])
        parts[-1].merge(parts[1])
        assert_same(parts[-1].compute().eigenvalues, whole.compute().eigenvalues)

    @pytest.mark.parametrize(("n_features", "dimension"), [(5000, 300), (1000, 1000), (777, 32), (64, 50)])
    @pytest.mark.parametrize("scratch", [1, 10_000, 2**22])
    def test_is_the_same_map_in_pieces(self, n_features, dimension, scratch):
        data = draw((17, 3, n_features), torch.float32)
        projected = Sketch(n_features, dimension, seed=5)(data, scratch=scratch)
        expected = oracle.sketch(data.double(), dimension, seed=5)
        assert torch.allclose(projected, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))

    def test_too_little_memory_for_any(self):
        with pytest.raises(SpectrumError) as caught:
            pour([torch.ones(2, 500_000)], memory_limit=3_000_000, name="a")
        assert str(caught.value) == "a: `memory_limit` must be at least 3447296 bytes for 500000 units; got 3000000. Raise it."
        pour([draw((40, 500_000), torch.float32)], memory_limit=3447296).compute()

    def test_seed_decides(self):
        first, second, other = (
            pour([self.data()], memory_limit=self.LIMIT, seed=seed).compute().eigenvalues for seed in (1, 1, 2)
        )
        assert torch.equal(first, second)
        assert not torch.allclose(first, other)

    def test_memory_is_bounded_by_the_limit(self):
        metric = SpectrumAccumulator(memory_limit=self.LIMIT)
        for batch in draw((2000, 5000), torch.float32).split(50):
            metric.update(batch)
            held = sum(t.numel() * t.element_size() for t in [*metric._rows.batches, *(g.scatter for g in metric._groups)])
            assert held <= self.LIMIT


WORKER = """
import sys, torch, torch.distributed as dist
from eigencode.spectra import SpectrumAccumulator
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
for shape in ((60, 200), (3000, 20)):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    metric = SpectrumAccumulator(half_samples=2)
    for batch in data.tensor_split(world)[rank].split(16):
        metric.update(batch)
    metric.reduce()
    spectrum = metric.compute()
    with open(f"{sys.argv[1]}/{rank}.txt", "a") as file:
        print(shape[0], rank, spectrum.n_samples, *(float(v).hex() for v in spectrum.eigenvalues), file=file)
"""


@pytest.mark.parametrize("processes", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same(processes, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    torchrun(script, tmp_path, processes=processes)
    lines = [line.split() for path in tmp_path.glob("*.txt") for line in path.read_text().splitlines()]
    assert len(lines) == 2 * processes
    for shape in ((60, 200), (3000, 20)):
        data = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
        expected = torch.from_numpy(oracle.eigenvalues(data))
        for line in lines:
            if line[0] == str(shape[0]):
                assert line[2] == str(shape[0])
                assert_same(torch.tensor([float.fromhex(v) for v in line[3:]], dtype=torch.float64), expected)


UNEVEN = """
import sys, torch, torch.distributed as dist
from eigencode.errors import SpectrumError
from eigencode.spectra import SpectrumAccumulator
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
CASES = {  # samples, units, of each process, type, arguments
    "one has none": (3000, 20, (3000, 0), "float32", {}),
    "rows and moments": (3000, 40, (2990, 10), "float64", {"half_samples": 3}),
    "moments of two groups": (4000, 30, (2500, 1500), "bfloat16", {"half_samples": 2}),
    "rows of half precision": (50, 300, (20, 30), "float16", {"half_samples": 2}),
    "positions": (900, 12, (500, 400), "float32", {"positions": True}),
    "sketched": (300, 40_000, (170, 130), "float32", {"memory_limit": 2**22, "half_samples": 0}),
}
for name, (n, f, shares, dtype, arguments) in CASES.items():
    data = (torch.randn((n, 4, f) if "positions" in arguments else (n, f), generator=torch.Generator().manual_seed(0)) + 3)
    data = data.to(getattr(torch, dtype))
    metric, whole = SpectrumAccumulator(**arguments), SpectrumAccumulator(**arguments)
    for batch in data.split(shares)[rank].split(64):
        metric.update(batch)
    for batch in data.split(64):
        whole.update(batch)
    metric.reduce()
    found, wanted = metric.compute(), whole.compute()
    error = float((found.eigenvalues - wanted.eigenvalues).abs().max() / wanted.eigenvalues[0])
    same = [found.n_samples == wanted.n_samples, found.method == wanted.method, error < 1e-12]
    every = [None] * world
    dist.all_gather_object(every, found.eigenvalues)
    same.append(all(torch.equal(each, every[0]) for each in every))
    same.append(found.half_samples is None or found.half_samples.shape == wanted.half_samples.shape)
    sys.stdout.write(f"{rank} {name}: {same} {error:.1e}\\n")  # at once: print would write the end of the line by itself
try:
    other = SpectrumAccumulator(seed=rank)
    other.update(torch.rand(30, 5))
    other.reduce()
except SpectrumError as error:
    sys.stdout.write(f"{rank} {error}\\n")
"""


def test_whatever_each_process_has_is_joined(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(UNEVEN)
    lines = torchrun(script, processes=2).splitlines()
    assert len(lines) == 14, lines
    assert not [line for line in lines if "[" in line and "False" in line]
    refused = [line for line in lines if "[" not in line]
    assert len(refused) == 2, lines
    assert all("must be made with the same arguments" in line for line in refused)


class TestErrors:
    def test_not_finite(self):
        data = torch.ones(20, 5)
        data[7, 2], data[9, 0] = float("nan"), float("inf")
        metric = SpectrumAccumulator(name="conv1")
        metric.update(torch.ones(100, 5))
        with pytest.raises(SpectrumError) as caught:
            metric.update(data)
        assert str(caught.value) == (
            "conv1: activations must be finite; got 2 NaN or infinite values in one batch, the first in sample 107. "
            "Check the images and the network's weights."
        )

    def test_not_finite_among_moments(self):
        metric = pour([draw((3000, 20))], name="fc")
        assert metric._groups
        data = torch.ones(4, 20)
        data[3] = -float("inf")
        with pytest.raises(SpectrumError, match=r"fc: activations must be finite; got 20 .* first in sample 3003"):
            metric.update(data)

    @pytest.mark.parametrize(
        ("batch", "text"),
        [
            (
                torch.ones(3, 2, dtype=torch.uint8),
                "a: activations must be floating point; got torch.uint8. Convert them with .float().",
            ),
            (torch.ones(3), "a: activations must have shape (n_samples, ...); got (3,). Reshape them."),
            (torch.ones(3, 0), "a: activations must have at least 1 unit; got shape (3, 0)."),
        ],
    )
    def test_not_activations(self, batch, text):
        with pytest.raises(SpectrumError) as caught:
            SpectrumAccumulator(name="a").update(batch)
        assert str(caught.value) == text

    def test_an_error_leaves_the_accumulator_usable(self):
        data = draw((3000, 20))
        metric = pour([data[:2000]])
        with pytest.raises(SpectrumError):
            metric.update(data[2000:] * float("nan"))
        metric.update(data[2000:])
        assert_same(metric.compute().eigenvalues, pour([data]).compute().eigenvalues)

    def test_squares_that_overflow(self):
        for shape in ((50, 20), (20, 50)):
            with pytest.raises(SpectrumError, match=r"squares of these activations exceed float64 \(above 1e150\)"):
                pour([draw(shape) * 1e200]).compute()

    def test_more_images_than_a_sketch_expects(self):
        metric = SpectrumAccumulator(memory_limit=600_000, expected_images=60)
        metric.update(draw((60, 5000)))
        with pytest.raises(SpectrumError, match="a sketch was sized for `expected_images` = 60, and 80 came"):
            metric.update(draw((20, 5000)))

    def test_other_units(self):
        metric = pour([torch.ones(3, 2)], name="a")
        expected = (
            "a: every batch must have 2 units at 1 positions, as the first had; got 5 at 1. Use images of one size, and one "
            "accumulator per layer."
        )
        with pytest.raises(SpectrumError) as caught:
            metric.update(torch.ones(3, 5))
        assert str(caught.value) == expected
        with pytest.raises(SpectrumError, match="every batch must have"):
            metric.merge(pour([torch.ones(3, 5)]))

    def test_too_few_samples(self):
        with pytest.raises(SpectrumError) as caught:
            pour([torch.ones(1, 5)], name="a").compute()
        assert str(caught.value) == "a: an eigenspectrum needs 2 samples; got 1. Pass more images."

    def test_merging_with_itself(self):
        metric = pour([torch.ones(3, 2)], name="a")
        with pytest.raises(SpectrumError) as caught:
            metric.merge(metric)
        assert str(caught.value) == (
            "a: an accumulator cannot be merged with itself, since each of its 3 samples would count twice. Merge another one."
        )
        assert metric.n_samples == 3

    def test_other_arguments(self):
        with pytest.raises(SpectrumError, match="accumulators to merge must be made with the same arguments"):
            pour([torch.ones(2, 2)], seed=1).merge(pour([torch.ones(2, 2)], seed=2))

    def test_memory_limit(self):
        with pytest.raises(SpectrumError) as caught:
            SpectrumAccumulator(memory_limit=10)
        assert str(caught.value) == "SpectrumAccumulator: `memory_limit` must be at least 65536 bytes; got 10. Raise it."

    def test_half_samples(self):
        with pytest.raises(SpectrumError) as caught:
            SpectrumAccumulator(half_samples=1)
        assert str(caught.value) == ("SpectrumAccumulator: `half_samples` must be 0 or at least 2; got 1. Pass for example 20.")

    def test_seed(self):
        with pytest.raises(SpectrumError) as caught:
            SpectrumAccumulator(seed=-1)
        assert str(caught.value) == "SpectrumAccumulator: `seed` must be at least 0; got -1."

    def test_reduce_without_processes(self):
        with pytest.raises(SpectrumError) as caught:
            pour([torch.ones(2, 2)], name="a").reduce()
        assert str(caught.value) == (
            "a: reduce() needs a process group, and torch.distributed is not initialised. Start under torchrun and call "
            "torch.distributed.init_process_group first."
        )


class TestInvariances:
    data = draw((300, 80))
    base = pour([data]).compute().eigenvalues

    def test_rotation_of_units(self):
        rotation = torch.linalg.qr(draw((80, 80), seed=1))[0]
        assert_same(pour([self.data @ rotation]).compute().eigenvalues, self.base)

    def test_permutation_of_samples_and_units(self):
        generator = torch.Generator().manual_seed(0)
        shuffled = self.data[torch.randperm(300, generator=generator)][:, torch.randperm(80, generator=generator)]
        assert_same(pour([shuffled]).compute().eigenvalues, self.base)

    def test_scale_enters_squared(self):
        assert_same(pour([self.data * 7]).compute().eigenvalues / 49, self.base)

    def test_shift_of_units_is_nothing(self):
        assert_same(pour([self.data + torch.linspace(-9, 9, 80)]).compute().eigenvalues, self.base)

    def test_argument_is_not_changed(self):
        copy = self.data.clone()
        pour([self.data]).compute()
        assert torch.equal(copy, self.data)


def test_merge_of_samples_that_became_groups_at_different_times():
    """After ``compute`` few samples are in many groups; many samples that became moments are in few."""
    units = 40
    options = {"memory_limit": 300 * 8 * units**2, "kept_limit": 8 * 8 * units**2, "half_samples": 4}
    batches = {
        count: torch.randn(count, units, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
        for count in (80, 1600)
    }

    def filled(count):
        made = SpectrumAccumulator(**options)
        for batch in batches[count].split(16):
            made.update(batch)
        made.compute()
        return made

    for first, second in ((80, 1600), (1600, 80)):
        mine, theirs = filled(first), filled(second)
        assert len(mine._groups) != len(theirs._groups)
        mine.merge(theirs)
        found = mine.compute()
        whole = Eigenspectrum.from_activations(torch.cat([batches[first], batches[second]]), half_samples=0)
        torch.testing.assert_close(found.eigenvalues, whole.eigenvalues, rtol=1e-10, atol=1e-12)
        assert found.half_samples is not None
        assert all(700 < count < 980 for count in found.half_counts)


@pytest.mark.parametrize(("shape", "first"), [((80, 20), 1.0), ((20, 80), 1.0), ((80, 20), 0.0)])
def test_activations_whose_squares_are_lost_are_refused(shape, first):
    code = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    code[0] *= first
    kept, lost = code * 1e-140, code * 1e-160
    expected = Eigenspectrum.from_activations(code, half_samples=0).eigenvalues
    assert torch.allclose(Eigenspectrum.from_activations(kept, half_samples=0).eigenvalues * 1e280, expected, rtol=1e-9)
    with pytest.raises(SpectrumError, match=r"the squares of these activations, all below 1e-145, underflow float64\. Scale"):
        Eigenspectrum.from_activations(lost, half_samples=0)
