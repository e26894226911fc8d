"""Measuring with several processes, and with one of several."""

import numpy as np
import pytest
import torch

from processes import torchrun

WORKER = """
import sys
from datetime import timedelta
import torch, torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
import eigencode as ec
from eigencode import _processes

dist.init_process_group("gloo")
rank = dist.get_rank()
generator = torch.Generator().manual_seed(0)
images, labels = torch.rand(101, 12, generator=generator, dtype=torch.float64), torch.arange(101) % 3
images[0] *= 6
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
groups = torch.arange(101) // 2


def show(name, spectra):
    spectrum = spectra["0"]
    halves = None if spectrum.half_samples is None else float(spectrum.half_samples.sum())
    say(name, spectrum.n_images, float(spectrum.eigenvalues.sum()).hex(), spectra.accuracy, spectra.n_labelled, halves)


def say(*words):
    sys.stdout.write(" ".join(map(str, (rank, *words))) + "\\n")  # at once: the other process writes too
    sys.stdout.flush()


data = TensorDataset(images, labels)
for shuffled in (False, True):
    loader = DataLoader(data, batch_size=10, sampler=DistributedSampler(data, shuffle=shuffled, seed=3))
    show(f"sampler-{shuffled}", ec.measure(model, loader, layers="0"))
show("shared", ec.measure(model, DataLoader(data, batch_size=10), layers="0"))
show("sets", ec.measure(model, images, layers="0", groups=groups, batch_size=10))
if rank == 0:
    show("alone", ec.measure(model, data, layers="0", distributed=False))
dist.barrier()
_processes._PATIENCE = timedelta(seconds=2)
if rank == 0:
    try:
        ec.measure(model, images, layers="0")
    except ec.EigencodeError as error:
        say("missing", error)
else:
    import time

    time.sleep(5)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    script = tmp_path_factory.mktemp("processes") / "worker.py"
    script.write_text(WORKER)
    lines = [line.split(maxsplit=2) for line in torchrun(script).splitlines() if line[:1] in "01"]
    return {(name, int(rank)): rest for rank, name, rest in lines}


@pytest.fixture(scope="module")
def alone():
    images = torch.rand(101, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[0] *= 6
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    with torch.no_grad():
        codes, right = model[0](images).numpy(), (model(images).argmax(1) == torch.arange(101) % 3).double().mean()
    return float(np.trace(np.cov(codes.T))), float(right)


@pytest.mark.parametrize("name", ["sampler-False", "sampler-True", "shared", "alone"])
def test_every_image_counts_once(said, alone, name):
    """A DistributedSampler repeats an image, so that both processes have equally many."""
    for rank in (0,) if name == "alone" else (0, 1):
        count, total, accuracy, labelled, _ = said[name, rank].split()
        assert (int(count), int(labelled)) == (101, 101)
        assert float.fromhex(total) == pytest.approx(alone[0], rel=1e-10)
        assert float(accuracy) == pytest.approx(alone[1], abs=1e-12)


def test_sets_of_images_are_the_same_in_all_processes(said):
    import eigencode as ec

    images = torch.rand(101, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[0] *= 6
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    one = ec.measure(model, images, layers="0", groups=torch.arange(101) // 2)["0"]
    for rank in (0, 1):
        assert float(said["sets", rank].split()[-1]) == pytest.approx(float(one.half_samples.sum()), rel=1e-9)


def test_who_does_not_come_is_waited_for_in_vain(said):
    assert said["missing", 0].startswith("measure: not all of the 2 processes called it within 2 seconds")
    assert said["missing", 0].endswith("or pass distributed=False to measure on this one alone.")
