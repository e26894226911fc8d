"""(d) Time to import, to answer --help, and to import torch alone, each the best of five fresh processes."""

import subprocess
import sys
import time

from benchmarks.timing import write


def best(*command):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    python = sys.executable
    results = {
        "help_seconds": best(python, "-m", "eigencode", "--help"),
        "measure_help_seconds": best(python, "-m", "eigencode", "measure", "--help"),
        "import_seconds": best(python, "-c", "import eigencode"),
        "import_measure_seconds": best(python, "-c", "import eigencode; eigencode.measure"),
        "import_torch_seconds": best(python, "-c", "import torch"),
        "bar_help_seconds": 1.0,
    }
    write("start_up", results)
