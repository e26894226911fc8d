"""(c) Peak memory of measuring every layer of ResNet-50, against keeping all activations. Each runs in a process of its own."""

import subprocess
import sys

from benchmarks.timing import write

IMAGES = 256
COMMON = f"""
import resource, torch, eigencode as ec
from eigencode.activations import reading, select_layers, trace
model = ec.models.load("torchvision:resnet50")
images = torch.rand({IMAGES}, 3, 64, 64, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    model(images[:32])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
OURS = """
ec.measure(model, images, layers="all", batch_size=32, half_samples=0, memory_limit="512MiB")
"""
THEIRS = """
traced = trace(model, images[:2])
kept = {}
layers = select_layers(traced, "all")
with reading(model, layers, lambda name, code: kept.setdefault(name, []).append(code.clone()), several=traced.several):
    for batch in images.split(32):
        model(batch)
for name in kept:
    ec.Eigenspectrum.from_activations(torch.cat(kept[name]).squeeze(1), half_samples=0)
"""
REPORT = "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def peak(body):
    done = subprocess.run([sys.executable, "-c", COMMON + body + REPORT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    return before / 1024, after / 1024


def main():
    (base, ours), (_, theirs) = peak(OURS), peak(THEIRS)
    results = {
        "images": IMAGES,
        "memory_limit_MiB": 512,
        "model_and_images_MiB": base,
        "peak_MiB": ours,
        "peak_keeping_all_MiB": theirs,
        "above_base_MiB": ours - base,
        "above_base_keeping_all_MiB": theirs - base,
        "ratio": (theirs - base) / (ours - base),
    }
    write("memory_of_all_layers", results)
