"""Exponents on held-out images are those of ``measure``, however wide the layer."""

import inspect

import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.spectra import SpectrumAccumulator
from eigencode.training import MemberSettings, Settings, SpectralSettings, train


def _networks():
    for seed in (0, 1):
        torch.manual_seed(seed)
        yield nn.Sequential(nn.Flatten(), nn.Linear(64, 3000), nn.Tanh(), nn.Linear(3000, 10))


def test_held_out_exponents_are_those_of_measure_and_never_sketched(monkeypatch):
    images, held_out = ec.datasets.load("digits", split="train", count=100), ec.datasets.load("digits", count=200)
    settings = Settings(epochs=1, batch_size=50, spectral=SpectralSettings(layers="2", ranks=(2, 30)), held_out_count=200)
    cells = [MemberSettings(seed=seed, learning_rate=0.001) for seed in (0, 1)]
    defaults = inspect.unwrap(SpectrumAccumulator.__init__).__kwdefaults__
    with monkeypatch.context() as patched:
        patched.setitem(defaults, "memory_limit", 2**20)  # what an accumulator takes if it is told nothing
        run = train(list(_networks()), images, settings=settings, cells=cells, held_out=held_out)
    for number, model in enumerate(run.models):
        spectrum = ec.measure(model, held_out, layers="2", half_samples=0)["2"]
        assert spectrum.method == "gram"
        found = run.history[run.history["member"] == number]["held_out_alpha"].item()
        assert found == pytest.approx(spectrum.fit((2, 30)).alpha, rel=1e-6)
