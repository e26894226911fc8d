"""A training step of a CNN on batches of 6000 images, with freed memory kept and given back, each in a process of its own."""

import subprocess
import sys

from benchmarks.timing import write

BATCH, STEPS = 6000, 8
BODY = rf"""
import re, statistics, sys, time
import eigencode as ec
if sys.argv[1] == "kept":
    assert ec.keep_freed_memory()
import torch
shape = tuple(map(int, sys.argv[2:]))
network = ec.models.load("gerum_cnn", image_shape=shape)
inputs, labels = torch.rand({BATCH}, *shape), torch.randint(0, 10, ({BATCH},))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
times = []
for _ in range({STEPS}):
    started = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(inputs), labels).backward()
    optimizer.step()
    times.append(time.perf_counter() - started)
peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]  # getrusage counts what the parent had
print(statistics.median(times[1:]), int(peak) / 1024)
"""


def step(kept, shape):
    """Median seconds of a step, and the peak memory of its process in MiB."""
    command = [sys.executable, "-c", BODY, "kept" if kept else "given back", *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())


def main():
    results = {}
    for data, shape in (("MNIST size", (1, 28, 28)), ("CIFAR-10 size", (3, 32, 32))):
        (given_back, less), (kept, more) = step(False, shape), step(True, shape)
        results[f"gerum_cnn, {data}, batch {BATCH}"] = {
            "seconds_given_back": given_back,
            "seconds_kept": kept,
            "times_faster": given_back / kept,
            "peak_MiB_given_back": less,
            "peak_MiB_kept": more,
        }
    write("kept_memory", results)
