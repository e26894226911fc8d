"""Calls of the library with one argument that is wrong, each with each: they work, or are refused in one sentence."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.errors import EigencodeError

SEED = 20

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_DRAWS = torch.Generator().manual_seed(SEED)


def _rand(*shape):
    return torch.rand(*shape, generator=_DRAWS)


_IMAGES = ec.ImageSet(_rand(40, 1, 4, 4), torch.arange(40) % 5)
_CODE = torch.randn(60, 12, generator=_DRAWS, dtype=torch.float64)
_SPECTRUM = ec.Eigenspectrum.from_activations(_CODE)
_COMPONENTS = ec.perturbations.PrincipalComponents.fit(_IMAGES)


def _network():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5))


_NETWORK = _network()

_WRONG = [
    None, True, False, -1, 0, 1, 3, 2**40, 2**63, 10**400, 0.5, -0.1, 1e-300, 1e300, float("nan"), float("inf"), 1j, "", "abc", "64", "All", "1,2",
    "x" * 300, "\0", "\udcff", b"abc", [], [1], ["a"], (), (1, 8), (8, 1), (1.5, 8), {}, {"a": 1}, set(), object(), int, print, lambda value: value,
    torch.tensor(3), torch.tensor(float("nan")), torch.empty(0), torch.ones(3), torch.zeros(5, 4), torch.ones(4, 4, dtype=torch.int64),
    torch.full((40,), -5), torch.full((40, 1, 4, 4), float("nan")), torch.ones(40, 1, 4, 4, dtype=torch.uint8),
    np.ones(3), np.float32(2.0), np.int64(3), np.bool_(True), np.array(["a"]), np.array([None]),
    np.ma.masked_greater(np.arange(12.0).reshape(4, 3), 5), _IMAGES, _SPECTRUM, _NETWORK, nn.Linear(3, 2), nn.Identity(),
    np.ones((40, 1, 4, 4)), torch.ones(40, 1, 4, 4, dtype=torch.float64), torch.ones(40, 4, 4, 1), torch.ones(40, 1, 4, 4, dtype=torch.float16),
    torch.ones(40, 1, 4, 4, dtype=torch.complex64), torch.ones(40, 1, 4, 4).to_sparse(), torch.ones(40, 1, 4, 4, device="meta"), "gpu", "cuda:99",
    ec.attacks.PGD(steps=2), ec.attacks.PGD, ec.perturbations.GaussianNoise, torch.Generator(),
]  # fmt: skip

_CALLS = {
    "measure": (ec.measure, lambda: {
        "model": _network(), "images": _IMAGES, "layers": "2", "units": "all", "tokens": "all", "batch_size": 20, "memory_limit": "4GiB",
        "half_samples": 4, "device": "cpu", "seed": 0,
    }),
    "collect": (ec.collect, lambda: {"model": _network(), "images": _IMAGES, "layer": "2", "units": "all", "batch_size": 20}),
    "perturbed_spectra": (ec.perturbed_spectra, lambda: {
        "model": _network(), "images": _IMAGES, "perturbation": ec.attacks.FGSM(), "strengths": [0.1], "layers": "2", "mode": "nested", "probe": 5,
        "batch_size": 20, "half_samples": 0, "seed": 0, "name": "mine",
    }),
    "robustness_curve": (ec.attacks.robustness_curve, lambda: {
        "model": _network(), "images": _IMAGES, "attack": ec.attacks.PGD(steps=2), "epsilons": [0.1], "mode": "nested", "batch_size": 20, "probe": 5,
    }),
    "pgd": (ec.attacks.pgd, lambda: {
        "model": _network(), "inputs": _IMAGES.inputs, "labels": _IMAGES.labels, "epsilon": 0.1, "norm": "l2", "steps": 2, "step_size": 0.1,
        "direction": "sign", "start": "random", "restarts": 2, "keep": "best", "targeted": False, "bounds": (0.0, 1.0), "seed": 0,
    }),
    "fgsm": (ec.attacks.fgsm, lambda: {
        "model": _network(), "inputs": _IMAGES.inputs, "labels": _IMAGES.labels, "epsilon": 0.1, "norm": "linf", "bounds": (0.0, 1.0),
    }),
    "construct": (ec.attacks.construct, lambda: {
        "model": _network(), "images": _IMAGES, "construction": ec.attacks.Construction("random_target", steps=9), "batch_size": 20,
    }),
    "Construction": (ec.attacks.Construction, lambda: {
        "kind": "robust", "epsilon": 0.5, "steps": 2, "step_size": 0.1, "layer": "2", "seed": 0,
    }),
    "LayerAttack": (ec.attacks.LayerAttack, lambda: {"direction": "fgsm", "loss_at": "network", "seed": 0}),
    "PGD": (ec.attacks.PGD, lambda: {"norm": "linf", "steps": 2, "step_size": 0.1, "start": "input", "bounds": (0.0, 1.0), "seed": 0}),
    "Settings": (ec.training.Settings, lambda: {
        "epochs": 1, "batch_size": 20, "rule": "local", "optimizer": "sgd", "momentum": 0.0, "schedule": "step", "schedule_factor": 0.5,
        "clip": 1.0, "mixed_precision": False, "spectral": ec.training.SpectralSettings(), "jacobian": ec.training.JacobianSettings(),
        "adversarial": ec.training.AdversarialSettings(), "covariance_kind": "batch", "measure_every": 1, "held_out_count": 10,
    }),
    "MemberSettings": (ec.training.MemberSettings, lambda: {
        "seed": 0, "learning_rate": 0.1, "target": 1.0, "beta": {"2": 0.1}, "covariance": 0.0, "jacobian": 0.0,
    }),
    "train": (ec.training.train, lambda: {
        "models": _network(), "images": _IMAGES, "settings": ec.training.Settings(epochs=1, spectral=ec.training.SpectralSettings(ranks=(1, 8))),
        "cells": ec.training.MemberSettings(), "held_out": _IMAGES,
    }),
    "robust_accuracies": (ec.training.robust_accuracies, lambda: {
        "models": [_network()], "images": _IMAGES, "attack": ec.attacks.FGSM(), "epsilons": [0.1], "batch_size": 20,
    }),
    "ImageSet": (ec.ImageSet, lambda: {"inputs": _IMAGES.inputs, "labels": _IMAGES.labels, "name": "mine"}),
    "unlabelled": (ec.ImageSet.unlabelled, lambda: {"inputs": _IMAGES.inputs, "labels": _IMAGES.labels, "name": "mine"}),
    "subset": (_IMAGES.subset, lambda: {"count": 3, "seed": 0}),
    "datasets.load": (ec.datasets.load, lambda: {"name": "digits", "split": "test", "count": 3, "seed": 0, "image_size": None}),
    "load_recording": (ec.datasets.load_recording, lambda: {"path": "none.npy", "variable": "x"}),
    "models.load": (ec.models.load, lambda: {"spec": "gerum_cnn", "weights": None, "image_shape": (1, 8, 8), "classes": 3, "seed": 0}),
    "jiang_mlp": (ec.models.JiangNetwork, lambda: {
        "image_shape": (1, 4, 4), "classes": 3, "width": 5, "depth": 2, "classifier_std": 0.3,
    }),
    "from_activations": (ec.Eigenspectrum.from_activations, lambda: {
        "activations": _CODE, "half_samples": 4, "seed": 0, "name": "mine", "memory_limit": 2**20,
    }),
    "fit": (_SPECTRUM.fit, lambda: {"ranks": (1, 8), "weights": "equal"}),
    "alpha_interval": (_SPECTRUM.alpha_interval, lambda: {"ranks": (1, 8), "level": 0.9}),
    "window_sensitivity": (_SPECTRUM.window_sensitivity, lambda: {"first": [1, 2], "last": [8, 9], "weights": "equal"}),
    "variance_explained": (_SPECTRUM.variance_explained, lambda: {"k": 3}),
    "fit_power_law": (ec.fit_power_law, lambda: {
        "eigenvalues": _SPECTRUM.eigenvalues, "ranks": "jiang", "weights": "equal", "rank": 12, "name": "mine",
    }),
    "stimulus_curve": (ec.stimulus_curve, lambda: {"activations": _CODE, "counts": [20, 40], "ranks": (1, 8), "repeats": 2, "seed": 0}),
    "cvpca": (ec.cvpca, lambda: {"responses": torch.stack([_CODE, _CODE + 0.1]), "shuffles": 2, "seed": 0, "name": "mine"}),
    "expected_exponent": (ec.spectra.expected_exponent, lambda: {
        "alpha": 1.0, "n_samples": 30, "n_features": 20, "ranks": (1, 8), "draws": 2, "seed": 0,
    }),
    "power_law_dimension": (ec.spectra.power_law_dimension, lambda: {"alpha": 1.5, "n_features": 20, "form": "integral"}),
    "SpectralPenalty": (ec.penalties.SpectralPenalty, lambda: {
        "target": 1.0, "ranks": (1, 8), "form": "line", "solver": "dense", "degenerate": "skip", "tracking": ec.penalties.Tracking(),
    }),
    "penalty": (ec.penalties.SpectralPenalty(1.0, ranks=(1, 8)), lambda: {"activations": _CODE}),
    "Tracking": (ec.penalties.Tracking, lambda: {"oversampling": 5, "pool": 5, "expansion": 5, "tolerance": 0.1, "max_expansions": 2}),
    "jacobian_penalty": (ec.penalties.jacobian_penalty, lambda: {
        "function": _network(), "inputs": _IMAGES.inputs, "kind": "projected", "projections": 2, "squared": True,
        "generator": torch.Generator().manual_seed(0),
    }),
    "covariance_penalty": (ec.penalties.covariance_penalty, lambda: {"activations": _CODE, "kind": "batch"}),
    "GaussianNoise": (ec.perturbations.GaussianNoise, lambda: {"sigma": 0.1, "clip": True, "bounds": (0.0, 1.0), "seed": 0}),
    "projection": (_COMPONENTS.projection, lambda: {"k": 3}),
    "whitening": (_COMPONENTS.whitening, lambda: {"epsilon": 0.1}),
    "PerturbationSpec": (ec.studies.PerturbationSpec, lambda: {
        "kind": "pgd", "strengths": (0.1,), "count": 3, "norm": "linf", "steps": 2, "step_size": 0.1, "spectra": False,
    }),
    "Readout": (ec.studies.Readout, lambda: {"layers": "2", "ranks": (1, 8), "count": 10, "stimuli": (20,)}),
    "NetworkSpec": (ec.studies.NetworkSpec, lambda: {"model": "gerum_cnn", "options": {}, "weights": None}),
    "ImagesSpec": (ec.studies.ImagesSpec, lambda: {"data": "digits", "train_count": 10, "test_count": 10, "size": None}),
    "studies.load": (ec.studies.load, lambda: {"name": "demo", "scale": "quick"}),
    "overridden": (ec.studies.overridden, lambda: {"study": ec.studies.load("demo"), "words": "training.epochs=3"}),
}  # fmt: skip

_PROVIDED = {
    ("jacobian_penalty", "function"),
    ("perturbed_spectra", "perturbation"),
    ("measure", "model"),
    ("collect", "model"),
}
"""What is called: a function or network of the caller's fails in its own way, and its own error is the one to see."""

_ENDLESS = {
    ("pgd", "steps"),
    ("pgd", "restarts"),
    ("stimulus_curve", "repeats"),
    ("expected_exponent", "draws"),
}
"""A large number of these is what was asked for, and takes its time."""


@pytest.mark.parametrize("name", list(_CALLS))
def test_calls_that_are_right(name):
    function, arguments = _CALLS[name]
    if name == "load_recording":
        return
    function(**arguments())


@pytest.mark.filterwarnings("ignore::eigencode.errors.ReliabilityWarning")
@pytest.mark.parametrize("name", list(_CALLS))
def test_a_wrong_argument_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, arguments = _CALLS[name]
    faults = []
    for changed, value in itertools.product(sorted(arguments()), _WRONG):
        if (name, changed) in _PROVIDED and (callable(value) or hasattr(value, "__getitem__")):
            continue
        if (name, changed) in _ENDLESS and isinstance(value, int) and value == 2**40:
            continue
        try:
            function(**{**arguments(), changed: value})
        except EigencodeError as error:
            if len(str(error).splitlines()) != 1:
                faults.append(f"{changed}={value!r:.80}: several lines: {error}")
        except Exception as error:
            faults.append(f"{changed}={value!r:.80}: {type(error).__name__}: {error!s:.200}")
    assert not faults, "\n".join(faults)
