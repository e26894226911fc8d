"""What must follow for a spectrum when something is done to the code, whatever the code is."""

import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, precondition, rule

from eigencode.spectra import Eigenspectrum, SpectrumAccumulator, fit_power_law
from oracles import spectra as oracle
from spectra_strategies import codes, spectra

CLOSE = 1e-10
"""Of the largest eigenvalue."""

OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def eigenvalues_of(code):
    return Eigenspectrum.from_activations(code, half_samples=0).eigenvalues


def assert_equal(found, wanted):
    """Equal to within rounding of the largest; of two lengths, the rest is zero."""
    size = max(len(found), len(wanted))
    found, wanted = (torch.nn.functional.pad(each, (0, size - len(each))) for each in (found, wanted))
    assert float((found - wanted).abs().max()) <= CLOSE * float(wanted.max()) + 1e-300


@OFTEN
@given(code=codes())
def test_the_oracle(code):
    data = code.double()
    wanted = torch.from_numpy(oracle.eigenvalues(data.numpy()).copy())
    spread = data.abs().max() ** 2  # of units that are constant, rounding alone is left
    assert float((eigenvalues_of(code) - wanted[: min(code.shape)]).abs().max()) <= CLOSE * float(wanted.max()) + 1e-14 * spread


@OFTEN
@given(code=codes(dtypes=(torch.float64,)), seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_rotation_shift_scaling_and_order(code, seed, factor):
    code = code - code.mean(dim=0)
    wanted, generator = eigenvalues_of(code), torch.Generator().manual_seed(seed)
    if not wanted.max() > 0:
        return
    n, f = code.shape
    rotation = torch.linalg.qr(torch.randn(f, f, generator=generator, dtype=torch.float64)).Q
    assert_equal(eigenvalues_of(code @ rotation), wanted)
    assert_equal(eigenvalues_of(factor * code), factor**2 * wanted)
    assert_equal(eigenvalues_of(code + code.abs().max() * torch.randn(f, generator=generator, dtype=torch.float64)), wanted)
    assert_equal(eigenvalues_of(code[torch.randperm(n, generator=generator)][:, torch.randperm(f, generator=generator)]), wanted)


@OFTEN
@given(code=codes(dtypes=(torch.float64,)), times=st.integers(2, 5), dead=st.integers(1, 30))
def test_repeated_samples_and_dead_units(code, times, dead):
    code = code - code.mean(dim=0)
    spectrum = Eigenspectrum.from_activations(code, half_samples=0)
    if not spectrum.eigenvalues.max() > 0:
        return
    n = len(code)
    assert_equal(eigenvalues_of(code.repeat(times, 1)), spectrum.eigenvalues * times * (n - 1) / (times * n - 1))
    wider = Eigenspectrum.from_activations(torch.nn.functional.pad(code, (0, dead)), half_samples=0)
    assert_equal(wider.eigenvalues, spectrum.eigenvalues)
    assert wider.dimension == pytest.approx(spectrum.dimension, rel=1e-9)


@OFTEN
@given(values=spectra(), data=st.data())
def test_the_exponent_does_not_depend_on_the_unit_of_activations(values, data):
    positive = int((values > 0).sum())
    last = data.draw(st.integers(3, positive))
    first = data.draw(st.integers(1, last - 2))
    fit = fit_power_law(values, ranks=(first, last))
    again = fit_power_law(values * 2.0 ** data.draw(st.integers(-30, 30)), ranks=(first, last))
    assert again.alpha == pytest.approx(fit.alpha, abs=1e-8 * (1 + abs(fit.alpha)))
    assert fit.stderr >= 0
    assert fit.r2 <= 1 + 1e-12


class Accumulators(RuleBasedStateMachine):
    """Any order of updates, merges, copies and spectra in between gives one result."""

    parts = Bundle("parts")

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
        self.limit = 2**16 + 2**14

    def batch(self, count):
        return torch.randn(count, 9, generator=self.generator, dtype=torch.float64) * torch.arange(1, 10) ** -0.5

    @initialize(target=parts, count=st.integers(0, 30))
    def begin_with_one(self, count):
        return self.begin_another(count)

    @rule(target=parts, count=st.integers(0, 30))
    def begin(self, count):
        return self.begin_another(count)

    def begin_another(self, count):
        metric = SpectrumAccumulator(memory_limit=self.limit)
        samples = self.batch(count)
        metric.update(samples)
        return metric, samples

    @rule(target=parts, part=consumes(parts), count=st.integers(0, 200))
    def update(self, part, count):
        metric, samples = part
        more = self.batch(count)
        metric.update(more)
        return metric, torch.cat([samples, more])

    @precondition(lambda self: len(self.bundles["parts"]) > 1)  # with one alone, most sequences would end here
    @rule(target=parts, first=consumes(parts), second=consumes(parts))
    def merge(self, first, second):
        if first[0] is second[0]:
            return multiple(first)
        first[0].merge(second[0])
        return multiple((first[0], torch.cat([first[1], second[1]])))

    @rule(target=parts, part=consumes(parts))
    def sent_to_another_process(self, part):
        return pickle.loads(pickle.dumps(part[0])), part[1]

    @rule(part=parts)
    def compute(self, part):
        metric, samples = part
        assert metric.n_samples == len(samples)
        if len(samples) > 1:
            wanted = torch.from_numpy(oracle.eigenvalues(samples.numpy()).copy())[: min(samples.shape)]
            assert_equal(metric.compute().eigenvalues, wanted)


Accumulators.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestAccumulators = Accumulators.TestCase
