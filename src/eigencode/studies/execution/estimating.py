"""Groups of cells -> about how long they take here, and how much memory, before anything runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from eigencode import models
from eigencode._grammar import names_in
from eigencode.datasets import ImageSet
from eigencode.errors import EigencodeError
from eigencode.perturbations.specification import MADE
from eigencode.studies.cell import CellConfig, ImagesSpec
from eigencode.studies.execution.materials import MADE_FROM, images_kept, images_of, source_of
from eigencode.studies.execution.scheduling import Group
from eigencode.training.grouping import bytes_of_step, jacobian_rows
from eigencode.training.networks import bytes_kept

_ATTACKED = 2
"""Forward passes' worth of arithmetic of a step of an attack: the gradient is that of the input alone."""

_DOUBLE = 3
"""The same of a gradient that is differentiated again for the weights."""

_SHARE_OF_PEAK = 0.4
"""Of a matrix product's speed that trainings of small networks reached."""

_PROCESS = 400 * 2**20
"""Bytes that Python and PyTorch take alone."""

_A_STEP, _A_PASS = 0.004, 0.05
"""Seconds that a step and a pass over test images took at least, with a slow processor."""


@images_kept()
def estimated(groups: Sequence[Group], *, data_root: str | None = None) -> list[Group]:
    """Groups with a rough time on one CPU process of this machine, and memory: arithmetic over measured speed.

    Nothing is downloaded: of images that are not there, neither is known.
    """
    speed = _SHARE_OF_PEAK * _products_per_second()
    found = []
    made: set[str] = set()
    for group in groups:
        plan = group.plans[0]
        if group.stack is None:  # its network would have to be made, by code of its own
            found.append(group)
            continue
        try:
            costs = {each.identity: _cost(each, data_root) for each in group.plans}
        except EigencodeError:
            found.append(group)
            continue
        forward, passes = costs[plan.identity][0], sum(costs[each.identity][1] for each in group.missing)
        seconds = 0.0
        if group.missing:
            passes += _making(plan, made, data_root)
            seconds = _overhead(group, data_root)
        memory = _held(plan, data_root) + max(cost[2] for cost in costs.values()) * min(group.stack, len(group.plans))
        found.append(replace(group, seconds=seconds + forward * passes / speed, memory=memory))
    return found


def _cost(plan: CellConfig, data_root: str | None) -> tuple[float, float, float]:
    """Operations of a forward pass of one image, number of such passes, and bytes, for one cell."""
    test = _images(plan.images, data_root, held_out=True)
    arithmetic = _arithmetic(plan, data_root)
    passes = _training_passes(plan, data_root)
    for perturbed in plan.reading.perturbations:
        images = min(perturbed.count or (plan.reading.count if perturbed.spectra else len(test)), len(test))
        steps = perturbed.n_steps if perturbed.what.attack else 0
        sites = len(names_in(plan.reading.layers)) if perturbed.what.at_layers else 1
        passes += len(perturbed.strengths) * images * sites * (1 + _ATTACKED * steps)
    batch, image = min(plan.training.batch_size, plan.images.train_count or plan.training.batch_size), test.inputs[:1].nbytes
    penalised = bool(plan.member.jacobian)
    memory = bytes_of_step(arithmetic.parameters, image, arithmetic.kept, batch, plan.training, jacobian=penalised)
    return arithmetic.forward, passes, memory


def _held(plan: CellConfig, data_root: str | None) -> int:
    """Bytes of the process and of its images, however many networks there are."""
    parts = (True,) if plan.network.weights else (False, True)
    return _PROCESS + sum(_images(plan.images, data_root, held_out=held_out).inputs.nbytes for held_out in parts)


@dataclass(frozen=True)
class _Arithmetic:
    """Operations for one image, of a forward pass and of one with the weights' gradient; bytes kept for it; number of weights."""

    forward: float
    step: float
    parameters: int
    kept: int


def _arithmetic(plan: CellConfig, data_root: str | None) -> _Arithmetic:
    """Of a network that is trained; of one that is not, a step is a forward pass."""
    spec = plan.network
    return _counted(spec.model, tuple(sorted(spec.options.items())), spec.weights is None, plan.images, data_root)


@lru_cache(maxsize=32)
def _counted(
    model: str, options: tuple[tuple[str, int | float], ...], trained: bool, images: ImagesSpec, data_root: str | None
) -> _Arithmetic:
    test = _images(images, data_root, held_out=True)
    network = models.load(model, image_shape=test.shape, **dict(options))  # type: ignore[arg-type]
    with torch.set_grad_enabled(trained), FlopCounterMode(display=False) as forward:
        output = network(test.inputs[:1].clone())
    with FlopCounterMode(display=False) as backward:
        if trained:
            output.sum().backward()
    both = forward.get_total_flops() + backward.get_total_flops()
    kept = bytes_kept(network, test.inputs[:1]) if trained else 0
    return _Arithmetic(forward.get_total_flops(), both, sum(parameter.numel() for parameter in network.parameters()), kept)


def _overhead(group: Group, data_root: str | None) -> float:
    """Seconds that a group costs however small its networks are: for each step of a stack, and each pass over test images."""
    plan = group.plans[0]
    steps = 0
    if not plan.network.weights:
        steps = plan.training.epochs * math.ceil(len(_images(plan.images, data_root, held_out=False)) / plan.training.batch_size)
    read = 1 + sum(len(spec.strengths) for spec in plan.reading.perturbations)
    return _A_STEP * steps + len(group.missing) * (_A_PASS * read + _A_PASS * plan.training.epochs)


def _training_passes(plan: CellConfig, data_root: str | None) -> float:
    """Forward passes that training costs, of single images; none where a network has its weights."""
    if plan.network.weights:
        return 0.0
    training, test = (_images(plan.images, data_root, held_out=held_out) for held_out in (False, True))
    arithmetic = _arithmetic(plan, data_root)
    settings, each = plan.training, arithmetic.step / arithmetic.forward
    if settings.adversarial.epsilon:
        each += _ATTACKED * settings.adversarial.steps
    if plan.member.jacobian:  # differentiated twice
        each += _DOUBLE * (1 + jacobian_rows(settings))
    return settings.epochs * (each * len(training) + len(test))


def _making(plan: CellConfig, made: set[str], data_root: str | None) -> float:
    """Forward passes that making images costs, and training the networks that make them; what ``made`` has is there."""
    passes = 0.0
    for spec in plan.reading.perturbations:
        if spec.kind not in MADE or spec.data:
            continue
        for strength in spec.strengths:
            source = source_of(plan, strength)
            if source.identity not in made:
                passes += _training_passes(source, data_root)
            images = f"{source.identity} {spec.kind} {spec.count} {spec.n_steps}"
            if images not in made:
                passes += _ATTACKED * spec.n_steps * (spec.count or MADE_FROM)
            made |= {source.identity, images}
    return passes


def _images(spec: ImagesSpec, data_root: str | None, *, held_out: bool) -> ImageSet:
    return images_of(spec, held_out=held_out, data_root=data_root, download=False)


def _products_per_second(order: int = 1000) -> float:
    matrix = torch.randn(order, order)
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * order**3 / best
