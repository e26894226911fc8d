"""Peak memory of measuring, above that of a bare forward pass, against the limit. Bar: 1.3 times the limit.

Each run has a process of its own: "python" as it is, "command" one that keeps the memory it frees, as commands do.
"""

import sys
from pathlib import Path

from benchmarks.timing import write

sys.path.append(str(Path(__file__).parents[1] / "tests"))

LIMITS = ("20MiB", "50MiB", "100MiB", "500MiB", "900MiB", "4GiB")
SETTINGS = ((20, "python"), (20, "command"), (0, "python"))


def main():
    from peak_memory import SHAPES, peak

    runs = [peak(shape, limit, *setting) for shape in SHAPES for limit in LIMITS for setting in SETTINGS]
    results = {"shapes": SHAPES, "bar": 1.3, "largest": max(run["times_the_limit"] for run in runs), "runs": runs}
    write("memory", results)
