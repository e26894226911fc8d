"""Where groups of cells run, beside what else, and what a kill at any moment leaves."""

import contextlib
import errno
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock

from eigencode.errors import StudyError
from eigencode.studies import (
    Local,
    RayEngine,
    Store,
    overridden,
    run_study,
    to_yaml,
)
from eigencode.studies.execution import engines
from eigencode.studies.execution.engines import TaskResult
from eigencode.studies.execution.group import Task, failed_group, run_group, states_of
from eigencode.studies.execution.sharing import UnclaimedTasks, remove_stale_locks, tidy
from small_study import STUDY, table


@pytest.mark.parametrize(
    ("share", "told"),
    [
        ({"cpus": 0}, r"--cpus must be above 0, .*; got 0\."),
        ({"cpus": float("nan")}, r"RayEngine: `cpus` must be a finite number; got nan\."),
        ({"gpus": 1.5}, r"--gpus must be 0, a fraction of a GPU or a whole number of them; got 1\.5\."),
        ({"gpus": -1}, r"--gpus must be 0, .*; got -1\."),
        ({"retries": -1}, r"--retries must be at least 0; got -1\."),
    ],
)
def test_a_share_of_a_machine_that_cannot_be_had(share, told):
    pytest.importorskip("ray")
    with pytest.raises(StudyError, match=told):
        RayEngine(**share)


def test_an_engine_needs_nothing_but_run(tmp_path):
    class Nothing:
        def run(self, tasks, report=None):
            for task in tasks:
                yield TaskResult(task, [], "not today")

    summary = run_study(STUDY, Store(tmp_path / "store.sqlite"), Nothing())
    assert summary.unstarted == {"not today": 4}


@pytest.mark.slow
def test_ray_gives_the_same(tmp_path):
    pytest.importorskip("ray")
    store = Store(tmp_path / "store.sqlite")
    summary = run_study(STUDY, store, RayEngine(), stack=2)
    assert (summary.finished, summary.failed) == (4, {})
    other = Store(tmp_path / "local.sqlite")
    run_study(STUDY, other, Local(), stack=2)
    pd.testing.assert_series_equal(table(store), table(other), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("share", [{"cpus": 4096}, {"gpus": 64}])
def test_more_than_any_machine_has(share):
    pytest.importorskip("ray")
    with pytest.raises(StudyError, match=r"--engine ray: no machine has .*\. Ask for less with --cpus and --gpus\."):
        list(RayEngine(**share).run([Task(tuple(STUDY.cells()))]))


def test_on_a_full_disk_nothing_has_failed(tmp_path, monkeypatch):
    store = Store(tmp_path / "store.sqlite")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        summary = run_study(STUDY, store, Local(), states=tmp_path / "states")
    assert (summary.finished, summary.failed) == (0, {})
    (reason,) = summary.unstarted
    assert reason.endswith("(No space left on device). Make room and start again.")
    summary = run_study(STUDY, store, Local(), states=tmp_path / "states")
    assert (summary.finished, summary.unstarted) == (4, {})


def test_a_stack_that_needs_too_much_memory_is_halved(tmp_path, monkeypatch):
    tried = []

    def limited(task, report):
        tried.append(len(task.plans))
        if len(task.plans) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run_group(task, report)

    monkeypatch.setattr(engines, "run_group", limited)
    store = Store(tmp_path / "store.sqlite")
    summary = run_study(STUDY, store, Local(), stack=4, states=tmp_path / "states")
    assert (summary.finished, summary.failed, tried) == (4, {}, [4, 2, 1, 1, 2, 1, 1])
    monkeypatch.setattr(engines, "run_group", run_group)
    alone = Store(tmp_path / "alone.sqlite")
    run_study(STUDY, alone, Local(), stack=1)
    pd.testing.assert_series_equal(table(store), table(alone), rtol=0, atol=0)
    assert not list((tmp_path / "states").glob("*.lock"))


def test_halves_of_a_stack_go_on_after_a_kill(tmp_path, monkeypatch):
    stages, killing = [], [True]

    def limited(task, _report):
        if len(task.plans) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        own = [task.plans[0].identity]
        stages.append(own)
        records = run_group(task, lambda stage, *_: own.append(stage))
        if killing and task.plans[-1] == STUDY.cells()[-1]:
            raise KeyboardInterrupt
        return records

    monkeypatch.setattr(engines, "run_group", limited)
    store, states = Store(tmp_path / "store.sqlite"), tmp_path / "states"
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, store, Local(), stack=4, states=states)
    assert (store.finished(), ["training" in own for own in stages]) == ({}, [True, True])
    stages.clear()
    killing.clear()
    assert run_study(STUDY, store, Local(), stack=4, states=states).finished == 4
    assert ["training" in own for own in stages] == [False, False]
    assert list(states.iterdir()) == []


def test_what_a_kill_between_storing_and_tidying_leaves_is_removed(tmp_path, monkeypatch):
    store, states, stages = Store(tmp_path / "store.sqlite"), tmp_path / "states", []

    def again(**options):
        stages.clear()
        run_study(STUDY, store, Local(), stack=4, states=states, report=lambda stage, *_: stages.append(stage), **options)
        return "training" in stages

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    for retrained in (False, True):
        with monkeypatch.context() as patched:
            patched.setattr(UnclaimedTasks, "release", killed)
            with pytest.raises(KeyboardInterrupt):
                again(again=True)
        (folder,) = states.glob("*[!k]")
        assert folder.is_dir()
        assert again(again=retrained) == retrained  # what is left is of the results that are there
        assert list(states.iterdir()) == []
    folder.mkdir()  # emptied, and then killed
    folder.with_suffix(".lock").touch()
    assert not again()
    assert list(states.iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.read", lambda *_: 1 / 0)
        assert again(again=True)
    assert not again()
    assert not again(again=True)  # goes on from the training of the try that came to an end


def test_code_that_is_edited_while_it_is_trained(tmp_path, monkeypatch):
    code = tmp_path / "mine.py"
    code.write_text("from eigencode import models\ndef make(): return models.load('gerum_cnn', image_shape=(1, 8, 8))\n")
    study = overridden(STUDY, f"network.model=file:{code}:make")

    def edited(task, report):
        code.write_text(code.read_text() + "# changed\n")
        return run_group(task, report)

    monkeypatch.setattr(engines, "run_group", edited)
    summary = run_study(study, Store(tmp_path / "store.sqlite"), Local(), stack=2, states=tmp_path / "states")
    assert (summary.finished, list((tmp_path / "states").iterdir())) == (4, [])


def test_another_try_that_comes_to_an_end_loses_no_result(tmp_path, monkeypatch):
    store = Store(tmp_path / "store.sqlite")
    run_study(STUDY, store, Local())
    before = table(store)

    def ended(_task, _report):
        raise MemoryError("none left")

    monkeypatch.setattr(engines, "run_group", ended)
    summary = run_study(STUDY, store, Local(), again=True)
    assert (summary.finished, summary.new, summary.failed) == (4, 0, {})
    assert (summary.unstarted, summary.kept) == ({}, {"MemoryError: none left": 4})
    pd.testing.assert_series_equal(table(store), before, rtol=0, atol=0)
    other = Store(tmp_path / "other.sqlite")
    for retry in (False, True):  # where there was none, it has failed
        summary = run_study(STUDY, other, Local(), retry=retry)
        assert (summary.kept, set(summary.failed.values())) == ({}, {"MemoryError: none left"})


def test_training_that_another_process_kept_is_left_for_a_retry(tmp_path):
    store, plans = Store(tmp_path / "store.sqlite"), STUDY.cells()
    before = store.stamps()
    folder = states_of(plans, tmp_path / "states")
    folder.mkdir(parents=True)
    store.save(failed_group(plans, "out of memory"))
    assert list(UnclaimedTasks([Task(tuple(plans), states=tmp_path / "states")], store, before)) == []
    assert folder.is_dir()


def test_a_worker_elsewhere_keeps_its_training_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (task,) = UnclaimedTasks([Task(tuple(STUDY.cells()[:1]), states=Path("states"))], Store("store.sqlite"), {})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    done = engines._run_in_worker(task, tmp_path / "not_there")
    assert (done.task, [record.error for record in done.records]) == (task, [None])
    assert list((elsewhere / "states").rglob("*.safetensors"))


def test_a_leftover_beside_a_cell_that_failed(tmp_path):
    store, states, plans = Store(tmp_path / "store.sqlite"), tmp_path / "states", STUDY.cells()
    folder = states_of(plans, states)
    folder.mkdir(parents=True)
    (folder / "group.safetensors").write_text("")
    store.save(failed_group(plans, "diverged"))
    tidy(plans, states, store)
    assert folder.exists()  # for a retry
    run_study(overridden(STUDY, "seeds=1"), store, Local(), again=True)
    tidy(plans, states, store)
    assert list(states.iterdir()) == []


def test_what_another_process_finishes_is_no_failure(tmp_path):
    store = Store(tmp_path / "store.sqlite")

    class Elsewhere:
        def run(self, tasks, report=None):
            for task in tasks:
                run_study(STUDY, Store(tmp_path / "store.sqlite"), Local())
                yield TaskResult(task, [], "no such data here")

    summary = run_study(STUDY, store, Elsewhere())
    assert (summary.finished, summary.unstarted) == (4, {})


def test_a_ray_cluster_that_is_not_there():
    pytest.importorskip("ray")
    with pytest.raises(StudyError, match=r"--address 127\.0\.0\.1:1: no Ray cluster can be reached there"):
        list(RayEngine("127.0.0.1:1").run([Task(tuple(STUDY.cells()))]))


LONG = overridden(STUDY, "training.epochs=12 seeds=3 reading.perturbations=[]")


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        pytest.param("local", 20, marks=pytest.mark.slow),
        pytest.param("ray", 20, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_the_table_is_the_same(engine, kills, tmp_path):
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'eigencode[cluster]'")
    (tmp_path / "mine.yaml").write_text(to_yaml(LONG))
    words = [
        sys.executable,
        "-m",
        "eigencode",
        "study",
        "run",
        str(tmp_path / "mine.yaml"),
        "--stack",
        "2",
        "--engine",
        engine,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def start(store):
        return subprocess.Popen(
            [*words, "--store", str(tmp_path / store)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    whole = start("whole.sqlite")
    started = time.monotonic()
    assert whole.wait(timeout=300) == 0, whole.stderr.read()
    length = time.monotonic() - started
    whole.communicate()
    draw, killed = random.Random(engine), 0
    while killed < kills:
        process = start("killed.sqlite")
        try:
            process.wait(timeout=draw.uniform(0.1, 0.9) * length)
            (tmp_path / "killed.sqlite").unlink()  # it came to its end: from the start again, to be killed some more
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    process = start("killed.sqlite")
    assert process.wait(timeout=300) == 0, process.stderr.read()
    process.communicate()
    first, second = (table(Store(tmp_path / name), LONG) for name in ("whole.sqlite", "killed.sqlite"))
    assert len(first) > 100
    pd.testing.assert_series_equal(first, second, rtol=0, atol=0)
    assert not list((tmp_path / "killed.states").iterdir())


def workers_of(process):
    """Ray's processes at work for a driver."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue

    def is_of_it(pid):
        while pid in parents:
            pid = parents[pid]
            if pid == process.pid:
                return True
        return False

    return [pid for pid, name in names.items() if name.startswith(b"ray::_run_in_worker") and is_of_it(pid)]


@pytest.mark.slow
def test_when_workers_are_killed_the_table_is_the_same(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "mine.yaml").write_text(to_yaml(LONG))
    words = [sys.executable, "-m", "eigencode", "study", "run", str(tmp_path / "mine.yaml"), "--stack", "2", "--engine", "ray"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = {"whole.sqlite": 0, "killed.sqlite": 5}
    for name, wanted in kills.items():
        process = subprocess.Popen(
            [*words, "--store", str(tmp_path / name), "--retries", "20"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        draw, killed, last = random.Random(0), 0, None
        while process.poll() is None:
            time.sleep(0.2)
            own = [pid for pid in workers_of(process) if pid != last] if killed < wanted else []
            if own:
                time.sleep(draw.uniform(0.2, 1.5))
                last = draw.choice(own)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(last, signal.SIGKILL)
                    killed += 1
        _, told = process.communicate()
        assert process.returncode == 0, told
        assert killed == wanted
    first, second = (table(Store(tmp_path / name), LONG) for name in kills)
    pd.testing.assert_series_equal(first, second, rtol=0, atol=0)


def test_two_processes_share_the_groups_of_a_study(tmp_path):
    (tmp_path / "mine.yaml").write_text(to_yaml(overridden(LONG, "training.epochs=4")))
    words = [sys.executable, "-m", "eigencode", "study", "run", str(tmp_path / "mine.yaml"), "--stack", "1", "--json"]
    words += ["--store", str(tmp_path / "store.sqlite")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    summaries = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [summary["finished"] for summary in summaries] == [6, 6]
    assert sum(summary["new"] for summary in summaries) == 6
    assert min(summary["new"] for summary in summaries) > 0
    assert not list((tmp_path / "store.states").iterdir())


def test_what_others_finished_meanwhile_is_left_out_and_what_they_work_on_is_left_alone(tmp_path):
    store, plans = Store(tmp_path / "store.sqlite"), STUDY.cells()
    tasks = [Task(tuple(plans[:3]), states=tmp_path / "states"), Task(tuple(plans[3:]), states=tmp_path / "states")]
    folder = states_of(plans[3:], tmp_path / "states")
    folder.parent.mkdir()
    before = store.stamps()
    store.save(failed_group(plans[1:2], "of another process"))
    with FileLock(folder.with_suffix(".lock")):
        free = UnclaimedTasks(tasks, store, before)
        (taken,) = free
        assert taken.plans == (plans[0], plans[2])
        assert (free.taken, free.busy) == (1, tasks[1:])
        (none,) = [list(UnclaimedTasks(tasks[:1], store, before))]  # one that is taken is taken
        assert none == []
        free.release(taken)
    with FileLock(states_of([plans[0], plans[2]], tmp_path / "states").with_suffix(".lock")):
        part = UnclaimedTasks(tasks[:1], store, before)  # another process's group is what would be left of this one
        assert (list(part), part.busy) == ([], tasks[:1])
    (taken,) = UnclaimedTasks(tasks[1:], store, before)
    assert taken == replace(tasks[1], folder=folder)
    store.save(failed_group(plans, "again"), again=True)
    assert list(UnclaimedTasks(tasks[:1], store, before)) == []


def test_locks_of_killed_processes_are_removed_and_others_left(tmp_path):
    states = tmp_path / "states"
    states.mkdir()
    for name in ("stale", "held", "unfinished"):
        (states / f"{name}.lock").touch()
    (states / "unfinished").mkdir()
    with FileLock(states / "held.lock"):
        remove_stale_locks(states)
        assert {path.name for path in states.iterdir()} == {"held.lock", "unfinished.lock", "unfinished"}
