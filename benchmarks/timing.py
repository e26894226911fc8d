"""Times of two ways of doing the same thing, taken in turns so that both see the same machine."""

import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from eigencode.provenance import hardware, versions

RESULTS = Path(__file__).parent / "results"


def clock(call):
    """Result, CPU seconds of the process and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def compare(ours, theirs, *, repeats):
    """Median CPU and wall seconds of both, and their ratios (theirs over ours), with the last results."""
    times = {"ours": [], "theirs": []}
    results = {}
    for _ in range(repeats):
        for name, call in (("ours", ours), ("theirs", theirs)):
            results[name], *taken = clock(call)
            times[name].append(taken)
    medians = {
        name: dict(zip(("cpu_seconds", "wall_seconds"), map(statistics.median, zip(*taken, strict=True)), strict=True))
        for name, taken in times.items()
    }
    ratios = {
        f"{kind}_ratio": medians["theirs"][f"{kind}_seconds"] / medians["ours"][f"{kind}_seconds"] for kind in ("cpu", "wall")
    }
    return {**medians, **ratios, "repeats": repeats}, results


def write(name, results, *, tell=True):
    """Writes one benchmark's numbers with versions and hardware, and prints them."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "benchmark": name,
        "results": results,
        "versions": versions(),
        "hardware": hardware(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    if not tell:
        return
    print(f"{name}:")
    for key, value in results.items():
        print(f"  {key}: {value}")
