"""Model + images -> an Eigenspectrum per layer: activations poured into accumulators while the forward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from eigencode import _processes
from eigencode._allocator import freed_memory_given_back
from eigencode._arguments import checked
from eigencode._codes import Channels, CodeOptions, Tokens, Units
from eigencode._running import cannot_run, given_to, usable_device
from eigencode.activations import Site, Trace, capture_codes, model_device, select_sites, traced_for, unreadable, unwrapped
from eigencode.errors import ActivationError, ConstantCodeError, EigencodeError
from eigencode.measurement.batches import Batches, Images, Perturbation
from eigencode.measurement.memory import Pass, passes_of
from eigencode.measurement.settings import MeasuringSettings
from eigencode.measurement.summary import summary_row
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator
from eigencode.spectra.window import Ranks

Output = Callable[[Any, Tensor], None]
Progress = Callable[[str, int, int], None]


class Measurement(dict[str, Eigenspectrum]):
    """Layer name -> Eigenspectrum, in the order of the forward pass.

    Attributes:
        skipped: Layer name -> why it could not be measured.
        notes: Layer name -> what to know of where it was read.
        n_passes: How often the images went through the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.n_passes = 0

    @checked(ActivationError)
    def summary(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> pd.DataFrame:
        """One row for each layer: the numbers one cites (see ``summary_row``)."""
        return pd.DataFrame([summary_row(spectrum, ranks, level=level) for spectrum in self.values()])


@checked(ActivationError)
def measure(
    model: nn.Module,
    images: Images,
    *,
    layers: str | Sequence[str] = "penultimate",
    units: Units = "all",
    tokens: Tokens = "all",
    channels: Channels = "auto",
    perturbation: Perturbation | None = None,
    batch_size: int = 128,
    memory_limit: int | str = "4GiB",
    half_samples: int = 20,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    on_output: Output | None = None,
) -> Measurement:
    """Eigenspectrum of the code at every layer asked for.

    The model is run in evaluation mode without gradients and is left as it was found. All that is allocated beside the forward
    pass itself keeps within ``memory_limit`` at every moment: layers that do not fit beside each other are measured in further
    passes over the images, and a layer that does not fit alone is sketched (see ``SpectrumAccumulator``). Under
    torch.distributed every process takes its share of the images and all get the result.

    Args:
        model: Any network.
        images: ImageSet, tensor or array of inputs (n, ...), or DataLoader of inputs or (inputs, labels).
        layers: "head" (or "penultimate": what the last weighted module on the way to the scores reads), "blocks" (the repeated
            blocks of the network), "all" (modules that call no others), names such as "conv1", "relu#2" (the second call),
            "attention[0]" (one of several tensors) and "fc.input", globs, or a list of these.
        units: "all" numbers of a map are units (the papers' reading), "channels" with positions as samples, or "pooled".
        tokens: For token models under units="all": "all", "mean", "cls" (the first) or "last".
        channels: Where the channels of maps are: "first" or "last" after the axis of images. "auto": as the module says.
        perturbation: Called as ``perturbation(inputs, indices)`` before the network, with the images' indices.
        batch_size: Images for each forward pass.
        memory_limit: Bytes for the statistics of all layers, the working copies made of them, and the results, e.g. "4GiB".
        half_samples: Half-samples kept for ``alpha_interval``; 0 saves time and memory.
        device: Where to run; default: where the model is.
        seed: Seed of half-samples and sketches.
        progress: Called with what is being done, how much is done and how much there is.
        on_output: Called once for each batch with the network's output and the images' indices.

    Returns:
        Measurement: a dict of layer name to Eigenspectrum, with ``skipped`` layers and their reasons.

    Raises:
        EigencodeError: no such layer, images the network cannot read, values that are not finite, or a limit below the least that
            a layer can be measured with.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
        >>> spectra = measure(network, torch.rand(200, 20), layers="all")
        >>> {name: spectrum.n_features for name, spectrum in spectra.items()}
        {'0': 30, '1': 30, '2': 5}
    """
    model = unwrapped(model)
    home = model_device(model)
    batches = Batches(
        images, batch_size, home if device is None else torch.device(usable_device(device, written="`device`")), perturbation
    )
    settings = MeasuringSettings(
        layers=layers,
        units=units,
        tokens=tokens,
        channels=channels,
        batch_size=batch_size,
        memory_limit=memory_limit,
        half_samples=half_samples,
        seed=seed,
    )
    if device is not None:
        model.to(batches.device)
    try:
        return NetworkReader(model, batches, settings, progress).measured(on_output)
    finally:
        if device is not None:
            model.to(home)


@checked(ActivationError)
def collect(
    model: nn.Module,
    images: Images,
    *,
    layer: str = "penultimate",
    units: Units = "all",
    tokens: Tokens = "all",
    channels: Channels = "auto",
    batch_size: int = 128,
) -> Tensor:
    """Activations of one layer for all images, for analyses that need them all, such as ``stimulus_curve``.

    Args:
        model: Any network.
        images: As in ``measure``.
        layer: Name of one layer, or "head".
        units: As in ``measure``.
        tokens: As in ``measure``.
        channels: As in ``measure``.
        batch_size: Images for each forward pass.

    Returns:
        Tensor on the CPU, shape (n_images, n_units), or (n_images, n_positions, n_units) for units="channels".

    Raises:
        ActivationError: no such layer, several that match, or an output that is not a code of the images.
    """
    model = unwrapped(model)
    batches = Batches(images, batch_size, model_device(model), split=False)
    traced, first = traced_for(model, layer, batches.few())
    found = select_sites(traced, layer)
    if len(found) != 1:
        raise ActivationError(
            f"collect: `layer` must name one layer; {layer!r} matches {len(found)} "
            f"({', '.join(entry.name for entry in found[:6])}). Name one of them."
        )
    reason = unreadable(found[0], len(first))
    if reason:
        raise ActivationError(f"collect: {found[0].name} cannot be read: {reason}.")
    rows: list[Tensor] = []

    def consume(_name: str, code: Tensor) -> None:
        rows.append(code.to("cpu", copy=True))

    with torch.random.fork_rng(_devices(batches)):
        for number, inputs in enumerate(batches, 1):
            with capture_codes(model, found, consume, CodeOptions(units, tokens, channels)):
                model(given_to(model, inputs))
            if len(rows) != number or len(rows[-1]) != len(inputs):
                raise ActivationError(f"collect: {found[0].name} has no row for each of the images. Name another layer.")
    codes = torch.cat(rows)
    return codes if units == "channels" else codes.squeeze(1)


def _devices(batches: Batches) -> list[torch.device]:
    """Devices whose random state a network may move on, beside the processor."""
    return [batches.device] if batches.device.type == "cuda" else []


@dataclass(frozen=True)
class NetworkReader:
    """One network, on the device of its batches, that reads them pass after pass."""

    model: nn.Module
    batches: Batches
    settings: MeasuringSettings
    progress: Progress | None

    def measured(self, on_output: Output | None = None) -> Measurement:
        """Eigenspectra of the layers; see ``measure``."""
        result = Measurement()
        traced, first = traced_for(self.model, self.settings.layers, self.batches.few())
        chosen = select_sites(traced, self.settings.layers)
        reasons = {site: unreadable(site, len(first)) for site in chosen}
        result.skipped |= {site.name: reason for site, reason in reasons.items() if reason}
        result.notes = self.notes(traced, chosen)
        wanted = [site for site, reason in reasons.items() if not reason]
        passes = passes_of(wanted, self.batches.count, self.settings)
        for number, planned in enumerate(passes, 1):
            stage = f"pass {number} of {len(passes)}" if len(passes) > 1 else "images"
            metrics = self.accumulators(planned)
            result.skipped |= self.fill(metrics, planned, stage, on_output if number == 1 else None)
            result.n_passes += 1
            self.finish(metrics, result, tight=planned.tight)
        if not result:
            text = "; ".join(f"{name}: {reason}" for name, reason in result.skipped.items())
            kind = ConstantCodeError if wanted else ActivationError
            raise kind(f"No layer could be measured. {text}. Name other layers or pass other images.")
        for name in [site.name for site in chosen if site.name in result]:
            result[name] = result.pop(name)
        return result

    def notes(self, traced: Trace, chosen: Sequence[Site]) -> dict[str, str]:
        """What a reader of the numbers should know of where they were read."""
        found = {}
        if traced.head and traced.head in chosen and traced.note:
            found[traced.head.name] = traced.note
        if self.settings.units != "all" and self.settings.channels == "auto":
            for site in chosen:
                if not site.is_channel_known:
                    where = "first" if site.channel_axis == 1 else "last"
                    found[site.name] = (
                        f"`{site.name}` does not say where its channels are: the {where} axis after images was taken"
                    )
        return found

    def accumulators(self, planned: Pass) -> dict[str, SpectrumAccumulator]:
        """One for each layer of a pass, with the memory that it gets."""
        return {
            plan.layer.name: SpectrumAccumulator(
                memory_limit=memory.limit,
                kept_limit=memory.kept,
                half_samples=self.settings.half_samples,
                positions=True,
                expected_images=self.batches.count,
                seed=self.settings.seed,
                name=plan.layer.name,
            )
            for plan, memory in zip(planned.plans, planned.budgets, strict=True)
        }

    def fill(
        self, metrics: dict[str, SpectrumAccumulator], planned: Pass, stage: str, on_output: Output | None
    ) -> dict[str, str]:
        """One pass of the images through the network.

        Returns:
            Layer -> why it was left out, of those that did not have one row for each image; their accumulators are gone.
        """
        batches, sites = self.batches, [plan.layer for plan in planned.plans]
        done, total = 0, -(-batches.count // batches.share[1]) if batches.count else 0
        lost: dict[str, str] = {}
        seen: set[str] = set()

        def consume(name: str, code: Tensor) -> None:
            if name in seen:
                lost[name] = "it was called more than once for a batch"
            elif len(code) != len(inputs):
                lost[name] = f"it gave {len(code)} rows for a batch of {len(inputs)} images"
            else:
                metrics[name].update(code)
            seen.add(name)

        with torch.random.fork_rng(_devices(batches)):  # put back once, at the end: noise in the network is fresh in every batch
            for inputs, indices in batches.numbered():
                with capture_codes(self.model, sites, consume, self.settings):
                    outputs = self.outputs(inputs)  # alone: a perturbation, made before, may have run the model too
                if on_output:
                    on_output(outputs, indices)
                del outputs  # before the next pass makes its own
                lost |= {site.name: "it was not called for every batch" for site in sites if site.name not in seen}
                for name in lost:
                    metrics.pop(name, None)
                sites = [site for site in sites if site.name not in lost]
                seen.clear()
                done += len(inputs)
                if self.progress:
                    self.progress(stage, done, total)
        return lost

    def outputs(self, inputs: Tensor) -> Any:
        """What the network gives.

        Raises:
            ActivationError: it cannot run on these inputs, though it could on others.
        """
        try:
            return self.model(given_to(self.model, inputs))
        except (EigencodeError, MemoryError, torch.OutOfMemoryError):  # of statistics too, which hooks collect
            raise
        except Exception as error:  # networks refuse inputs in any way they like
            raise ActivationError(cannot_run(self.model, inputs, error)) from error

    def finish(self, metrics: dict[str, SpectrumAccumulator], result: Measurement, *, tight: bool) -> None:
        """Accumulators to spectra, freeing each; constant codes are skipped."""
        total = len(metrics)
        for number, name in enumerate(list(metrics), 1):
            with freed_memory_given_back() if tight else nullcontext():  # also that of the forward passes
                spectrum = _spectrum(metrics.pop(name))
            if spectrum.total_variance > 0:
                result[name] = spectrum
            else:
                result.skipped[name] = "its output is the same for every image (dead units, or no dependence on the image)"
            if self.progress:
                self.progress("eigenvalues", number, total)


def _spectrum(metric: SpectrumAccumulator) -> Eigenspectrum:
    if _processes.together():
        metric.reduce()
    return metric.compute()
