"""Disks without locks, paths from the user's folder, stores that are none."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import eigencode as ec
from eigencode import cli
from eigencode.errors import DiskError, StudyError
from eigencode.studies import Store, load, run_study
from eigencode.studies.execution.engines import Local
from eigencode.studies.yaml import overridden


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize(
    "words",
    [
        ["study", "run", "demo", "--smoke", "--store", "store.sqlite"],
        ["measure", "--model", "gerum_cnn", "--count", "60", "--ranks", "2-10", "--out", "out"],
        ["train", "--model", "gerum_shallow_mlp", "--epochs", "1", "--count", "300", "--out", "out"],
    ],
)
def test_a_disk_without_locks_is_named(number, words, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert f"its file system has no locks ({os.strerror(number)})" in err
    assert "Name a folder on another disk" in err
    assert "Traceback" not in err


def test_paths_from_the_users_folder(tmp_path, monkeypatch, capsys):
    """A shell writes ``~`` out only at the beginning of a word."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    torch.save(ec.models.load("gerum_cnn", image_shape=(1, 8, 8), seed=3).state_dict(), home / "w.pt")
    images = ec.datasets.load("digits", count=80)
    np.savez(home / "images.npz", inputs=images.inputs.numpy(), labels=images.labels.numpy())
    words = ["measure", "--model", "gerum_cnn", "--weights=~/w.pt", "--data=tensors:~/images.npz", "--ranks", "2-10"]
    assert cli.main([*words, "--out=~/out"]) == 0
    assert (home / "out" / "report.html").exists()
    capsys.readouterr()
    Store("~/store.sqlite")
    assert (home / "store.sqlite").exists()
    ec.datasets.load("tensors:~/images.npz")
    assert not list(here.iterdir())


def test_a_store_in_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="the store :memory: would be gone with each connection. Name a file."):
        Store(":memory:")
    assert not list(tmp_path.iterdir())


def test_other_errors_of_locks_are_not_taken_for_that(tmp_path, monkeypatch):
    from eigencode._files import alone

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output") as caught, alone(Path(tmp_path) / "lock"):
        pass
    assert not isinstance(caught.value, DiskError)


def test_a_store_is_whole_without_its_log(tmp_path):
    """Cells are in the file itself as soon as they are saved: it may be moved alone."""
    store = Store(tmp_path / "a.sqlite")
    small = overridden(
        load("demo"),
        "training.epochs=1 seeds=1 grid.member.beta=0 grid.member.target=1 images.train_count=200 images.test_count=100",
    )
    run_study(small, store, Local())
    shutil.copy(tmp_path / "a.sqlite", tmp_path / "moved.sqlite")
    assert Store(tmp_path / "moved.sqlite", make=False).finished() == store.finished() != {}
