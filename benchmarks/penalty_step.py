"""A training step with the spectral penalty against the plain step of the same network, and against the papers' way.

The papers' way: eigenvalues of the covariance by a full float32 decomposition that autograd follows (Gerum et al. 2022).
Every variant trains a network of its own on MNIST; steps are taken in turns, so that all see the same machine. Ratios are CPU
time over that of the plain step. The first call of a tracked solver decomposes the whole covariance and is left out.
"""

import statistics

import torch

from benchmarks.timing import clock, write
from eigencode import datasets, models
from eigencode.penalties import SpectralPenalty

BATCH, TARGET, STRENGTH = 2500, 2.0, 1.0
ROUNDS, SLOW_ROUNDS = 24, 4


def papers_way(ranks):
    first, last = ranks
    rank = torch.arange(first, last + 1).log()
    rank -= rank.mean()

    def penalty(code):
        centred = code - code.mean(dim=0)
        values = torch.linalg.eigh(centred.T @ centred / len(code))[0].flip(0)
        logarithms = (torch.relu(values / values.sum()) + 1e-8).log()[first - 1 : last]
        return (-(logarithms * rank).sum() / (rank**2).sum() - TARGET).abs()

    return penalty


def stepper(images, penalty, *, units=2000, batch=BATCH):
    """A function that takes one step of a one-layer tanh network, and the network's code at that step."""
    torch.manual_seed(0)
    shape = images.shape
    if units == 2000:
        network = models.load("gerum_shallow_mlp", image_shape=shape)
    else:
        network = torch.nn.Sequential()
        size = images.inputs[0].numel()
        for name, module in (
            ("flatten", torch.nn.Flatten()),
            ("hidden1", torch.nn.Linear(size, units)),
            ("tanh1", torch.nn.Tanh()),
            ("output", torch.nn.Linear(units, 10)),
        ):
            network.add_module(name, module)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, eps=1e-7, fused=True)
    batches = torch.arange(len(images)).split(batch)
    state = {"step": 0}

    def step():
        chosen = batches[state["step"] % (len(images) // batch)]
        state["step"] += 1
        code = network.tanh1(network.hidden1(images.inputs[chosen].flatten(1)))
        loss = torch.nn.functional.cross_entropy(network.output(code), images.labels[chosen])
        if penalty is not None:
            loss = loss + STRENGTH * penalty(code)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return code.detach()

    return step


def ratios(steps, rounds, slow=()):
    """Median CPU and wall seconds of each step, taken in turns."""
    times = {name: [] for name in steps}
    for number in range(rounds):
        for name, step in steps.items():
            if name in slow and number % (rounds // SLOW_ROUNDS):
                continue
            times[name].append(clock(step)[1:])
    skipped = 2  # warming up, and the first decomposition
    found = {}
    for name, taken in times.items():
        cpu, wall = (statistics.median(values) for values in zip(*taken[min(skipped, len(taken) - 1) :], strict=True))
        found[name] = {"cpu_seconds": cpu, "wall_seconds": wall}
    for values in found.values():
        values["times_the_plain_step"] = values["wall_seconds"] / found["plain"]["wall_seconds"]
        values["cpu_times_the_plain_step"] = values["cpu_seconds"] / found["plain"]["cpu_seconds"]
    return found


def products_per_second(order=2000, repeats=5):
    """Multiplications and additions per second of a float32 matrix product: what this machine can do at best."""
    matrix = torch.randn(order, order)
    return 2 * order**3 / min(clock(lambda: matrix @ matrix)[2] for _ in range(repeats))


def main():
    images = datasets.load("mnist", split="train")
    tracked = {
        f"tracked {first}-{last}": SpectralPenalty(TARGET, ranks=(first, last)) for first, last in ((6, 50), (1, 10), (10, 316))
    }
    penalties = {
        "plain": None,
        **tracked,
        "dense 6-50": SpectralPenalty(TARGET, solver="dense"),
        "papers' way 6-50": papers_way((6, 50)),
    }
    steps = {name: stepper(images, penalty) for name, penalty in penalties.items()}
    found = ratios(steps, ROUNDS, slow=("dense 6-50", "papers' way 6-50"))
    peak = products_per_second()
    arithmetic = 2 * 2 * BATCH * 784 * 2000 + 3 * 2 * BATCH * 2000 * 10
    for name, penalty in tracked.items():
        found[name] |= {"residual": float(penalty.last.residual), "expansions": float(penalty.last.expansions)}
    results = {
        "784-2000-10, batch 2500, MNIST": found,
        "tracked over papers' way": found["papers' way 6-50"]["wall_seconds"] / found["tracked 6-50"]["wall_seconds"],
        "dense over papers' way": found["papers' way 6-50"]["wall_seconds"] / found["dense 6-50"]["wall_seconds"],
        "plain step, share of the matrix-product peak": arithmetic / found["plain"]["wall_seconds"] / peak,
        "peak of a matrix product, 1e9 operations per second": peak / 1e9,
    }
    for units in (250, 500, 1000, 2000, 4000):
        pair = {"plain": stepper(images, None, units=units), "tracked": stepper(images, SpectralPenalty(TARGET), units=units)}
        results[f"units {units}: times the plain step"] = ratios(pair, 8)["tracked"]["times_the_plain_step"]
    for batch in (500, 1000, 5000):
        pair = {"plain": stepper(images, None, batch=batch), "tracked": stepper(images, SpectralPenalty(TARGET), batch=batch)}
        results[f"batch {batch}: times the plain step"] = ratios(pair, 8)["tracked"]["times_the_plain_step"]
    for last in (20, 100, 200):
        pair = {"plain": stepper(images, None), "tracked": stepper(images, SpectralPenalty(TARGET, ranks=(6, last)))}
        results[f"ranks 6-{last}: times the plain step"] = ratios(pair, 8)["tracked"]["times_the_plain_step"]
    write("penalty_step", results)
