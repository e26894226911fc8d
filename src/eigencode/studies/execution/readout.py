"""Trained networks -> what a plan reads from them: tidy rows and spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from eigencode.attacks.outputs import predictions, undisturbed
from eigencode.datasets import ImageSet
from eigencode.errors import ConstantCodeError, EigencodeError, SpectrumError
from eigencode.measurement.measuring import collect, measure
from eigencode.measurement.perturbed import perturbed_spectra
from eigencode.perturbations.specification import MADE, PerturbationSpec
from eigencode.spectra import Eigenspectrum, stimulus_curve
from eigencode.spectra.metrics import metrics_of
from eigencode.studies.execution.materials import GroupResources
from eigencode.training import robust_accuracies

UNPERTURBED, STIMULI = "unperturbed", "stimuli"

ROW = ("layer", "perturbation", "strength", "epoch", "quantity", "value")

Row = tuple[str, str, float, str, float]
"""Layer, perturbation, strength, quantity, value."""


@dataclass(frozen=True)
class SpectrumRecord:
    """Eigenvalues of one layer under one condition.

    Attributes:
        layer: Layer.
        perturbation: What was done; "unperturbed" for nothing.
        strength: How much.
        spectrum: Eigenspectrum.
    """

    layer: str
    perturbation: str
    strength: float
    spectrum: Eigenspectrum


def read(network: nn.Module, materials: GroupResources) -> tuple[list[Row], list[SpectrumRecord]]:
    """Spectra of a network, unperturbed and under every perturbation that is read with spectra.

    A network whose code is the same for every image has none: its accuracies are those of training and of attacks alone.

    Raises:
        EigencodeError: a layer, perturbation or data set that the network cannot be read with.
    """
    reading, test = materials.plan.reading, materials.test
    images = _subset(test, reading.count, materials)
    kept = _spectra(network, images, reading.layers, UNPERTURBED, 0.0)
    rows: list[Row] = []
    for spec in reading.perturbations:
        if not spec.spectra:
            continue
        if spec.kind in MADE:
            more_rows, more_spectra = _made(network, materials, spec, reading.layers)
        else:
            shown = images if spec.count is None else _subset(test, spec.count, materials)
            more_rows, more_spectra = _perturbed(network, materials, spec, shown, reading.layers)
        rows += more_rows
        kept += more_spectra
    if reading.stimuli:
        rows += _stimuli(network, materials, list(dict.fromkeys(record.layer for record in kept)))
    for record in kept:
        numbers = _numbers(record.spectrum, reading.ranks)
        rows += [(record.layer, record.perturbation, record.strength, name, value) for name, value in numbers.items()]
    return rows, kept


def _perturbed(
    network: nn.Module, materials: GroupResources, spec: PerturbationSpec, images: ImageSet, layers: str
) -> tuple[list[Row], list[SpectrumRecord]]:
    perturbation = materials.perturbation(spec)
    try:
        found = perturbed_spectra(
            network, images, perturbation, strengths=spec.strengths, layers=layers, half_samples=0, probe=0, name=spec.kind
        )
    except ConstantCodeError:
        return [], []
    rows: list[Row] = []
    kept = []
    for condition in found.conditions:
        if condition.perturbation != UNPERTURBED:
            kept += [
                SpectrumRecord(layer, spec.kind, condition.strength, spectrum) for layer, spectrum in condition.spectra.items()
            ]
        rows += [(layer, spec.kind, condition.strength, "accuracy", accuracy) for layer, accuracy in condition.accuracy.items()]
    return rows, kept


def _made(
    network: nn.Module, materials: GroupResources, spec: PerturbationSpec, layers: str
) -> tuple[list[Row], list[SpectrumRecord]]:
    rows: list[Row] = []
    kept = []
    for strength in spec.strengths:
        images = materials.made(spec, strength)
        kept += _spectra(network, images, layers, spec.kind, strength)
        with undisturbed(network):
            right = predictions(network, images.inputs, batch_size=250) == images.labels
        rows.append(("", spec.kind, strength, "accuracy", float(right.double().mean())))
    return rows, kept


def _spectra(network: nn.Module, images: ImageSet, layers: str, name: str, strength: float) -> list[SpectrumRecord]:
    if len(images) == 1:  # of a training with so few held-out images, which have no covariance
        return []
    try:
        found = measure(network, images, layers=layers, half_samples=0)
    except ConstantCodeError:
        return []
    return [SpectrumRecord(layer, name, strength, spectrum) for layer, spectrum in found.items()]


def _stimuli(network: nn.Module, materials: GroupResources, layers: list[str]) -> list[Row]:
    """Mean exponent of random subsets of the test images, of several sizes, and its standard error."""
    reading, rows = materials.plan.reading, []
    for layer in layers:
        activations = collect(network, materials.test, layer=layer)
        curve = stimulus_curve(activations, counts=reading.stimuli, ranks=reading.ranks, population=False)
        for found in curve.to_dict("records"):
            rows += [(layer, STIMULI, found["count"], name, found[name]) for name in ("alpha", "alpha_stderr")]
    return rows


def attacked(networks: Mapping[Any, nn.Module], materials: GroupResources) -> dict[Any, list[Row]]:
    """Accuracies of a stack of networks under attacks whose images are not measured.

    Args:
        networks: Networks by what names them.
        materials: What they are shown.

    Returns:
        Rows of each.
    """
    rows: dict[Any, list[Row]] = {name: [] for name in networks}
    for spec in materials.plan.reading.perturbations:
        if spec.spectra or not networks:
            continue
        attack = materials.perturbation(spec)
        images = _subset(materials.test, spec.count or len(materials.test), materials)
        for epsilon in spec.strengths:
            materials.say(f"{spec.kind} {epsilon:g}", 0, 1)
            table = robust_accuracies(list(networks.values()), images, attack, epsilons=[epsilon])
            for name, accuracy in zip(networks, table.sort_values("member")["accuracy"], strict=True):
                rows[name].append(("", spec.kind, float(epsilon), "accuracy", float(accuracy)))
    return rows


def as_table(rows: Sequence[Row], epoch: int) -> pd.DataFrame:
    """Rows read after an epoch, without values that could not be measured."""
    table = pd.DataFrame(rows, columns=["layer", "perturbation", "strength", "quantity", "value"])
    return table.assign(epoch=epoch)[list(ROW)].dropna(subset="value")


def _subset(images: ImageSet, count: int, materials: GroupResources) -> ImageSet:
    return images.subset(min(count, len(images)), seed=materials.plan.images.seed)


def _numbers(spectrum: Eigenspectrum, ranks: Any) -> dict[str, float]:
    """Exponent, its fit, and dimension, also that of the population; what cannot be had is left out."""
    found, _ = metrics_of(spectrum)
    with suppress(SpectrumError):
        found["dimension_population"] = spectrum.population_dimension().dimension
    try:
        fit = spectrum.fit(ranks)
    except EigencodeError:
        return found
    return found | {"alpha": fit.alpha, "r2": fit.r2, "stderr": fit.stderr}
