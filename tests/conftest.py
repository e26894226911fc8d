"""Fixtures that every room uses, and the count of tests that need data which is not there."""

import os
from pathlib import Path

import jaxtyping
import pytest
import torch
from matplotlib.figure import Figure

from eigencode import datasets, models
from eigencode.reports.drawing import drawn
from train_cnn import accuracy, train

DATA = Path(os.environ.get("EIGENCODE_DATA", "/nonexistent"))
_NEEDED = {"mnist": DATA / "MNIST/raw", "cifar10": DATA / "cifar-10-batches-py"}


def pytest_collection_modifyitems(items):
    for item in items:
        marker = item.get_closest_marker("real_data")
        if marker and not all(_NEEDED[name].exists() for name in marker.args):
            item.add_marker(pytest.mark.skip(reason="needs real data: set EIGENCODE_DATA"))


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "real data" in str(report.longrepr)]
    terminalreporter.write_line(f"{len(skipped)} tests skipped without real MNIST or CIFAR-10")


@pytest.fixture
def unchecked_shapes():
    """Without the annotations that are checked at run time in tests alone, which would answer before eigencode does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def generator():
    """Source of every random draw in a test."""
    return torch.Generator().manual_seed(20)


@pytest.fixture
def power_law_code(generator):
    """Gaussian code with population eigenvalues n^-alpha: (alpha, n_samples, n_features) -> float64 activations."""

    def draw(alpha, n_samples, n_features):
        scale = torch.arange(1, n_features + 1, dtype=torch.float64) ** (-alpha / 2)
        return torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64) * scale

    return draw


@pytest.fixture(scope="session")
def small_drawing():
    """An empty figure, as pixels and as lines."""
    return drawn({"": Figure(figsize=(0.1, 0.1))})[""]


@pytest.fixture(autouse=True)
def _quickly_drawn(request, monkeypatch, small_drawing):
    """Figures are made, but an empty one is written: to draw them takes most of a small command's time."""
    if not request.node.get_closest_marker("drawn"):
        monkeypatch.setattr("eigencode.reports.drawing._drawn", lambda _figure: small_drawing)


@pytest.fixture(autouse=True)
def _seeded():
    """Networks that a test builds itself draw from a seeded global generator, which no other test sees."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def digits():
    """All 500 test digits."""
    return datasets.load("digits")


@pytest.fixture(scope="session")
def trained_mlp():
    """A tanh network that has learnt the bundled digits; tests leave it as it is."""
    return _trained("gerum_shallow_mlp", epochs=10)


@pytest.fixture(scope="session")
def trained_cnn():
    """A convolutional ReLU network that has learnt the bundled digits; tests leave it as it is."""
    return _trained("schaeffer_cnn", epochs=8)


def _trained(name, *, epochs):
    training = datasets.load("digits", split="train")
    model = models.load(name, image_shape=training.shape)
    train(model, training, epochs=epochs)
    assert accuracy(model, datasets.load("digits")) > 0.8
    return model
