"""What fits into the memory limit: the statistics of each layer, and which layers are measured in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from eigencode.activations import Site, as_code, options_at
from eigencode.errors import SpectrumError
from eigencode.measurement.settings import MeasuringSettings
from eigencode.spectra.accumulator import SpectrumAccumulator
from eigencode.spectra.resampling import GROUPS
from eigencode.spectra.sketch import map_bytes
from eigencode.spectra.storage import Code, Form, Memory, exact_form, least_limit, scratch_of

RowsAt = Callable[[Site], tuple[int | None, bool]]

_SKETCH_RATIO = 4
"""A sketch gets at least this many times more dimensions than samples: its bound is then a factor, not a guess."""

_LOOSE = 0.25
"""Where no more than this part of the limit is planned for, holes that freed blocks leave in memory may stay."""


@dataclass(frozen=True)
class _Need:
    """Bytes that one layer's statistics take: kept from batch to batch, and beside that at most at any moment."""

    kept: int
    working: int


@dataclass(frozen=True)
class _LayerPlan:
    """What one layer takes: the least that will do, and as wanted (with half-samples)."""

    layer: Site
    least: _Need
    wanted: _Need


@dataclass(frozen=True)
class Pass:
    """Layers that are measured while the images go through the network once.

    Attributes:
        plans: What each layer takes.
        budgets: What each of them gets.
        tight: Whether memory is so short that blocks which are freed must be given back at once.
    """

    plans: Sequence[_LayerPlan]
    budgets: Sequence[Memory]
    tight: bool

    def accumulators(self, rows_at: RowsAt, settings: MeasuringSettings) -> dict[str, SpectrumAccumulator]:
        """One for each layer, with the memory that it gets."""
        return {
            plan.layer.name: SpectrumAccumulator(
                memory_limit=memory.limit,
                kept_limit=memory.kept,
                half_samples=settings.half_samples,
                positions=True,
                expected_images=rows_at(plan.layer)[0],
                seed=settings.seed,
                name=plan.layer.name,
            )
            for plan, memory in zip(self.plans, self.budgets, strict=True)
        }


def passes_of(layers: Sequence[Site], rows_at: RowsAt, settings: MeasuringSettings) -> list[Pass]:
    """The passes that measure layers within a memory limit.

    Args:
        layers: Layers.
        rows_at: Layer -> rows that it will have, None if unknown, and whether these are samples, not images with positions.
        settings: How they are measured.

    Raises:
        SpectrumError: the limit is below the least that a layer can be measured with.
    """
    sizes = [_size(layer, rows_at, settings) for layer in layers]
    limit = _for_statistics(layers, sizes, settings)
    return _plan_passes([_plan_layer(layer, size, limit) for layer, size in zip(layers, sizes, strict=True)], limit)


def _size(layer: Site, rows_at: RowsAt, settings: MeasuringSettings) -> Code:
    """Size of a layer's code; of no samples if their number is not known."""
    output = torch.empty(layer.shape, dtype=layer.dtype, device="meta")
    code = as_code(output, **options_at(layer, settings))
    rows, are_samples = rows_at(layer)
    n_samples = (rows or 0) * (1 if are_samples else code.shape[1])
    return Code(n_samples, code.shape[2], code.element_size(), GROUPS if settings.half_samples else 1)


def _for_statistics(layers: Sequence[Site], sizes: Sequence[Code], settings: MeasuringSettings) -> int:
    """Bytes that are left beside the results, if they are enough for every layer."""
    limit = settings.limit
    results = sum(8 * (1 + settings.half_samples) * min(size.n_samples, size.n_units) for size in sizes)
    for layer, size in zip(layers, sizes, strict=True):
        least = least_limit(size.n_units)
        if limit - results < least:
            raise SpectrumError(
                f"{layer.name}: `memory_limit` must be at least {-(-(least + results) // 2**20)}MiB for the {size.n_units} units "
                f"of this layer and the results of all; got {limit / 2**20:.4g}MiB. Raise it."
            )
    return limit - results


def _plan_layer(layer: Site, size: Code, limit: int) -> _LayerPlan:
    scratch, everything = scratch_of(limit), Memory(limit, limit)
    if size.n_samples == 0:
        return _LayerPlan(layer, _Need(least_limit(size.n_units), 0), _Need(limit, 0))

    def need(code: Code, form: Form) -> _Need:
        kept = form.kept(code)
        return _Need(kept, form.peak(code) + scratch - kept)

    alone = replace(size, groups_wanted=1)
    least, wanted = exact_form(alone, everything), exact_form(size, everything)
    if least is not None and wanted is not None:
        wanted = exact_form(size, Memory(limit, wanted.kept(size))) or wanted
        return _LayerPlan(layer, need(alone, least), need(size, wanted))
    sums = min(size.n_units, _SKETCH_RATIO * size.n_samples)
    sketch = _Need(8 * size.n_samples * sums, size.gram + map_bytes(size.n_units) + scratch)
    whole = _Need(limit, 0)
    return _LayerPlan(layer, sketch if sketch.kept + sketch.working <= limit else whole, whole)


def _plan_passes(plans: Sequence[_LayerPlan], limit: int) -> list[Pass]:
    """Passes, filled greedily in order.

    What layers keep adds up; what they work with is needed by one after the other, and so is shared. Spare bytes go to whoever
    wants them.
    """

    def least(members: Sequence[_LayerPlan]) -> int:
        return sum(plan.least.kept for plan in members) + max(plan.least.working for plan in members)

    passes: list[list[_LayerPlan]] = []
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
        planned.append(Pass(members, [Memory(bytes_ + working, bytes_) for bytes_ in kept], tight))
    return planned


def _shared(spare: int, claims: Sequence[int]) -> list[int]:
    """What each claim gets: all of it, if it is no more than a fair share of what smaller ones have left."""
    given = [0] * len(claims)
    for left, number in zip(range(len(claims), 0, -1), sorted(range(len(claims)), key=lambda n: claims[n]), strict=True):
        given[number] = max(0, min(claims[number], spare // left))
        spare -= given[number]
    return given
