"""What a command runs, where, and what it says at the end, also of an end that comes too soon."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from command_line import run
from eigencode.commands.choosing import chosen_study
from eigencode.commands.options import StudyConfig
from eigencode.commands.study_runs import device_of, engine_of, run_chosen
from eigencode.errors import UsageError
from eigencode.studies import Store, load, to_yaml


def test_another_try_that_fails_is_an_error(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["study", "run", "demo", "--smoke", "--store", "mine.sqlite"]
    assert run(capsys, *words)[0] == 0

    def ended(*_arguments, **_options):
        raise MemoryError("none left")

    monkeypatch.setattr("eigencode.studies.execution.engines.run_group", ended)
    assert run(capsys, *words)[0] == 0
    status, _, err = run(capsys, *words, "--again")
    assert status == 1
    assert "6 of 6 cells are finished (0 of them now" in err
    assert "6 failed this time and keep their earlier result: MemoryError: none left\n" in err
    assert err.endswith("eigencode: 6 of 6 cells were not run again, for the reasons above.\n")


@pytest.mark.parametrize(
    ("told", "device"),
    [
        ({}, "cpu"),
        ({"gpus": 0.5}, None),
        ({"gpus": 0.5, "device": "cuda:1"}, "cuda:1"),
        ({"engine": "local", "device": "cpu"}, "cpu"),
    ],
)
def test_workers_of_a_cluster_compute_where_they_were_given_a_share(told, device):
    assert device_of(StudyConfig(**{"engine": "ray", **told})) == device


def test_what_is_set_is_so_in_the_smallest_size():
    changes = "training.epochs=3 seeds=3 grid.member.target=1,2,3 reading.perturbations.pgd.steps=20 images.test_count=99"
    config = StudyConfig(name="demo", smoke=True, set=changes)
    study = chosen_study(config)
    assert study.scale == "smoke"
    for plan in study.cells():
        assert (plan.training.epochs, plan.images.test_count, plan.images.train_count) == (3, 99, 400)
        assert [told.n_steps for told in plan.reading.perturbations if told.kind == "pgd"] == [20]
    assert {(plan.member.seed, plan.member.target) for plan in study.cells()} >= {(2, 2.0), (0, 3.0)}
    assert chosen_study(replace(config, set="images.data=nowhere")).cells()[0].images.data == "nowhere"


def test_an_interrupted_try_says_that_all_is_run_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr("eigencode.studies.execution.engines.run_group", _interrupted)
    store = Store(tmp_path / "store.sqlite")
    for again, told in ((False, "give the command again to go on"), (True, "--again runs all of them once more")):
        config = StudyConfig(name="demo", smoke=True, again=again, store=store.address)
        with pytest.raises(KeyboardInterrupt, match=f"0 of 6 cells are done and kept in .*: {told}"):
            run_chosen(config, chosen_study(config), store, engine_of(config))


def _interrupted(*_arguments, **_options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("share", [{"gpus": 0.5}, {"cpus": 2.0}])
def test_a_share_of_a_cluster_is_for_ray(share):
    with pytest.raises(UsageError, match="--cpus and --gpus apply only to --engine ray"):
        engine_of(StudyConfig(**share))


def test_interrupt_says_what_is_kept(tmp_path):
    study = load("jiang2020.fig4", "quick")
    (tmp_path / "mine.yaml").write_text(to_yaml(study))
    words = ["study", "run", "mine.yaml", "--set", "images.data=digits images.test_count=200 training.epochs=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "eigencode", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if list(tmp_path.rglob("group.safetensors")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    expected = "eigencode: interrupted; 0 of 8 cells are done and kept in studies/store.sqlite: give the command again to go on."
    assert err.splitlines()[-1] == expected


def test_commands_that_read_change_no_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["demo", "--smoke", "--set", "seeds=1 training.epochs=1 grid.member.beta=0"]
    assert run(capsys, "study", "run", *small, "--store", "store.sqlite")[0] == 0

    def listing():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino) for path in tmp_path.rglob("*")}

    before = listing()
    for words in (["study", "list"], ["study", "plan", *small], ["study", "show", *small], ["results", *small]):
        for store in ("store.sqlite", "none.sqlite"):
            status = run(capsys, *words, "--store", store)[0]
            assert status == (words[0] == "results" and store == "none.sqlite")
    assert run(capsys, "report", *small, "--store", "store.sqlite", "--out", tmp_path.parent / f"{tmp_path.name}-report")[0] == 0
    assert run(capsys, "study", "merge", "store.sqlite", "--store", tmp_path.parent / f"{tmp_path.name}.sqlite")[0] == 0
    assert listing() == before


def test_another_try_on_a_folder_that_may_only_be_read(capsys, tmp_path):
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere; needs setpriv")
    limited = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    folder = tmp_path / "theirs"
    words = ["study", "run", "demo", "--smoke", "--set", "seeds=1 training.epochs=1 grid.member.beta=0"]
    words += ["--store", str(folder / "store.sqlite")]
    assert run(capsys, *words)[0] == 0
    before = sorted(folder.rglob("*"))
    for path in (folder, *before):
        path.chmod(0o555)
    try:
        done = subprocess.run(
            [*limited, sys.executable, "-m", "eigencode", *words, "--again"], capture_output=True, text=True, check=False
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == 1
    assert re.fullmatch(r"eigencode: .*theirs.* cannot be used \(Permission denied\)\. .*\n", done.stderr)
    assert sorted(folder.rglob("*")) == before


def test_a_plan_downloads_nothing(capsys, tmp_path, monkeypatch):
    def no_network(*_words, **_options):
        raise AssertionError("downloads")

    monkeypatch.setattr("eigencode.datasets.sources._downloaded", no_network)
    words = ["jiang2020.fig5", "--set", "seeds=1", "--store", tmp_path / "s.sqlite", "--data_root", tmp_path / "data"]
    status, out, err = run(capsys, "study", "plan", *words, "--json")
    assert (status, err) == (0, f"mnist is not under {tmp_path}/data. A run downloads it; before that, times are not known.\n")
    assert {(group["downloads first"], group["cannot start"]) for group in json.loads(out)["groups"]} == {("mnist", None)}
    assert list(tmp_path.iterdir()) == []
