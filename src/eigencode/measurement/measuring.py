"""Model + images -> an Eigenspectrum per layer: activations poured into accumulators while the forward pass runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eigencode import _processes
from eigencode._allocator import freed_memory_given_back
from eigencode._arguments import checked, shown
from eigencode.activations import (
    Layer,
    Tokens,
    Trace,
    Units,
    as_code,
    model_device,
    reading,
    select_layers,
    trace,
    uncompiled,
    unreadable,
)
from eigencode.datasets.images import ImageSet
from eigencode.errors import ActivationError, ConstantCodeError, DataError, EigencodeError, SpectrumError
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, SpectrumAccumulator, Window
from eigencode.spectra.metrics import metrics_of
from eigencode.spectra.resampling import GROUPS
from eigencode.spectra.sketch import map_bytes
from eigencode.spectra.storage import Code, Form, Memory, exact_form, least_limit, scratch_of
from eigencode.spectra.window import Ranks

Images = ImageSet | Tensor | np.ndarray | DataLoader  # type: ignore[type-arg]
Perturbation = Callable[[Tensor, Tensor], Tensor]
Output = Callable[[Any, Tensor], None]
Progress = Callable[[str, int, int], None]

_TRACED_IMAGES = 2
_LEAST_MEMORY, _LONGEST_NUMBER = 2**20, 20
_SKETCH_RATIO = 4
"""A sketch gets at least this many times more dimensions than samples: its bound is then a factor, not a guess."""


_LOOSE = 0.25
"""Where no more than this part of the limit is planned for, holes that freed blocks leave in memory may stay."""


class Measurement(dict[str, Eigenspectrum]):
    """Layer name -> Eigenspectrum, in the order of the forward pass.

    Attributes:
        skipped: Layer name -> why it could not be measured.
        n_passes: How often the images went through the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: dict[str, str] = {}
        self.n_passes = 0

    @checked(ActivationError)
    def summary(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> pd.DataFrame:
        """One row for each layer: the numbers one cites (see ``summary_row``)."""
        return pd.DataFrame([summary_row(spectrum, ranks, level=level) for spectrum in self.values()])


def summary_row(
    spectrum: Eigenspectrum | CrossValidatedSpectrum, ranks: Ranks = "gerum", *, level: float = 0.95
) -> dict[str, Any]:
    """The numbers one cites of a spectrum.

    Args:
        spectrum: What was measured.
        ranks: Window of the fit.
        level: Coverage of the interval.

    Returns:
        layer, units, samples, rank, method, error_bound; first_rank, last_rank, weights, alpha, stderr, r2 of the
        plain fit; alpha_population, alpha_low, alpha_high, alpha_drift of the interval; those of ``METRICS``: dimension,
        variance_first_ten (of the total), total_variance; and a note that says why a number is missing, else "".
    """
    row: dict[str, Any] = {
        "layer": spectrum.name,
        "units": spectrum.n_features,
        "samples": spectrum.n_samples,
        "rank": spectrum.numerical_rank,
        "method": spectrum.method if isinstance(spectrum, Eigenspectrum) else "cross-validated",
        "error_bound": spectrum.error_bound if isinstance(spectrum, Eigenspectrum) else 0.0,
    }
    numbers = dict.fromkeys(("alpha", "stderr", "r2", "alpha_population", "alpha_low", "alpha_high", "alpha_drift"), math.nan)
    window = Window.of(ranks)
    row |= {"first_rank": window.first, "last_rank": window.last, "weights": window.weights, **numbers}
    note = ""
    try:
        fit = spectrum.fit(window)
        row |= {"alpha": fit.alpha, "stderr": fit.stderr, "r2": fit.r2}
        if isinstance(spectrum, Eigenspectrum) and spectrum.half_samples is not None:
            interval = spectrum.alpha_interval(window, level=level)
            row |= {"alpha_population": interval.alpha, "alpha_low": interval.low, "alpha_high": interval.high}
            row["alpha_drift"] = interval.drift
    except SpectrumError as error:
        note = str(error)
    metrics, lacking = metrics_of(spectrum)
    return row | metrics | {"note": " ".join(filter(None, (note, lacking)))}


def parse_bytes(size: int | str) -> int:
    """Number of bytes in ``"4GiB"``, ``"500 MB"`` or ``1000``.

    Raises:
        EigencodeError: not a size, or less than 1 MiB.

    Example:
        >>> parse_bytes("2GiB")
        2147483648
    """
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(size), flags=re.IGNORECASE)
    if not match or len(match[1]) > _LONGEST_NUMBER:
        raise EigencodeError(f"`memory_limit` must be a number of bytes such as 4GiB or 500MB; got {shown(size)}.")
    number = int(float(match[1]) * units[(match[2] or "").lower()])
    if number < _LEAST_MEMORY:
        raise EigencodeError(f"`memory_limit` must be at least 1MiB; got {shown(size)}. Raise it.")
    return number


@checked(ActivationError)
def measure(
    model: nn.Module,
    images: Images,
    *,
    layers: str | Sequence[str] = "penultimate",
    units: Units = "all",
    tokens: Tokens = "all",
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
        layers: "penultimate", "all", names, globs, or a list of these.
        units: "all" numbers of a map are units (the papers' reading), "channels" with positions as samples, or "pooled".
        tokens: For token models under units="all": "all", "mean" or "cls" (the first).
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
    model = uncompiled(model)
    limit = parse_bytes(memory_limit)
    home = model_device(model)
    target = torch.device(device) if device is not None else home
    batches = _Batches(images, batch_size, target, perturbation)
    if device is not None:
        model.to(target)
    try:
        first = batches.first(_TRACED_IMAGES)
        traced = trace(model, first)
        result = Measurement()
        wanted = []
        for layer in select_layers(traced, layers):
            reason = unreadable(layer, len(first))
            if reason:
                result.skipped[layer.name] = reason
            else:
                wanted.append(layer)
        sizes = [_size(layer, batches.count, units, tokens, half_samples) for layer in wanted]
        limit = _for_statistics(wanted, sizes, half_samples, limit)
        plans = [_plan_layer(layer, size, limit) for layer, size in zip(wanted, sizes, strict=True)]
        passes = _plan_passes(plans, limit)
        for number, (members, budgets, tight) in enumerate(passes, 1):
            stage = f"pass {number} of {len(passes)}" if len(passes) > 1 else "images"
            metrics = {
                plan.layer.name: SpectrumAccumulator(
                    memory_limit=memory.limit,
                    kept_limit=memory.kept,
                    half_samples=half_samples,
                    positions=True,
                    expected_images=batches.count,
                    seed=seed,
                    name=plan.layer.name,
                )
                for plan, memory in zip(members, budgets, strict=True)
            }
            _fill(model, metrics, batches, members, traced, units, tokens, stage, progress, on_output if number == 1 else None)
            result.n_passes += 1
            _finish(metrics, result, progress, tight=tight)
    finally:
        if device is not None:
            model.to(home)
    if not result:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in result.skipped.items())
        kind = ConstantCodeError if wanted else ActivationError
        raise kind(f"No layer could be measured. {reasons}. Name other layers or pass other images.")
    order = [layer.name for layer in traced.layers]
    for name in sorted(result, key=order.index):
        result[name] = result.pop(name)
    return result


@checked(ActivationError)
def collect(
    model: nn.Module,
    images: Images,
    *,
    layer: str = "penultimate",
    units: Units = "all",
    tokens: Tokens = "all",
    batch_size: int = 128,
) -> Tensor:
    """Activations of one layer for all images, for analyses that need them all, such as ``stimulus_curve``.

    Args:
        model: Any network.
        images: As in ``measure``.
        layer: Name of one layer, or "penultimate".
        units: As in ``measure``.
        tokens: As in ``measure``.
        batch_size: Images for each forward pass.

    Returns:
        Tensor on the CPU, shape (n_images, n_units), or (n_images, n_positions, n_units) for units="channels".

    Raises:
        ActivationError: no such layer, several that match, or an output that is no code of the images.
    """
    model = uncompiled(model)
    batches = _Batches(images, batch_size, model_device(model), split=False)
    first = batches.first(_TRACED_IMAGES)
    traced = trace(model, first)
    found = select_layers(traced, layer)
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

    with reading(model, found, consume, several=traced.several, units=units, tokens=tokens):
        for inputs in batches:
            model(inputs)
    codes = torch.cat(rows)
    return codes if units == "channels" else codes.squeeze(1)


class _Batches:
    """Inputs batch by batch, on the device, perturbed; this process's share of them under torch.distributed."""

    def __init__(
        self,
        images: Images,
        batch_size: int,
        device: torch.device,
        perturbation: Perturbation | None = None,
        *,
        split: bool = True,
    ) -> None:
        self.source = images.inputs if isinstance(images, ImageSet) else images
        if isinstance(self.source, np.ndarray):
            forwards = all(step >= 0 for step in self.source.strides)
            self.source = torch.from_numpy(self.source if forwards else self.source.copy())
        self.batch_size, self.device, self.perturbation = batch_size, device, perturbation
        self.count: int | None
        if isinstance(self.source, Tensor):
            if not self.source.dtype.is_floating_point:
                raise DataError(
                    f"measure: images must be floating point; got {self.source.dtype}. Use ImageSet.from_uint8, or divide by 255."
                )
            self.count = len(self.source)
        else:
            sized = hasattr(self.source, "dataset") and hasattr(self.source.dataset, "__len__")
            self.count = len(self.source.dataset) if sized else None  # type: ignore[arg-type]
        if self.count is not None and self.count < 2:
            raise DataError(f"measure: at least 2 images are needed; got {self.count}. Pass more images.")
        sampler: Any = getattr(self.source, "sampler", None)
        self.dealt = (sampler.rank, sampler.num_replicas) if hasattr(sampler, "num_replicas") else (0, 1)
        parallel = split and self.dealt[1] == 1  # else a DistributedSampler has split the images already
        self.share = (_processes.rank(), _processes.count()) if parallel else (0, 1)

    def first(self, count: int) -> Tensor:
        """The first images, unperturbed."""
        if isinstance(self.source, Tensor):
            return self.source[:count].to(self.device)
        with torch.random.fork_rng([]):  # a DataLoader draws a seed whenever it is iterated
            return _inputs(next(iter(self.source)))[:count].to(self.device)

    def __iter__(self) -> Iterator[Tensor]:
        for inputs, _ in self.numbered():
            yield inputs

    def numbered(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs with the images' indices."""
        start = 0
        rank, world = self.share
        pieces = self.source.split(self.batch_size) if isinstance(self.source, Tensor) else self.source
        for number, piece in enumerate(pieces):
            batch = _inputs(piece)
            indices = torch.arange(start, start + len(batch)) * self.dealt[1] + self.dealt[0]
            start += len(batch)
            if number % world == rank:
                batch = batch.to(self.device, copy=True)  # networks may work in place, and the images are the caller's
                yield (self.perturbation(batch, indices) if self.perturbation else batch), indices


def _inputs(batch: object) -> Tensor:
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, Tensor) or not inputs.dtype.is_floating_point:
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise DataError(f"measure: batches must hold floating-point inputs; got {kind}. Add transforms.ToTensor().")
    return inputs


@dataclass(frozen=True)
class _Need:
    """Bytes that one layer's statistics take: kept from batch to batch, and beside that at most at any moment."""

    kept: int
    working: int


@dataclass(frozen=True)
class _Plan:
    """What one layer takes: the least that will do, and as wanted (with half-samples)."""

    layer: Layer
    least: _Need
    wanted: _Need


def _size(layer: Layer, count: int | None, units: Units, tokens: Tokens, half_samples: int) -> Code:
    """Size of a layer's code; of no samples if their number is not known."""
    code = as_code(torch.empty(layer.shape, dtype=layer.dtype, device="meta"), units=units, tokens=tokens)
    return Code((count or 0) * code.shape[1], code.shape[2], code.element_size(), GROUPS if half_samples else 1)


def _for_statistics(layers: Sequence[Layer], sizes: Sequence[Code], half_samples: int, limit: int) -> int:
    """Bytes that are left beside the results, if they are enough for every layer."""
    results = sum(8 * (1 + half_samples) * min(size.n_samples, size.n_units) for size in sizes)
    for layer, size in zip(layers, sizes, strict=True):
        least = least_limit(size.n_units)
        if limit - results < least:
            raise SpectrumError(
                f"{layer.name}: `memory_limit` must be at least {-(-(least + results) // 2**20)}MiB for the {size.n_units} units "
                f"of this layer and the results of all; got {limit / 2**20:.4g}MiB. Raise it."
            )
    return limit - results


def _plan_layer(layer: Layer, size: Code, limit: int) -> _Plan:
    scratch, everything = scratch_of(limit), Memory(limit, limit)
    if size.n_samples == 0:
        return _Plan(layer, _Need(least_limit(size.n_units), 0), _Need(limit, 0))

    def need(code: Code, form: Form) -> _Need:
        kept = form.kept(code)
        return _Need(kept, form.peak(code) + scratch - kept)

    alone = replace(size, groups_wanted=1)
    least, wanted = exact_form(alone, everything), exact_form(size, everything)
    if least is not None and wanted is not None:
        wanted = exact_form(size, Memory(limit, wanted.kept(size))) or wanted
        return _Plan(layer, need(alone, least), need(size, wanted))
    sums = min(size.n_units, _SKETCH_RATIO * size.n_samples)
    sketch = _Need(8 * size.n_samples * sums, size.gram + map_bytes(size.n_units) + scratch)
    whole = _Need(limit, 0)
    return _Plan(layer, sketch if sketch.kept + sketch.working <= limit else whole, whole)


def _plan_passes(plans: Sequence[_Plan], limit: int) -> list[tuple[list[_Plan], list[Memory], bool]]:
    """Layers of each pass, filled greedily in order, the memory of each, and whether it is tight.

    What layers keep adds up; what they work with is needed by one after the other, and so is shared. Spare bytes go to whoever
    wants them.
    """

    def least(members: Sequence[_Plan]) -> int:
        return sum(plan.least.kept for plan in members) + max(plan.least.working for plan in members)

    passes: list[list[_Plan]] = []
    for plan in plans:
        if passes and least([*passes[-1], plan]) <= limit:
            passes[-1].append(plan)
        else:
            passes.append([plan])
    planned = []
    for members in passes:
        working = max(plan.least.working for plan in members)
        claims = [plan.wanted.kept - plan.least.kept for plan in members]
        claims.append(max(plan.wanted.working for plan in members) - working)
        *extra, extra_working = _shared(max(0, limit - least(members)), claims)
        working += extra_working
        kept = [plan.least.kept + more for plan, more in zip(members, extra, strict=True)]
        tight = sum(kept) + working > limit * _LOOSE
        planned.append((members, [Memory(bytes_ + working, bytes_) for bytes_ in kept], tight))
    return planned


def _shared(spare: int, claims: Sequence[int]) -> list[int]:
    """What each claim gets: all of it, if it is no more than a fair share of what smaller ones have left."""
    given = [0] * len(claims)
    for left, number in zip(range(len(claims), 0, -1), sorted(range(len(claims)), key=lambda n: claims[n]), strict=True):
        given[number] = max(0, min(claims[number], spare // left))
        spare -= given[number]
    return given


def _fill(
    model: nn.Module,
    metrics: dict[str, SpectrumAccumulator],
    batches: _Batches,
    members: Sequence[_Plan],
    traced: Trace,
    units: Units,
    tokens: Tokens,
    stage: str,
    progress: Progress | None,
    on_output: Output | None,
) -> None:
    def consume(name: str, code: Tensor) -> None:
        metrics[name].update(code)

    done, total = 0, -(-batches.count // batches.share[1]) if batches.count else 0
    layers = [plan.layer for plan in members]
    with torch.random.fork_rng([]):  # a DataLoader draws a seed whenever it is iterated
        for inputs, indices in batches.numbered():
            with reading(model, layers, consume, several=traced.several, units=units, tokens=tokens):
                outputs = model(inputs)  # alone: a perturbation, made before, may have run the model too
            if on_output:
                on_output(outputs, indices)
            del outputs  # before the next pass makes its own
            done += len(inputs)
            if progress:
                progress(stage, done, total)


def _finish(metrics: dict[str, SpectrumAccumulator], result: Measurement, progress: Progress | None, *, tight: bool) -> None:
    """Accumulators to spectra, freeing each; constant codes are skipped."""
    total = len(metrics)
    for number, name in enumerate(list(metrics), 1):
        with freed_memory_given_back() if tight else nullcontext():  # also that of the forward passes
            spectrum = _spectrum(metrics.pop(name))
        if spectrum.total_variance > 0:
            result[name] = spectrum
        else:
            result.skipped[name] = "its output is the same for every image (dead units, or no dependence on the image)"
        if progress:
            progress("eigenvalues", number, total)


def _spectrum(metric: SpectrumAccumulator) -> Eigenspectrum:
    if _processes.together():
        metric.reduce()
    return metric.compute()
