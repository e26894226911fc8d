"""Steps of penalised training on a GPU: milliseconds for each network alone, and in stacks. Needs a GPU and real MNIST.

The networks of Gerum et al. at their batch sizes, with the spectral penalty over their ranks; the first steps are left out.
"""

import statistics
import time

import torch

from benchmarks.timing import write
from eigencode import datasets, models
from eigencode._arithmetic import exact_arithmetic
from eigencode.training import MemberSettings, Settings, SpectralSettings
from eigencode.training.data import Batches
from eigencode.training.steps import Batch, learner_for

CASES = (
    ("gerum_deep_mlp", 1500, (6, 100), (1, 8, 22, 74)),
    ("gerum_shallow_mlp", 2500, (6, 50), (1, 22)),
    ("gerum_cnn", 6000, (6, 50), (1, 8)),
)
TARGETS, STRENGTHS = (0.6, 1.0, 2.0, 3.0, 4.0), (0.1, 1.0)
FIRST, STEPS = 5, 15


def seconds_of_a_step(name, batch, ranks, members, batches):
    cells = [
        MemberSettings(seed=number % 2, learning_rate=1e-4, beta=STRENGTHS[number % 2], target=TARGETS[number % 5])
        for number in range(members)
    ]
    networks = [models.load(name, image_shape=(1, 28, 28), seed=cell.seed).cuda() for cell in cells]
    settings = Settings(epochs=1, batch_size=batch, spectral=SpectralSettings(ranks=ranks))
    learner = learner_for(networks, cells, settings, batches.gather(torch.arange(2)[None])[0][0])
    taken = []
    while len(taken) < STEPS:
        for indices in batches.epoch([cell.seed for cell in cells], len(taken), batch):
            inputs, labels = batches.gather(indices)
            torch.cuda.synchronize()
            started = time.perf_counter()
            learner.step(Batch(inputs, labels, indices, 0, len(taken)))
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - started)
            if len(taken) == STEPS:
                break
    return statistics.median(taken[FIRST:])


def main():
    if not torch.cuda.is_available():
        print("stacks_on_gpu: there is no GPU here; the results are left as they are")
        return
    device, results = torch.device("cuda"), {}
    batches = Batches(datasets.load("mnist", split="train"), device)
    for name, batch, ranks, counts in CASES:
        with exact_arithmetic(device):
            each = {members: 1e3 * seconds_of_a_step(name, batch, ranks, members, batches) / members for members in counts}
        results[f"{name}, batch {batch}, ranks {ranks[0]}-{ranks[1]}: milliseconds of a network's step by networks"] = each
        results[f"{name}: times faster by networks"] = {members: each[1] / own for members, own in each.items()}
    write("stacks_on_gpu", results)
