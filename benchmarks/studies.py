"""Studies: networks per hour stacked, one by one and by a plain script for each; what engine, store and report cost.

Small networks with local errors on the bundled digits, where stacking matters; the plain script is nn.Linear and autograd in a
process of its own for each network, as one writes it without eigencode. What an engine adds is a study of many groups of one
small network, less the same groups in a plain loop. The report is the whole command, on as many rows for each cell as Jiang's
Fig. 5 has.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.timing import write
from eigencode.studies import (
    Block,
    CellConfig,
    ImagesSpec,
    Local,
    NetworkSpec,
    RayEngine,
    Readout,
    Store,
    Study,
    load,
    run_study,
    to_yaml,
)
from eigencode.studies.cell import with_field
from eigencode.studies.execution.group import run_group
from eigencode.training import MemberSettings, Settings, SpectralSettings

NETWORKS, SCRIPTS, GROUPS, REPEATS, WRITTEN, MANY = 20, 3, 40, 3, 100, 1000

PLAN = CellConfig(
    network=NetworkSpec("jiang_mlp"),
    images=ImagesSpec("digits"),
    training=Settings(
        epochs=20, batch_size=100, rule="local", optimizer="sgd", spectral=SpectralSettings(ranks="jiang"), measure_every=20
    ),
    member=MemberSettings(learning_rate=0.05),
    reading=Readout(layers=",".join(f"layers.{number}" for number in range(8)), ranks="jiang", count=500),
)

SCRIPT = """
import sys, torch
from torch.nn.functional import cross_entropy
from eigencode import datasets, models
images, test = datasets.load("digits", split="train"), datasets.load("digits")
network = models.load("jiang_mlp", image_shape=images.shape, seed=int(sys.argv[1]))
optimizer = torch.optim.SGD(network.layers.parameters(), lr=0.05)
for epoch in range(20):
    for batch in torch.randperm(len(images)).split(100):
        code, loss = images.inputs[batch].flatten(1), 0
        for layer, classifier in zip(network.layers, network.classifiers):
            code = layer(code.detach())
            loss = loss + cross_entropy(classifier(code), images.labels[batch])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
code = test.inputs.flatten(1)
for layer in network.layers:
    code = layer(code)
    print(torch.linalg.eigvalsh(torch.cov(code.detach().double().T)).flip(0)[:10].log())
"""


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seeds_of(plan, count, name="networks"):
    return Study(name, "", (Block(plan, {}, tuple(range(count))),))


def added_by(engine, folder):
    """Milliseconds that an engine adds to a group, beyond its start: of a long study less a short one, less a plain loop."""
    plan = with_field(PLAN, "training.epochs", 1)
    few, many = seeds_of(plan, GROUPS // 4), seeds_of(plan, GROUPS)
    groups = len(many.cells()) - len(few.cells())
    found = []
    for _ in range(REPEATS):
        place = Path(tempfile.mkdtemp(dir=folder))

        def spent(study, place=place):
            store = Store(place / f"{len(study.cells())}.sqlite")
            return seconds(lambda: run_study(study, store, engine, stack=1, states=place / "states"))

        plain = seconds(lambda: [run_group([each]) for each in many.cells()[:groups]])
        found.append(1000 * (spent(many) - spent(few) - plain) / groups)
    return statistics.median(found)


def report_of_many(folder):
    """Seconds of ``eigencode report`` for Jiang's Fig. 5 from many cells, and rows of each."""
    (block, *_others) = load("jiang2020.fig5", "paper").blocks
    plan = with_field(replace(block.plan, images=ImagesSpec("digits")), "reading.perturbations", ())
    (record,) = run_group([plan])
    study, store = seeds_of(plan, MANY, "jiang2020.fig5"), Store(folder / "many.sqlite")
    random = np.random.default_rng(0)
    for cell in study.cells():  # networks that differ, as seeds do
        values = record.rows["value"] * random.normal(1, 0.01, len(record.rows))
        store.save([replace(record, plan=cell, rows=record.rows.assign(value=values))])
    (folder / "study.yaml").write_text(to_yaml(study))
    command = ["report", folder / "study.yaml", "--store", folder / "many.sqlite", "--out", folder / "report"]
    spent = seconds(lambda: subprocess.run([sys.executable, "-m", "eigencode", *command], check=True, capture_output=True))
    return spent, len(record.rows)


def main():
    folder = Path(tempfile.mkdtemp())
    study = seeds_of(PLAN, NETWORKS)
    run_group(study.cells()[:2])  # warming up
    stacked = seconds(lambda: run_study(study, Store(folder / "stacked.sqlite"), Local()))
    alone = seconds(lambda: run_study(study, Store(folder / "alone.sqlite"), Local(), stack=1))
    script = seconds(
        lambda: [
            subprocess.run([sys.executable, "-c", SCRIPT, str(seed)], check=True, capture_output=True) for seed in range(SCRIPTS)
        ]
    )
    (record,) = run_group(study.cells()[:1])
    store = Store(folder / "written.sqlite")
    copies = [replace(record, plan=with_field(record.plan, "member.seed", seed)) for seed in range(WRITTEN)]
    writing = seconds(lambda: [store.save([each]) for each in copies])
    report, rows_of_report = report_of_many(folder)
    rows = len(record.rows) + len(record.spectra) + 1
    write(
        "studies",
        {
            "cells per hour, stacked": 3600 * NETWORKS / stacked,
            "cells per hour, one by one": 3600 * NETWORKS / alone,
            "cells per hour, a plain script each": 3600 * SCRIPTS / script,
            "stacked over one by one": alone / stacked,
            "stacked over plain scripts": script / SCRIPTS / (stacked / NETWORKS),
            "local engine, milliseconds added to a group": added_by(Local(), folder),
            "ray engine, milliseconds added to a group": added_by(RayEngine(cpus=os.cpu_count()), folder),
            "store, cells written per second": WRITTEN / writing,
            "store, rows written per second": WRITTEN * rows / writing,
            "report, rows of each of 1000 cells": rows_of_report,
            "report of 1000 cells, seconds": report,
        },
    )
