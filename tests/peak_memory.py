"""Peak memory of measuring one network under a limit, in a process of its own: ``python peak_memory.py SHAPE LIMIT HALVES WHO``.

WHO is "python", or "command" for a process that keeps the memory it frees, as commands do. Prints one JSON object. What counts
is all that the process holds at its peak above its peak during one bare forward pass of all images.
"""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

SHAPES = {
    "wide": "500 000 units x 500 images",
    "medium": "4000 units x 3000 images",
    "square": "2000 units x 3000 images",
    "narrow": "300 units x 20 000 images",
    "several": "five layers of 50 to 3000 units x 2000 images",
    "channels": "256 channels at 64 positions x 1000 images",
}


def peak(shape, limit, half_samples=20, who="python"):
    """What a process of its own reports."""
    command = [sys.executable, __file__, shape, limit, str(half_samples), who]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _network(shape):
    """Network, images, arguments of ``measure``."""
    if shape == "channels":
        network = nn.Sequential(nn.Conv2d(1, 256, 3, padding=1), nn.Flatten(), nn.Linear(256 * 64, 2))
        return network, torch.rand(1000, 1, 8, 8), {"layers": "0", "units": "channels", "batch_size": 8}
    if shape == "several":
        widths = (20, 2000, 1000, 3000, 500, 50)
        network = nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])
        return network, torch.randn(2000, 20), {"layers": "all", "batch_size": 64}
    units, images, batch_size = {
        "wide": (500_000, 500, 2),
        "medium": (4000, 3000, 64),
        "square": (2000, 3000, 64),
        "narrow": (300, 20_000, 128),
    }[shape]
    return nn.Sequential(nn.Linear(20, units)), torch.randn(images, 20), {"layers": "0", "batch_size": batch_size}


def _status(key):
    return int(re.search(key + r":\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def _begin_peak():
    Path("/proc/self/clear_refs").write_text("5")


def main(shape, limit, half_samples, who):
    torch.manual_seed(0)
    network, images, settings = _network(shape)
    network.eval()
    measure(network, images[:8], **settings)  # what is loaded and set up once
    _begin_peak()
    with torch.no_grad():
        for batch in images.split(settings["batch_size"]):
            network(batch)
    base = _status("VmHWM")
    _begin_peak()
    spectra = measure(network, images, memory_limit=limit, half_samples=half_samples, **settings)
    above = _status("VmHWM") - base
    report = {
        "shape": shape,
        "limit": limit,
        "half_samples": half_samples,
        "who": who,
        "above_MiB": round(above / 2**20, 1),
        "times_the_limit": round(above / parse_bytes(limit), 3),
        "passes": spectra.n_passes,
        "methods": [spectrum.method for spectrum in spectra.values()],
        "intervals": sum(spectrum.half_samples is not None for spectrum in spectra.values()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    import eigencode as ec

    if sys.argv[4] == "command":
        ec.keep_freed_memory()
    import torch
    from torch import nn

    from eigencode._sizes import parse_bytes
    from eigencode.measurement.measuring import measure

    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
