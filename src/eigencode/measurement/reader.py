"""One network read pass after pass: activations poured into accumulators while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eigencode import _processes
from eigencode._allocator import freed_memory_given_back
from eigencode._inputs import Inputs, run
from eigencode._running import cannot_run
from eigencode.activations import (
    Coded,
    Site,
    TokenAxis,
    capture_codes,
    select_sites,
    token_axes,
    touched_by_padding,
    traced_for,
    unreadable,
)
from eigencode.errors import ActivationError, ConstantCodeError, EigencodeError
from eigencode.measurement.accuracy import Accuracy
from eigencode.measurement.batches import Batch, Batches
from eigencode.measurement.filling import Filling
from eigencode.measurement.memory import Pass, passes_of
from eigencode.measurement.notes import notes_of
from eigencode.measurement.result import Measurement
from eigencode.measurement.settings import MeasuringSettings
from eigencode.spectra import Eigenspectrum, SpectrumAccumulator

CONSTANT = "its output is the same for every input (dead units, or no dependence on the input)"

Output = Callable[[Any, Tensor], None]
OnBatch = Callable[[Any, Batch], None]
Progress = Callable[[str, int, int], None]


def random_devices(batches: Batches) -> list[torch.device]:
    """Devices whose random state a network may move on, beside the processor."""
    return [batches.device] if batches.device.type == "cuda" else []


@dataclass(frozen=True)
class NetworkReader:
    """One network, on the device of its batches, that reads them pass after pass."""

    model: nn.Module
    batches: Batches
    settings: MeasuringSettings
    progress: Progress | None
    sets: Tensor | None = None
    axes: dict[str, TokenAxis] = field(default_factory=dict)

    def measured(self, on_output: Output | None = None) -> Measurement:
        """Eigenspectra of the layers; see ``measure``."""
        result = Measurement()
        traced, first = traced_for(self.model, self.settings.layers, self.batches.few())
        chosen = select_sites(traced, self.settings.layers)
        reasons = {site: unreadable(site, len(first.indices)) for site in chosen}
        result.skipped |= {site.name: reason for site, reason in reasons.items() if reason}
        wanted = [site for site, reason in reasons.items() if not reason]
        result.notes = notes_of(traced, wanted, self.settings, self.batches.unnamed)
        self.axes.update(token_axes(self.model, first.inputs, wanted, first.masks))
        for name in touched_by_padding(self.model, first.inputs, wanted, self.axes, first.masks):
            result.notes[name] = (
                f"`{name}` depends on what the padding holds: the network does not mask it there, or moves tokens"
            )
        passes = passes_of(wanted, self.rows_at, self.settings)
        accuracy = Accuracy()

        def on_first(outputs: Any, batch: Batch) -> None:
            accuracy.update(outputs, batch.labels)
            if on_output:
                on_output(outputs, batch.indices)

        for number, planned in enumerate(passes, 1):
            stage = f"pass {number} of {len(passes)}" if len(passes) > 1 else "inputs"
            metrics = planned.accumulators(self.rows_at, self.settings)
            result.skipped |= self.fill(metrics, planned, stage, on_first if number == 1 else None)
            result.n_passes += 1
            self.finish(metrics, result, tight=planned.tight)
        if not result:
            text = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in _by_reason(result.skipped).items())
            kind = ConstantCodeError if CONSTANT in result.skipped.values() else ActivationError
            raise kind(f"No layer could be measured. {text}. Name other layers or pass other inputs.")
        for name in [site.name for site in chosen if site.name in result]:
            result[name] = result.pop(name)
        result.accuracy, result.n_labelled = accuracy.result(together=self.together)
        result.without_accuracy = accuracy.note if result.accuracy is None else ""
        return result

    def rows_at(self, site: Site) -> tuple[int | None, bool]:
        """Rows of a site's code that its accumulator will get, None if unknown; and whether these are samples, not inputs."""
        axis = self.axes.get(site.name) if self.settings.units == "channels" else None
        if axis is not None and self.settings.channels == "first":
            return None, True
        return self.batches.rows_of(axis), axis is not None

    def fill(
        self, metrics: dict[str, SpectrumAccumulator], planned: Pass, stage: str, on_output: OnBatch | None
    ) -> dict[str, str]:
        """One pass of the images through the network.

        Returns:
            Layer -> why it was left out, of those that did not have one row for each image; their accumulators are gone.
        """
        batches, sites = self.batches, [plan.layer for plan in planned.plans]
        done, total = 0, -(-batches.count // batches.share[1]) if batches.count else 0
        filling = Filling(metrics)

        def consume(name: str, code: Coded) -> None:
            filling.take(name, code, batch.indices if self.sets is None else self.sets[batch.indices], count=len(batch.indices))

        with torch.random.fork_rng(
            random_devices(batches)
        ):  # put back once, at the end: noise in the network is fresh in every batch
            for batch in batches:
                with capture_codes(self.model, sites, consume, self.settings, self.axes, batch.masks):
                    outputs = self.outputs(batch.inputs)  # alone: a perturbation, made before, may have run the model too
                if on_output:
                    on_output(outputs, batch)
                del outputs  # before the next pass makes its own
                filling.end_batch()
                sites = [site for site in sites if site.name not in filling.lost]
                done += len(batch.indices)
                if self.progress:
                    self.progress(stage, done, total)
        if self.together:
            filling.agree()
        return filling.lost

    def outputs(self, inputs: Inputs) -> Any:
        """What the network gives.

        Raises:
            ActivationError: it cannot run on these inputs, though it could on others.
        """
        try:
            return run(self.model, inputs)
        except (EigencodeError, MemoryError, torch.OutOfMemoryError):  # of statistics too, which hooks collect
            raise
        except Exception as error:  # networks refuse inputs in any way they like
            raise ActivationError(cannot_run(self.model, inputs, error)) from error

    def finish(self, metrics: dict[str, SpectrumAccumulator], result: Measurement, *, tight: bool) -> None:
        """Accumulators to spectra, freeing each; constant codes are skipped."""
        total = len(metrics)
        for number, name in enumerate(list(metrics), 1):
            with freed_memory_given_back() if tight else nullcontext():  # also that of the forward passes
                spectrum = self.spectrum(metrics.pop(name))
            if spectrum.total_variance > 0:
                result[name] = spectrum
            else:
                result.skipped[name] = CONSTANT
            if self.progress:
                self.progress("eigenvalues", number, total)

    def spectrum(self, metric: SpectrumAccumulator) -> Eigenspectrum:
        """What an accumulator has, with that of the other processes."""
        if self.together:
            metric.reduce()
        return metric.compute()

    @property
    def together(self) -> bool:
        """Whether the other processes of torch.distributed measure too."""
        return self.batches.reading.split and _processes.together()


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    """Reason -> layers."""
    found: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        found.setdefault(reason, []).append(name)
    return found
