"""What became of the mutants, for people (mutants.md) and for programs (mutants.json)."""

import json
from collections import Counter

from benchmarks.mutants.runner import BUDGET, SECOND_BUDGET
from benchmarks.mutants.sample import LEFT_OUT, SEED
from benchmarks.timing import RESULTS
from benchmarks.timing import write as write_results

_INTRODUCTION = """# Mutants

Do the tests notice when a line is changed? A sample of {count} mutants of each of three folders of `src/eigencode`
(spectra, penalties, attacks), made by the operators of mutmut {version} and drawn by digest with seed {seed}, against the
tests of that folder, those of the file first. Score: killed / all; a mutant whose tests run out of time counts as killed,
an equivalent one as survived. `make mutants` runs them again. A folder with fewer mutants was not
run to its end; they come in the order of their digests, and so are a sample, too.

Left out of the sample: {left_out}.
Left out of the tests: the slow ones, those beyond the first {budget} seconds for one mutant
({second} for those that survived and are run again), and those that start
processes, but for lines that no other test runs: a mutant that survives may well be killed by `make slow`.

"""


def write(samples, outcomes, *, version):
    """Both files: scores, and every mutant that survives or once survived, with what is known of it.

    The notes on equivalent mutants, and the scores of the first run, are carried over from the file that is there.
    """
    file = RESULTS / "mutants.json"
    earlier = json.loads(file.read_text())["results"] if file.exists() else {"rooms": {}, "survivors": []}
    known = {entry["name"]: entry for entry in earlier["survivors"]}
    rooms, survivors = {}, []
    for room, (sample, possible) in samples.items():
        rooms[room] = _scores([outcomes[mutant.name] for mutant in sample], possible)
        rooms[room]["first_score"] = earlier["rooms"].get(room, {}).get("first_score", rooms[room]["score"])
        for mutant in sorted(sample, key=lambda mutant: (mutant.file, mutant.line)):
            if outcomes[mutant.name] == "survived" or mutant.name in known:
                survivors.append(_entry(mutant, outcomes[mutant.name], known.get(mutant.name, {})))
    names = {entry["name"] for entry in survivors}
    survivors += [{**entry, "fate": "gone: the code is no more"} for name, entry in known.items() if name not in names]
    write_results("mutants", {"seed": SEED, "left_out": LEFT_OUT, "rooms": rooms, "survivors": survivors})
    (RESULTS / "mutants.md").write_text(_page(json.loads(file.read_text()), version))


def _scores(outcomes, possible):
    """Numbers of one room."""
    counts = Counter(outcome.split(" by ")[0] for outcome in outcomes)
    killed = len(outcomes) - counts["survived"]
    numbers = {"possible": possible, "mutants": len(outcomes), "killed": killed, "survived": counts["survived"]}
    return {**numbers, "timed_out": counts["timed out"], "score": round(killed / len(outcomes), 4)}


def _entry(mutant, outcome, known):
    """One survivor: the place, the change, and its fate (a note that it is equivalent stays)."""
    fate = known.get("fate", "") if outcome == "survived" else f"killed now {outcome.removeprefix('killed ')}"
    place = {"name": mutant.name, "file": mutant.file.removeprefix("src/eigencode/"), "line": mutant.line}
    return {
        **place,
        "before": mutant.before,
        "after": mutant.after,
        "fate": fate if fate.startswith(("equivalent", "killed now", "test")) else "",
    }


def _page(record, version):
    """The results as a page."""
    found, hardware = record["results"], record["hardware"]
    count = max(room["mutants"] for room in found["rooms"].values())
    text = _INTRODUCTION.format(count=count, version=version, seed=SEED, left_out=LEFT_OUT, budget=BUDGET, second=SECOND_BUDGET)
    text += f"Run on {hardware['processor']}, {hardware['cores']} cores, Python {record['versions']['python']}, "
    text += f"torch {record['versions']['torch']}.\n\n"
    text += "| folder | possible | mutants | killed | survived | timed out | equivalent | score | score at first |\n"
    text += "|---|---|---|---|---|---|---|---|---|\n"
    for room, numbers in found["rooms"].items():
        equal = sum(entry["fate"].startswith("equivalent") and entry["file"].startswith(room) for entry in found["survivors"])
        shown = [numbers[key] for key in ("possible", "mutants", "killed", "survived", "timed_out")]
        shown += [equal, f"{numbers['score']:.1%}", f"{numbers['first_score']:.1%}"]
        text += f"| {room} | {' | '.join(map(str, shown))} |\n"
    text += "\n## Survivors\n\nThose of the first run and of the last.\n\n| place | before | after | fate |\n|---|---|---|---|\n"
    for entry in found["survivors"]:
        before, after = (f"`{entry[side].replace('|', chr(92) + '|')}`" if entry[side] else "" for side in ("before", "after"))
        fate = entry["fate"].replace("|", chr(92) + "|") or "survives"
        text += f"| {entry['file']}:{entry['line']} | {before} | {after} | {fate} |\n"
    return text
