"""Studies: networks per hour stacked, one by one and by a plain script for each; what engine, store and report cost.

Small networks with local errors on the bundled digits, where stacking matters; the plain script is nn.Linear and autograd in a
process of its own for each network, as one writes it without eigencode.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import write
from eigencode.reports.study_figures import draw
from eigencode.studies import Block, Evidence, Images, Local, Network, Plan, Reading, Store, Study, run_study
from eigencode.studies.engines import Done
from eigencode.studies.judging import claims_of
from eigencode.studies.running import run_group
from eigencode.studies.study import with_field
from eigencode.training import Cell, Settings, SpectralSettings

NETWORKS, SCRIPTS, GROUPS, MANY = 20, 3, 100, 1000

PLAN = Plan(
    network=Network("jiang_mlp"),
    images=Images("digits"),
    training=Settings(
        epochs=20, batch_size=100, rule="local", optimizer="sgd", spectral=SpectralSettings(ranks="jiang"), measure_every=20
    ),
    member=Cell(learning_rate=0.05),
    reading=Reading(layers=",".join(f"layers.{number}" for number in range(8)), ranks="jiang", count=500),
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


class Ready:
    """An engine whose groups are done at once, so that what is left is planning, locks and store."""

    def __init__(self, records):
        self.records = {record.plan.identity: record for record in records}

    def run(self, tasks, report=None):
        for task in tasks:
            yield Done(task, [self.records[plan.identity] for plan in task.plans])


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main():
    folder = Path(tempfile.mkdtemp())
    study = Study("networks", "", (Block(PLAN, {}, tuple(range(NETWORKS))),))
    run_group(study.cells()[:2])  # warming up
    stacked = seconds(lambda: run_study(study, Store(folder / "stacked.sqlite"), Local()))
    alone = seconds(lambda: run_study(study, Store(folder / "alone.sqlite"), Local(), stack=1))
    script = seconds(
        lambda: [
            subprocess.run([sys.executable, "-c", SCRIPT, str(seed)], check=True, capture_output=True) for seed in range(SCRIPTS)
        ]
    )
    (record,) = run_group(study.cells()[:1])
    store = Store(folder / "many.sqlite")
    many = [replace(record, plan=with_field(record.plan, "member.seed", seed)) for seed in range(MANY)]
    writing = seconds(lambda: [store.save([each]) for each in many[:GROUPS]])
    store.save(many[GROUPS:])
    ready = Study("ready", "", (Block(PLAN, {}, tuple(range(GROUPS))),))
    other = Store(folder / "ready.sqlite")
    through = seconds(lambda: run_study(ready, other, Ready(many), stack=1, states=folder / "states"))
    report = Study("jiang2020.fig5", "", (Block(PLAN, {}, tuple(range(MANY))),))

    def write_report():
        evidence = Evidence(store, report.cells())
        for claim in claims_of(report):
            claim.judged(evidence)
        draw("jiang2020.fig5", evidence)

    rows = len(record.rows) + len(record.spectra) + 1
    write(
        "studies",
        {
            "cells per hour, stacked": 3600 * NETWORKS / stacked,
            "cells per hour, one by one": 3600 * NETWORKS / alone,
            "cells per hour, a plain script each": 3600 * SCRIPTS / script,
            "stacked over one by one": alone / stacked,
            "stacked over plain scripts": script / SCRIPTS / (stacked / NETWORKS),
            "engine, milliseconds added to a group": 1000 * (through - writing) / GROUPS,
            "store, cells written per second": GROUPS / writing,
            "store, rows written per second": GROUPS * rows / writing,
            "claims and figure of 1000 cells, seconds": seconds(write_report),
        },
    )
