"""Model + images + what is done to them -> accuracy and an Eigenspectrum per layer, for every strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Unpack

import pandas as pd
import torch
from torch import Tensor, nn

from eigencode import _processes
from eigencode._arguments import checked, shown
from eigencode._shown import Shown, ShownRows
from eigencode.activations import select_sites, traced_for, unwrapped
from eigencode.attacks.curves import Attack, robustness_curve
from eigencode.attacks.layerwise import LayerAttack
from eigencode.attacks.outputs import check_batch
from eigencode.attacks.robustness import Mode, RobustnessCurve
from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.errors import ActivationError, AttackError, SpectrumError
from eigencode.measurement.batches import Batches, Perturbation, Reading
from eigencode.measurement.reader import NetworkReader, Progress
from eigencode.measurement.result import OF_IMAGES, Measurement, at_a_glance
from eigencode.measurement.settings import MeasuringKeywords, MeasuringOptions, MeasuringSettings
from eigencode.measurement.summary import summary_row
from eigencode.spectra.window import Ranks

Family = Callable[[float], Perturbation]

UNPERTURBED = "unperturbed"

_EXAMPLES = 8


@dataclass(frozen=True, repr=False)
class Condition(Shown):
    """What came out at one strength.

    Attributes:
        perturbation: Name of what was done; "unperturbed" for the images as they are.
        strength: Its strength: a standard deviation, a budget epsilon, a number of components; 0 for "unperturbed".
        spectra: Layer -> Eigenspectrum, with skipped layers.
        accuracy: Layer -> accuracy read with that layer: the network's, or that of the layer's own classifier. NaN without
            labels.
        flags: Reliability flags raised by an attack.
        examples: The first perturbed images, shape (at most 8, ...); None where images are not changed.
    """

    perturbation: str
    strength: float
    spectra: Measurement
    accuracy: dict[str, float]
    flags: tuple[str, ...] = ()
    examples: Tensor | None = None

    def _shown(self) -> dict[str, object]:
        accuracies = {each for each in self.accuracy.values() if not math.isnan(each)}
        accuracy = accuracies.pop() if len(accuracies) == 1 else None
        return {"label": self.label, "layers": len(self.spectra), "accuracy": accuracy, "flags": ", ".join(self.flags)}

    @property
    def label(self) -> str:
        """Name and strength in a few characters."""
        return self.perturbation if self.perturbation == UNPERTURBED else f"{self.perturbation} {self.strength:g}"


@dataclass(frozen=True, repr=False)
class PerturbedSpectra(ShownRows):
    """Conditions in order, the unperturbed images first.

    Attributes:
        conditions: One for each strength.
        failed: Label of a strength -> why nothing could be measured.
        curve: Accuracy against epsilon with its diagnostics, for an attack on the images.
    """

    conditions: tuple[Condition, ...]
    failed: dict[str, str] = field(default_factory=dict)
    curve: RobustnessCurve | None = None

    def _told(self) -> str:
        failed = f", {len(self.failed)} more failed" if self.failed else ""
        count = len(self.conditions)
        return f"PerturbedSpectra: {count} {'condition' if count == 1 else 'conditions'}{failed}. {OF_IMAGES}"

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"condition": condition.label, "accuracy": condition.accuracy.get(layer, math.nan), **at_a_glance(layer, spectrum)}
            for condition in self.conditions
            for layer, spectrum in condition.spectra.items()
        ]

    @checked(AttackError)
    def summary(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> pd.DataFrame:
        """One row for each strength and layer.

        Args:
            ranks: Window of the fit.
            level: Coverage of the intervals.

        Returns:
            Columns condition, perturbation, strength, accuracy, flags, then those of ``summary_row``.
        """
        return pd.DataFrame(
            [
                {
                    "condition": condition.label,
                    "perturbation": condition.perturbation,
                    "strength": condition.strength,
                    "accuracy": condition.accuracy.get(layer, math.nan),
                    "flags": ", ".join(condition.flags),
                    **summary_row(spectrum, ranks, level=level),
                }
                for condition in self.conditions
                for layer, spectrum in condition.spectra.items()
            ]
        )


@checked(AttackError, options=MeasuringOptions)
def perturbed_spectra(
    model: nn.Module,
    images: ImageSet,
    perturbation: Family | Attack | LayerAttack,
    *,
    strengths: Sequence[float],
    layers: str | Sequence[str] = "all",
    mode: Mode = "independent",
    probe: int = 100,
    name: str | None = None,
    baseline: Condition | None = None,
    progress: Progress | None = None,
    **measuring: Unpack[MeasuringKeywords],
) -> PerturbedSpectra:
    """Accuracy, eigenspectrum, exponent and dimension of every layer under every strength of a perturbation.

    Accuracy and all spectra of a strength are read from one pass of the images through the network; an attack on the images comes
    before it. A layer-wise attack takes a pass for each strength and layer, and is read at the layer that it attacks.

    Args:
        model: Network; classified by the largest of its scores. It is left as found.
        images: Images; attacks and accuracies need labels.
        perturbation: A family (callable of the strength that returns a callable of inputs and indices, such as
            ``GaussianNoise``), an attack on images (``PGD(...)``, ``FGSM(...)``, ``ArtAttack(...)``), or a ``LayerAttack``.
        strengths: Strengths, in any order; zero of an attack or of ``GaussianNoise`` is the unperturbed condition.
        layers: As in ``measure``. For a ``LayerAttack``, "all" means the layers with a classifier of their own if there are any.
        mode: Of ``robustness_curve``, for attacks on images.
        probe: Of ``robustness_curve``, for attacks on images.
        name: What the perturbation is called in the results. Default: its own name.
        baseline: Unperturbed condition of an earlier call with the same model, images and settings; default: measured here.
        progress: Called with what is being done, how much is done and how much there is.
        **measuring: units, tokens, batch_size, memory_limit, half_samples and seed, as in ``measure``.

    Returns:
        PerturbedSpectra.

    Raises:
        EigencodeError: no strengths, strengths out of range, missing labels, or anything ``measure`` raises.

    Example:
        >>> from eigencode.perturbations import GaussianNoise
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.Tanh(), nn.Linear(30, 3))
        >>> images = ImageSet(torch.rand(200, 1, 4, 4), torch.randint(3, (200,)))
        >>> found = perturbed_spectra(network, images, GaussianNoise, strengths=[0.5, 1.0], layers="penultimate")
        >>> [condition.label for condition in found.conditions]
        ['unperturbed', 'GaussianNoise 0.5', 'GaussianNoise 1']
    """
    try:
        ordered = sorted({float(strength) for strength in strengths})
    except (TypeError, ValueError):
        ordered = []
    if not ordered or not all(map(math.isfinite, ordered)):
        raise AttackError(f"perturbed_spectra: `strengths` must be a list of at least one finite number; got {shown(strengths)}.")
    if len({f"{strength:g}" for strength in ordered}) < len(ordered):
        raise AttackError("perturbed_spectra: `strengths` must differ within their first six digits. Leave some out.")
    model = unwrapped(model)
    images = images.cpu()
    if isinstance(perturbation, type) and isinstance(perturbation, Attack):
        raise AttackError(f"perturbed_spectra: pass an instance of the attack, {perturbation.__name__}(...), and not the class.")
    name = name or str(getattr(perturbation, "name", getattr(perturbation, "__name__", type(perturbation).__name__)))
    settings = MeasuringSettings(layers=layers, **measuring)
    reader = _Reader(model, images, name, settings, baseline, progress)
    if isinstance(perturbation, LayerAttack):
        return reader.layer_by_layer(perturbation, ordered)
    if isinstance(perturbation, Attack):
        return reader.under_attack(perturbation, ordered, mode=mode, probe=probe)
    return reader.under_family(perturbation, ordered)


@dataclass(frozen=True)
class _Reader:
    """One network and its images, measured again and again."""

    model: nn.Module
    images: ImageSet
    name: str
    settings: MeasuringSettings
    baseline: Condition | None
    progress: Progress | None
    failed: dict[str, str] = field(default_factory=dict)

    def unperturbed(self) -> Condition:
        if self.baseline:
            return self.baseline
        condition = self._measured(UNPERTURBED, 0.0, self._shown(self.images))
        return replace(condition, examples=self.images.inputs[:_EXAMPLES].clone())

    def under_family(self, family: Family, strengths: Sequence[float]) -> PerturbedSpectra:
        first = self.images.inputs[:_EXAMPLES]
        perturbations = []
        for strength in strengths:  # all are tried before anything is measured
            perturbation = None
            with suppress(TypeError):
                perturbation = family(strength)
            if not callable(perturbation):
                raise AttackError(
                    f"perturbed_spectra: `perturbation` must be an attack, or give a callable for each strength; got {family!r}. "
                    "Pass for example GaussianNoise, not GaussianNoise(0.1)."
                )
            perturbations.append((strength, perturbation, perturbation(first, torch.arange(len(first)))))
        conditions = [self.unperturbed()]
        for strength, perturbation, examples in perturbations:
            if examples is not first:
                self._add(conditions, strength, examples, self._shown(self.images, perturbation))
        return PerturbedSpectra(tuple(conditions), self.failed)

    def under_attack(self, attack: Attack, strengths: Sequence[float], *, mode: Mode, probe: int) -> PerturbedSpectra:
        for strength in (strengths[0], strengths[-1]):
            check_batch(self.images.inputs, self.images.labels, strength, attack.norm, attack.bounds, name=attack.name)
        conditions = [self.unperturbed()]

        def observe(epsilon: float, adversarial: Tensor) -> None:
            if epsilon > 0:
                shown = self._shown(replace(self.images, inputs=adversarial))
                self._add(conditions, epsilon, adversarial[:_EXAMPLES].clone(), shown)

        curve = robustness_curve(
            self.model,
            self.images,
            attack,
            epsilons=strengths,
            mode=mode,
            probe=probe,
            batch_size=self.settings.batch_size,
            observe=observe,
            progress=self.progress,
        )
        points = {point.epsilon: point for point in curve.points}
        judged = tuple(
            replace(condition, accuracy=dict.fromkeys(condition.spectra, point.accuracy), flags=point.flags)
            if (point := points.get(condition.strength))
            else condition
            for condition in conditions
        )
        return PerturbedSpectra(judged, self.failed, curve)

    def layer_by_layer(self, attack: LayerAttack, strengths: Sequence[float]) -> PerturbedSpectra:
        if strengths[0] < 0:
            raise AttackError(f"{attack.name}: strengths must not be negative; got {strengths[0]:g}.")
        if (self.images.labels == UNLABELLED).any() and attack.direction == "fgsm":
            raise AttackError(f"{attack.name}: an attack needs labels, and some are missing. Add them.")
        readouts = attack.readouts_of(self.model)
        wanted = self.settings.layers
        wanted = list(readouts) if readouts and wanted in ("all", ["all"]) else wanted
        traced, _ = traced_for(self.model, wanted, self._shown(self.images).few())
        names = [layer.name for layer in select_sites(traced, wanted)]
        ordered = sorted({0.0, *strengths})
        spectra = {strength: Measurement() for strength in ordered}
        accuracy: dict[float, dict[str, float]] = {strength: {} for strength in ordered}
        for layer in names:
            with attack.at(self.model, layer, self.images.labels) as site:
                for strength in ordered:
                    site.epsilon = strength
                    label = f"{self.name} {strength:g}: {layer}"
                    try:
                        found = self._measured(label, strength, self._shown(self.images, site.prepare), layers=layer)
                    except (ActivationError, SpectrumError) as error:
                        spectra[strength].skipped[layer] = self.failed[label] = str(error)
                        continue
                    spectra[strength].update(found.spectra)
                    hits = self._accuracy(site.predicted)
                    accuracy[strength].update({layer: hits} if site.has_readout else found.accuracy)
        if not any(spectra.values()):
            raise ActivationError(f"{self.name}: no layer could be measured. {next(iter(self.failed.values()))}")
        conditions = [
            Condition(self.name if strength else UNPERTURBED, strength, spectra[strength], accuracy[strength])
            for strength in ordered
        ]
        return PerturbedSpectra(tuple(conditions), self.failed)

    def _shown(self, images: ImageSet, perturbation: Perturbation | None = None) -> Batches:
        return Batches(self.model, images, Reading(self.settings.batch_size), perturbation)

    def _add(self, conditions: list[Condition], strength: float, examples: Tensor, batches: Batches) -> None:
        """Adds a condition, or the reason why this strength leaves nothing to measure; the others are not lost."""
        try:
            conditions.append(replace(self._measured(self.name, strength, batches), examples=examples))
        except (ActivationError, SpectrumError) as error:
            self.failed[f"{self.name} {strength:g}"] = str(error)

    def _measured(self, name: str, strength: float, batches: Batches, *, layers: str | None = None) -> Condition:
        settings = replace(self.settings, layers=layers) if layers else self.settings

        def report(stage: str, done: int, total: int) -> None:
            if self.progress:
                self.progress(f"{name} {strength:g}: {stage}", done, total)

        spectra = NetworkReader(self.model, batches, settings, report).measured()
        is_known = spectra.n_labelled == len(self.images)
        accuracy = math.nan if spectra.accuracy is None or not is_known else spectra.accuracy
        return Condition(name, strength, spectra, dict.fromkeys(spectra, accuracy))

    def _accuracy(self, predicted: Tensor) -> float:
        predicted = _processes.largest(predicted)  # every process has predicted its share
        labels = self.images.labels
        if (labels == UNLABELLED).any() or (predicted == UNLABELLED).all():
            return math.nan
        return float((predicted == labels).double().mean())
