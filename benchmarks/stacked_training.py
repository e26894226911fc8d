"""Networks trained as one stack against a plain loop over networks: wall time for each network's step.

Local errors, depth 8, width 200, batch 200, 20 networks, against nn.Linear and autograd, one network after the other, with the
share of the machine's matrix-product peak; then the papers' networks by back-propagation, large and small; then stacks of 1 to 50
networks against the plain loop over as many. A turn is a few steps, which find the caches as training does.
"""

import statistics

import torch
from torch.nn.functional import cross_entropy

from benchmarks.penalty_step import products_per_second
from benchmarks.timing import clock, write
from eigencode import models
from eigencode.models.papers import JiangNetwork
from eigencode.training.local_errors import LocalErrors
from eigencode.training.networks import members_of

DEPTH, WIDTH, BATCH, MEMBERS, INPUTS, CLASSES = 8, 200, 200, 20, 784, 10
ROUNDS, STEPS = 12, 4
FEW_ROUNDS, SIZES = 4, (1, 2, 5, 10, 20, 50)


def local_errors(members=MEMBERS):
    inputs, labels = torch.rand(members, BATCH, INPUTS), torch.randint(0, CLASSES, (members, BATCH))
    stacked = LocalErrors([JiangNetwork() for _ in range(members)])
    rates = torch.full((members,), 0.01)
    networks = [JiangNetwork() for _ in range(members)]
    optimizers = [torch.optim.SGD(network.layers.parameters(), lr=0.01) for network in networks]

    def together():
        stacked.step(inputs, labels, rates)

    def one_by_one():
        for number, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            code, loss = inputs[number], 0
            for layer, classifier in zip(network.layers, network.classifiers, strict=True):
                code = layer(code.detach())
                loss = loss + cross_entropy(classifier(code), labels[number])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    arithmetic = 2 * 2 * BATCH * (INPUTS * WIDTH + (DEPTH - 1) * WIDTH**2) + 2 * 2 * DEPTH * BATCH * WIDTH * CLASSES
    return together, one_by_one, members, arithmetic


def back_propagation(name, shape, batch, members):
    inputs, labels = torch.rand(members, batch, *shape), torch.randint(0, CLASSES, (members, batch))
    made = [models.load(name, image_shape=shape, seed=seed) for seed in range(members)]
    stack = members_of(made, inputs[0, :2])
    optimizer = torch.optim.Adam([{"params": parameters} for parameters in stack.parameters], lr=1e-4, fused=True)
    networks = [models.load(name, image_shape=shape, seed=seed) for seed in range(members)]
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-4) for network in networks]

    def together():
        scores, _ = stack.forward(inputs)
        loss = cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").view(members, -1).mean(dim=1).sum()
        stack.assign_gradients(torch.autograd.grad(loss, stack.leaves))
        optimizer.step()

    def one_by_one():
        for number, (network, own) in enumerate(zip(networks, optimizers, strict=True)):
            own.zero_grad()
            cross_entropy(network(inputs[number]), labels[number]).backward()
            own.step()

    weights = sum(parameter.numel() for parameter in networks[0].parameters() if parameter.ndim > 1)
    return together, one_by_one, members, 3 * 2 * batch * weights if "mlp" in name else None


def main():
    cases = {
        "local errors, 8 x 200, batch 200, 20 networks": local_errors(),
        "gerum_shallow_mlp, MNIST size, batch 2500, 4 networks": back_propagation("gerum_shallow_mlp", (1, 28, 28), 2500, 4),
        "gerum_cnn, digits size, batch 20, 20 networks": back_propagation("gerum_cnn", (1, 8, 8), 20, 20),
        "schaeffer_cnn, digits size, batch 20, 20 networks": back_propagation("schaeffer_cnn", (1, 8, 8), 20, 20),
    }
    results = {}
    for case, (together, one_by_one, members, arithmetic) in cases.items():
        medians, peak = seconds_per_network(together, one_by_one, members, ROUNDS)
        results[case] = {
            "stacked_seconds_per_network": medians["stacked"],
            "plain_seconds_per_network": medians["plain loop"],
            "times_faster": medians["plain loop"] / medians["stacked"],
        }
        if arithmetic:
            results[case] |= {f"{key}_share_of_peak": arithmetic / seconds / peak for key, seconds in medians.items()}
            results[case]["peak_of_a_matrix_product_per_second"] = peak
    for size in SIZES:
        for case, (together, one_by_one, members, _) in {
            "local errors, 8 x 200, batch 200": local_errors(size),
            "gerum_cnn, digits size, batch 20": back_propagation("gerum_cnn", (1, 8, 8), 20, size),
        }.items():
            medians, _ = seconds_per_network(together, one_by_one, members, FEW_ROUNDS)
            results.setdefault(f"{case}: times faster by networks", {})[size] = medians["plain loop"] / medians["stacked"]
    write("stacked_training", results)


def seconds_per_network(together, one_by_one, members, rounds):
    """Median seconds of a network's step in a stack and in a plain loop, and what the machine can do at best."""
    taken, peaks = {"stacked": [], "plain loop": []}, []
    for _ in range(rounds):
        peaks.append(products_per_second(repeats=3))
        for name, step in (("stacked", together), ("plain loop", one_by_one)):
            taken[name].append(clock(lambda step=step: [step() for _ in range(STEPS)])[2] / STEPS / members)
    return {key: statistics.median(values) for key, values in taken.items()}, statistics.median(peaks)
