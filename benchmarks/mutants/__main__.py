"""Changes one place at a time in three rooms and runs their tests: ``make mutants``, about two hours on two cores.

Outcomes are kept in build/mutants.jsonl, so that a run that was ended goes on; ``--again`` runs what survived once more.
"""

import argparse
import json
import os
import shutil
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

from benchmarks.mutants import runner
from benchmarks.mutants.sample import mutants

ROOT = Path(__file__).parents[2]
LOG = ROOT / "build" / "mutants.jsonl"
ROOMS = ("spectra", "penalties", "attacks")
COUNT = 400


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", default=ROOMS)
    parser.add_argument("--again", action="store_true", help="run those that survived once more")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    LOG.parent.mkdir(exist_ok=True)
    samples = {}
    for room in options.rooms:
        samples[room] = mutants(ROOT, room, count=COUNT)
        outcomes = kept()
        done = {name for name, outcome in outcomes.items() if not (options.again and outcome == "survived")}
        waiting = [mutant for mutant in samples[room][0] if mutant.name not in done]
        if waiting:
            budget = runner.SECOND_BUDGET if options.again else runner.BUDGET
            run(room, waiting, workers=options.workers, budget=budget)
    if set(samples) == set(ROOMS):
        from benchmarks.mutants.report import write  # imports eigencode, which no process that forks may have done

        write(samples, kept(), version=metadata.version("mutmut"))


def kept():
    """Last outcome of every mutant that was run."""
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    return dict(json.loads(line) for line in lines)


def run(room, waiting, *, workers, budget):
    """Runs the tests against each mutant, and writes down what became of it."""
    folder = ROOT / "build" / f"mutants-{os.getpid()}"
    trees = [runner.copy_tree(ROOT, folder / "0")]
    base = runner.baseline(trees[0], room)
    trees += [shutil.copytree(trees[0], folder / str(number)) for number in range(1, workers)]
    runner.warm(base.modules)
    print(
        f"{room}: {len(waiting)} mutants, {len(base.cases)} tests of {sum(c.seconds for c in base.cases.values()):.0f} s",
        flush=True,
    )
    running, counts = {}, Counter()
    with LOG.open("a") as log:
        while waiting or running:
            while waiting and trees:
                mutant = waiting.pop(0)
                running[mutant] = start(mutant, trees.pop(), base, budget)
            time.sleep(0.05)
            for mutant, started in list(running.items()):
                outcome = runner.finished(started) if started["pid"] else "survived"
                if outcome:
                    del running[mutant]
                    shutil.copy2(ROOT / mutant.file, started["tree"] / mutant.file)
                    trees.append(started["tree"])
                    print(json.dumps([mutant.name, outcome]), file=log, flush=True)
                    counts[outcome.split(" by ")[0]] += 1
                    print(f"{time.strftime('%X')} {room} {dict(counts)} {mutant.file}:{mutant.line} {outcome}", flush=True)
    shutil.rmtree(folder)


def start(mutant, tree, base, budget):
    """Starts the tests of one mutant; none where no test runs the line."""
    names, seconds = runner.tests_for(mutant, base, (ROOT / mutant.file).read_text(), budget=budget)
    if not names:
        return {"pid": None, "tree": tree}
    changed = tree / mutant.file
    changed.write_text(mutant.code)
    os.utime(changed, (time.time() + 10, time.time() + 10))  # never the second at which the compiled file was made
    return runner.fork(tree, names, seconds=seconds)


if __name__ == "__main__":
    main()
