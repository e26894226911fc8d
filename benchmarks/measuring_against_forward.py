"""(b) Measuring every layer of ResNet-18 by channels, against the bare forward pass. Bar: at most 0.4 forward passes more.

The statistics alone are 36 billion float64 multiplications for 76 billion float32 ones of the forward pass, and float64 runs at
half the speed: without a cheaper exact product the bar cannot be met on a CPU.
"""

import statistics
import time

import torch

import eigencode as ec
from benchmarks.timing import clock, write

IMAGES, BATCH, REPEATS = 512, 128, 5


def main():
    model = ec.models.load("torchvision:resnet18")
    images = torch.rand(IMAGES, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def forward():
        with torch.no_grad():
            for batch in images.split(BATCH):
                model(batch)

    def measure():
        last = {}
        begin = time.perf_counter()

        def progress(stage, _done, _total):
            if stage == "images":
                last["seconds"] = time.perf_counter() - begin

        spectra = ec.measure(model, images, layers="all", units="channels", half_samples=0, batch_size=BATCH, progress=progress)
        return len(spectra), last["seconds"]

    forward()
    measure()
    bare, filled, layers = [], [], 0
    for _ in range(REPEATS):
        bare.append(clock(forward)[2])
        layers, seconds = measure()
        filled.append(seconds)
    extra = statistics.median(filled) / statistics.median(bare) - 1
    results = {
        "layers": layers,
        "forward_seconds": statistics.median(bare),
        "forward_and_statistics_seconds": statistics.median(filled),
        "extra_over_forward": extra,
        "bar": 0.4,
    }
    write("measuring_against_forward", results)
