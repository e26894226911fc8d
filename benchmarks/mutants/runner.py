"""Tests of one room in forked processes that have torch already, in copies of the tree of which one file is changed."""

import ast
import os
import pickle
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path

import coverage
import hypothesis
import pytest

BUDGET, SECOND_BUDGET = 12, 60
"""Seconds of tests for each mutant, and for one that survived, as they take without a mutant."""

_PROCESSES = 60
"""Seconds of a test that starts processes."""

_MEMORY = 12 * 2**30
_PARTS = ("src", "tests", "examples", "docs", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Case:
    """One test: how long it takes, and whether it starts processes, whose lines nobody sees."""

    name: str
    seconds: float
    processes: bool


@dataclass(frozen=True)
class Baseline:
    """What the tests of a room do without any change: which lines each of them runs, and the modules that it needed."""

    cases: dict[str, Case]
    lines: dict[str, dict[int, list[str]]]
    modules: list[str]


class Watch:
    """Pytest plugin: the tests named, in their order, or all; the first that fails; and, with ``traced``, what each runs."""

    def __init__(self, names=None, traced=None):
        self.names, self.traced, self.failed = names, traced, None
        self.seconds, self.processes = {}, set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        if self.names is not None:
            rank = {name: place for place, name in enumerate(self.names)}
            items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])
            return
        for item in items:
            code = getattr(getattr(item, "function", None), "__code__", None)
            if code and "torchrun" in code.co_names:
                self.processes.add(item.nodeid)
        items[:] = [item for item in items if item.nodeid not in self.processes]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        if self.traced:
            self.traced.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed = self.failed or report.nodeid


def copy_tree(root, folder):
    """A copy of what the tests read, with compiled files that say by their time that they belong to it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in _PARTS:
        (shutil.copytree if (root / part).is_dir() else shutil.copy2)(root / part, folder / part)
    return folder


def baseline(tree, room):
    """Runs all tests of a room once, but for those that start processes; they must pass."""
    started = fork(tree, [f"tests/{room}", f"src/eigencode/{room}"], traced=True)
    while not finished(started):
        time.sleep(0.2)
    found = pickle.loads((tree / "watched").read_bytes())
    if found["failed"] or found["status"]:
        raise SystemExit(f"{room}: the tests must pass without a change; {found['failed']} fails. See {tree / 'log'}.")
    cases = {name: Case(name, seconds, False) for name, seconds in found["seconds"].items()}
    cases |= {name: Case(name, _PROCESSES, True) for name in found["processes"]}
    return Baseline(cases, found["lines"], found["modules"])


def warm(modules):
    """Imports what the tests needed, but for eigencode and the tests."""
    for name in modules:
        with suppress(Exception):
            import_module(name)


def tests_for(mutant, base, text, *, budget):
    """Names of the tests that run the changed statement, those of its own file first, the quick ones before the slow.

    Code outside functions is run by all. Tests that start processes are for what no other runs, in files that need such.
    """
    lines = _statement(ast.parse(text), mutant.line)
    ran = (
        {name for line in lines for name in base.lines.get(mutant.file, {}).get(line, ())}
        if lines
        else {case.name for case in base.cases.values() if not case.processes}
    )
    stem = Path(mutant.file).stem
    own = {name for name in base.cases if name.split("::")[0] == mutant.file or f"/test_{stem}.py" in name}
    chosen = sorted(
        (base.cases[name] for name in ran if name in base.cases), key=lambda case: (case.name not in own, case.seconds)
    )
    ends = accumulate(case.seconds for case in chosen)
    chosen = [case for case, end in zip(chosen, ends, strict=True) if end <= budget or case is chosen[0]]
    if not chosen and "_processes" in text:
        chosen = [case for case in base.cases.values() if case.processes]
    return [case.name for case in chosen], 60 + 5 * sum(case.seconds for case in chosen)


def _statement(tree, line):
    """Lines of the smallest statement around a line, without those of the statements in it; none outside of functions."""
    inside, smallest = False, None
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            function = isinstance(node, ast.FunctionDef)
            inside = inside or (function and line >= body[0].lineno)
            if smallest is None or node.lineno >= smallest[0]:
                smallest = (node.lineno, body[0].lineno - 1 if body and line < body[0].lineno else node.end_lineno)
    return range(smallest[0], smallest[1] + 1) if inside and smallest else None


def fork(tree, names, *, traced=False, seconds=3600):
    """Starts pytest on files (traced) or on single tests, in a process of its own; what it found goes to ``watched``."""
    for leftover in ("watched", "log"):
        (tree / leftover).unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            _child(tree, names, traced)
        finally:
            os._exit(70)
    return {"pid": pid, "tree": tree, "end": time.monotonic() + seconds}


def _child(tree, names, traced):
    os.setsid()
    os.chdir(tree)
    log = os.open("log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1), os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    sys.dont_write_bytecode = not traced
    sys.path.insert(0, str(tree / "src"))
    os.environ.update(PYTHONPATH=str(tree / "src"), PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(tree))
    quiet = hypothesis.settings(
        derandomize=True, database=None, deadline=None, phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate)
    )
    hypothesis.settings.register_profile("mutants", quiet)
    tracer = coverage.Coverage(data_file=None, source=[str(tree / "src/eigencode")], config_file=False) if traced else None
    watch = Watch(None if traced else names, tracer)
    files = names if traced else list(dict.fromkeys(name.split("::")[0] for name in names))
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        "--hypothesis-profile=mutants",
        f"--basetemp={tree / 'tmp'}",
    ]
    before = set(sys.modules)
    if tracer:
        tracer.start()
    status = pytest.main([*options, "-W", "ignore::pytest.PytestAssertRewriteWarning", *files], plugins=[watch])
    found = {"status": int(status), "failed": watch.failed, "seconds": watch.seconds, "processes": watch.processes}
    if tracer:
        tracer.stop()
        data = tracer.get_data()
        found["lines"] = {str(Path(file).relative_to(tree)): data.contexts_by_lineno(file) for file in data.measured_files()}
        own = ("eigencode", "conftest", "tests", *(path.stem for path in (tree / "tests").rglob("*.py")))
        found["modules"] = sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in own)
    Path("watched").write_bytes(pickle.dumps(found))
    os._exit(0)


def finished(started):
    """What became of a process: None while it runs, then "killed TEST", "survived" or "timed out"."""
    pid, tree = started["pid"], started["tree"]
    late = time.monotonic() > started["end"]
    if not late and os.waitpid(pid, os.WNOHANG)[0] == 0:
        return None
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if late:
        os.waitpid(pid, 0)
        return "timed out"
    if not (tree / "watched").exists():
        return "killed by the end of its process"
    found = pickle.loads((tree / "watched").read_bytes())
    return f"killed by {found['failed'] or 'the import'}" if found["failed"] or found["status"] not in (0, 5) else "survived"
