"""Every call to the disk of every command goes wrong once: the command says so in a line, and the next one ends as if nothing had been."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eigencode.studies import Store

KILLED = 99
SMALL = ["--model", "gerum_shallow_mlp", "--data", "digits"]
READ = [*SMALL, "--count", "60", "--ranks", "2-10", "--half_samples", "0"]
STUDY = ["demo", "--smoke", "--set", "seeds=1 training.epochs=1 grid.member.beta=0,0.1 grid.member.target=1", "--store"]
COMMANDS = {
    "measure": ["measure", *READ, "--out", "out"],
    "attack": ["attack", *READ, "--layers", "penultimate", "--perturbation", "pca", "--strengths", "3,5", "--out", "out"],
    "train": ["train", *SMALL, "--count", "100", "--batch_size", "50", "--epochs", "2", "--seeds", "2", "--stack", "1"],
    "construct": ["construct", *SMALL, "--count", "20", "--steps", "2", "--out", "out"],
    "study run": ["study", "run", *STUDY, "new.sqlite"],
    "study merge": ["study", "merge", "store.sqlite", "--store", "new.sqlite"],
    "report": ["report", *STUDY, "store.sqlite", "--out", "out"],
    "results": ["results", *STUDY, "store.sqlite", "--group", "layer,beta", "--export", "out/r.csv"],
    "reproduce": ["reproduce", *STUDY, "new.sqlite", "--out", "out"],
}
COMMANDS["train"] += ["--spectral.ranks", "2-10", "--out", "out"]
COMMANDS["measure over earlier results"] = [*COMMANDS["measure"], "--overwrite", "true"]
COMMANDS["train over earlier results"] = [*COMMANDS["train"], "--overwrite", "true"]
FAULTS = ("enospc", "eio", "kill", "SIGTERM", "SIGINT", "SIGHUP")
STATUS = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
OTHERS = ("record.json", "report.html", "report.md", "cells.csv", "history.csv", "figures")
"""With the time of the run in them, or drawn."""


class Server:
    """Runs commands in folders, with faults."""

    def __init__(self):
        script = Path(__file__).with_name("injecting.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, str(script)], env=environment, text=True, **pipes)

    def run(self, name, folder, at=0, fault="kill"):
        words = COMMANDS[name]
        asked = {"words": words, "folder": str(folder), "at": at, "fault": fault}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server():
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(server, tmp_path_factory):
    """Name -> a folder as the command finds it."""
    root = tmp_path_factory.mktemp("prepared")
    made = {name: root / name for name in COMMANDS}
    for folder in made.values():
        (folder / "out").mkdir(parents=True)
        (folder / "out" / "notes.txt").write_text("my own")
    assert server.run("study run", made["report"])["status"] == 0
    (made["report"] / "new.sqlite").rename(made["report"] / "store.sqlite")
    shutil.rmtree(made["report"] / "new.states")
    for name in ("study merge", "results"):
        shutil.copy(made["report"] / "store.sqlite", made[name])
    for name in ("measure", "train"):
        folder = made[f"{name} over earlier results"]
        COMMANDS["earlier"] = [*COMMANDS[name], "--seed", "5"]
        assert server.run("earlier", folder)["status"] == 0
    return made


@pytest.fixture(scope="module")
def expected(server, prepared, tmp_path_factory):
    """Name -> what a run without faults leaves, and its calls."""
    found = {}

    def of(name):
        if name not in found:
            folder = tmp_path_factory.mktemp("whole") / "here"
            shutil.copytree(prepared[name], folder)
            answer = server.run(name, folder)
            assert answer["status"] == 0, answer["err"]
            found[name] = (left(folder), answer["calls"])
        return found[name]

    return of


def left(folder):
    """What a folder holds that must be the same after every run: names of all files, and contents but for times."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    files = [
        folder / name
        for name in sorted(names)
        if not name.endswith(".sqlite") and not any(part in OTHERS or part.startswith(".") for part in Path(name).parts)
    ]
    contents = {path.name: path.read_bytes() for path in files}
    return names, contents, {path.name: cells(path) for path in stores(folder)}


def stores(folder):
    """All but those of unfinished training."""
    return [*folder.glob("*.sqlite"), *folder.glob("out/*.sqlite")]


def cells(path):
    """Identity of every finished cell -> its results."""
    store = Store(path, make=False)
    assert not [error for error in store.finished().values() if error]
    columns = ["layer", "perturbation", "strength", "epoch", "quantity", "value"]
    results, spectra = store.results(), store.spectra()
    return {
        cell: (
            results[results["cell"] == cell][columns].sort_values(columns).to_csv(),
            len(spectra[spectra["cell"] == cell]),
        )
        for cell in store.finished()
    }


def listing(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (folder, *folder.rglob("*"))}


def check_readable(folder, before, whole):
    """What there is, is old or new; reading it changes nothing."""
    listed, out = listing(folder), folder / "out"
    for path in stores(folder):
        old = before / path.relative_to(folder)
        known = (cells(old) if old.exists() else {}) | whole[2][path.name]
        for cell, found in cells(path).items():
            assert found == known[cell]
    assert listing(folder) == listed
    assert (out / "notes.txt").read_text() == "my own"
    if (out / "record.json").exists():
        assert left_in(out) in (left_in(before / "out"), {name for name in whole[0] if name.startswith("out/")})
        table = next(out / name for name in ("summary.csv", "images.safetensors", "results.parquet") if (out / name).exists())
        old = before / "out" / table.name
        assert table.read_bytes() in (whole[1][table.name], old.read_bytes() if old.exists() else None)
    if (out / "r.csv").exists():
        assert (out / "r.csv").read_bytes() == whole[1]["r.csv"]


def left_in(out):
    """Names of results and of the user's files."""
    found = {str(path.relative_to(out.parent)) for path in out.rglob("*") if path.is_file()}
    return {name for name in found if not any(part.startswith(".") or part == "states" for part in Path(name).parts)}


def check_told(fault, answer, folder, before, whole):
    """One line, and a true one."""
    err, status = answer["err"], answer["status"]
    last = err.splitlines()[-1] if err else ""
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    if fault == "kill":
        assert status == KILLED, err
    elif status == 0:  # a state of training that could not be removed is, by the next run
        _, contents, stored = left(folder)
        kept = {path.name for states in folder.glob("*.states") for path in states.rglob("*")}
        assert ({name: found for name, found in contents.items() if name not in kept}, stored) == whole[1:]
    elif fault in STATUS:
        assert status == STATUS[fault], err
        assert last.startswith("eigencode: interrupted; ")
        out = folder / "out"
        is_new = (out / "record.json").exists() and not (before / "out" / "record.json").exists()
        if "nothing was written" in last:
            assert not is_new
            assert not list(out.rglob("states/**/*.safetensors"))
            assert not (out / "r.csv").exists()
        if "all results are in" in last:
            assert left(folder)[1] == whole[1]
        if "the last state is kept in" in last:
            assert list((out / "states").rglob("*.safetensors"))
    else:
        assert status == 1, err
        assert last.startswith("eigencode: ")


def check(server, prepared, expected, folder, name, at, fault):
    whole, _ = expected(name)
    shutil.copytree(prepared[name], folder)
    answer = server.run(name, folder, at, fault)
    check_told(fault, answer, folder, prepared[name], whole)
    check_readable(folder, prepared[name], whole)
    again = server.run(name, folder)
    if again["status"]:  # it had come to its end, but for the lock: a second run is another matter
        assert answer["status"] in (0, KILLED) or "all results are in" in answer["err"], again["err"]
        assert "already holds results. Name another folder" in again["err"], again["err"]
    assert left(folder) == whole
    shutil.rmtree(folder)


LONG = ("train", "train over earlier results", "study run", "reproduce")
SHORT = [name for name in COMMANDS if name not in LONG]
SOME = [(name, ("kill", "SIGTERM")[place % 2]) for place, name in enumerate(LONG)]
SOME += [(name, fault) for place, name in enumerate(SHORT) for fault in (("kill", "enospc"), ("SIGTERM", "eio"))[place % 2]]


@pytest.mark.parametrize(("name", "fault"), SOME)
def test_a_call_goes_wrong(server, prepared, expected, tmp_path, name, fault):
    calls = expected(name)[1]
    at = random.Random(f"{name} {fault}").randint(1, len(calls))
    check(server, prepared, expected, tmp_path / "here", name, at, fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_call_goes_wrong(server, prepared, expected, tmp_path, name, fault):
    failed = []
    calls = expected(name)[1]
    for at, call in enumerate(calls, 1):
        try:
            check(server, prepared, expected, tmp_path / f"{at}", name, at, fault)
        except AssertionError as error:
            failed.append(f"{at} of {len(calls)}, {call}: {' '.join(str(error).split())[:500]}")
    assert not failed, "\n".join(failed)
