"""Groups of cells -> about how long they take here, and how much memory, before anything runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from eigencode import datasets, models
from eigencode.datasets import ImageSet
from eigencode.errors import EigencodeError
from eigencode.studies.materials import MADE_FROM, source_of
from eigencode.studies.scheduling import Group
from eigencode.studies.study import MADE, Images, Plan

_BACKWARD = 3
"""A training step is a forward pass and a backward pass of twice its arithmetic."""

_CLASSES = 10

_SHARE_OF_PEAK = 0.4
"""Of a matrix product's speed that trainings of small networks reached."""


_A_STEP, _A_PASS = 0.004, 0.05
"""Seconds that a step and a pass over test images took at least, with a slow processor."""


def estimated(groups: Sequence[Group], *, data_root: str | None = None) -> list[Group]:
    """Groups with a rough time on one CPU process of this machine, and memory: arithmetic over measured speed."""
    speed = _SHARE_OF_PEAK * _products_per_second()
    found = []
    made: set[str] = set()
    for group in groups:
        try:
            forward, passes, memory = _cost(group.plans[0], data_root)
        except EigencodeError:
            found.append(group)
            continue
        passes *= len(group.missing)
        seconds = 0.0
        if group.missing:
            passes += _making(group.plans[0], made, data_root)
            seconds = _overhead(group, data_root)
        memory *= min(group.stack, len(group.plans))
        found.append(replace(group, seconds=seconds + forward * passes / speed, memory=memory))
    return found


def _cost(plan: Plan, data_root: str | None) -> tuple[float, float, float]:
    """Operations of a forward pass of one image, number of such passes, and bytes, for one cell."""
    test = _images(plan.images, "test", data_root)
    options: dict[str, int | float] = dict(plan.network.options)
    network = models.load(plan.network.model, image_shape=test.shape, **options)  # type: ignore[arg-type]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(test.inputs[:1])
    passes, held = _training_passes(plan, data_root), 0
    if not plan.network.weights:
        held = _images(plan.images, "train", data_root).inputs.nbytes
    for perturbed in plan.reading.perturbations:
        images = min(perturbed.count or (plan.reading.count if perturbed.spectra else len(test)), len(test))
        steps = {"pgd": perturbed.n_steps, "fgsm": 1}.get(perturbed.kind, 0)
        sites = len(plan.reading.layers.split(",")) if perturbed.kind.startswith("layer_") else 1
        passes += len(perturbed.strengths) * images * sites * (1 + _BACKWARD * steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    units = test.inputs[0].numel() + parameters / max(1, test.inputs[0].numel())
    return counter.get_total_flops(), passes, 4 * (6 * parameters + 6 * plan.training.batch_size * units) + held


def _overhead(group: Group, data_root: str | None) -> float:
    """Seconds that a group costs however small its networks are: for each step of a stack, and each pass over test images."""
    plan = group.plans[0]
    steps = 0
    if not plan.network.weights:
        steps = plan.training.epochs * math.ceil(len(_images(plan.images, "train", data_root)) / plan.training.batch_size)
    read = 1 + sum(len(told.strengths) for told in plan.reading.perturbations)
    return _A_STEP * steps + len(group.missing) * (_A_PASS * read + _A_PASS * plan.training.epochs)


def _training_passes(plan: Plan, data_root: str | None) -> float:
    """Forward passes that training costs, of single images; none where a network has its weights."""
    if plan.network.weights:
        return 0.0
    training, test = (_images(plan.images, split, data_root) for split in ("train", "test"))
    told, each = plan.training, float(_BACKWARD)
    if told.adversarial.epsilon:
        each += _BACKWARD * told.adversarial.steps
    if plan.member.jacobian:  # differentiated twice
        rows = {"exact": _CLASSES, "projected": told.jacobian.projections}.get(told.jacobian.kind, 1)
        each += _BACKWARD * (1 + rows)
    return told.epochs * (each * len(training) + len(test))


def _making(plan: Plan, made: set[str], data_root: str | None) -> float:
    """Forward passes that making images costs, and training the networks that make them; what ``made`` has is there."""
    passes = 0.0
    for told in plan.reading.perturbations:
        if told.kind not in MADE or told.data:
            continue
        for strength in told.strengths:
            source = source_of(plan, strength)
            if source.identity not in made:
                passes += _training_passes(source, data_root)
            images = f"{source.identity} {told.kind} {told.count} {told.n_steps}"
            if images not in made:
                passes += _BACKWARD * told.n_steps * (told.count or MADE_FROM)
            made |= {source.identity, images}
    return passes


@lru_cache(maxsize=4)
def _images(told: Images, split: Literal["train", "test"], data_root: str | None) -> ImageSet:
    count = told.train_count if split == "train" else told.test_count
    return datasets.load(told.data, split=split, count=count, root=data_root, image_size=told.size)


def _products_per_second(order: int = 1000) -> float:
    matrix = torch.randn(order, order)
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * order**3 / best
