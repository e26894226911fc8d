"""A training step with the exact Jacobian penalty against one with a single random projection, for 10 classes."""

import statistics

import torch
from torch.nn.functional import cross_entropy

from benchmarks.timing import clock, write
from eigencode import models
from eigencode.penalties import jacobian_penalty

ROUNDS = 5


def main():
    results = {}
    for name, shape, batch in (
        ("schaeffer_cnn", (3, 32, 32), 100),
        ("gerum_shallow_mlp", (1, 28, 28), 100),
        ("gerum_deep_mlp", (1, 28, 28), 100),
    ):
        model = models.load(name, image_shape=shape)
        inputs, labels = torch.rand(batch, *shape), torch.randint(0, 10, (batch,))

        def step(kind, model=model, inputs=inputs, labels=labels):
            model.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            if kind != "plain":
                loss = loss + 0.1 * jacobian_penalty(model, inputs, kind=kind)
            loss.backward()

        taken = {kind: [] for kind in ("plain", "projected", "column_sum", "exact")}
        for kind in taken:
            step(kind)
        for _ in range(ROUNDS):
            for kind, times in taken.items():
                times.append(clock(lambda kind=kind: step(kind))[2])
        seconds = {kind: statistics.median(times) for kind, times in taken.items()}
        results[f"{name}, batch {batch}"] = {
            **{f"{kind}_times_the_plain_step": value / seconds["plain"] for kind, value in seconds.items()},
            "exact_over_one_projection": seconds["exact"] / seconds["projected"],
        }
    write("jacobian_step", results)
