import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from command_line import command, run
from eigencode import models
from eigencode.attacks import FGSM
from eigencode.datasets import load
from eigencode.training import MemberSettings, Settings, SpectralSettings, robust_accuracies, train

TRAIN = ["train", "--model", "schaeffer_cnn", "--count", 300, "--epochs", 2, "--batch_size", 100, "--spectral.ranks", "jiang"]


@pytest.mark.drawn
def test_grid_table_folder_and_weights(capsys, tmp_path):
    words = ["--target", "1,2", "--beta", "0,0.1", "--seeds", 2, "--robustness.attacks", "fgsm,pgd"]
    words += [
        "--robustness.epsilons",
        "0.05,0.1",
        "--robustness.count",
        50,
        "--robustness.steps",
        3,
        "--learning_rate",
        0.001,
    ]
    status, out, err = run(capsys, *TRAIN, *words, "--out", tmp_path / "run")
    assert status == 0
    assert out.splitlines()[0] == "schaeffer_cnn trained on digits/train · 6 networks (ranks 1-10, weights equal)"
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    names = [f"target{target}_beta{strength}_seed{seed}" for target, strength in ((1, 0), (1, 0.1), (2, 0.1)) for seed in (0, 1)]
    names[:2] = ["beta0_seed0", "beta0_seed1"]
    assert table["network"].tolist() == names
    assert {"accuracy", "alpha (training)", "alpha (held out)", "fgsm 0.05", "pgd 0.1"} <= set(table)
    assert (table["fgsm 0.05"] <= table["accuracy"] + 0.2).all()
    assert pd.read_csv(tmp_path / "run" / "history.csv")["member"].nunique() == 6
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["networks"] == names
    assert record["configuration"]["target"] == "1,2"
    page = (tmp_path / "run" / "report.html").read_text()
    assert names[0] in page
    assert page.count("data:image/svg+xml") == 2
    assert not (tmp_path / "run" / "states").exists()
    weights = tmp_path / "run" / "members" / f"{names[0]}.safetensors"
    assert str(weights) in err
    status, out, _ = run(
        capsys, "measure", "--model", "schaeffer_cnn", "--weights", weights, "--layers", "relu4", "--ranks", "jiang", "--json"
    )
    assert status == 0
    measured = json.loads(out)["layers"][0]["alpha"]
    assert measured == pytest.approx(float(table["alpha (held out)"][0]), abs=1e-6)
    status, _, err = run(capsys, *TRAIN, *words, "--out", tmp_path / "run")
    assert (status, "already holds results" in err) == (1, True)


def test_grouping_changes_nothing(capsys):
    words = ["--beta", 0.1, "--seeds", 3, "--json"]
    _, alone, _ = run(capsys, *TRAIN, *words, "--stack", 1)
    _, together, _ = run(capsys, *TRAIN, *words, "--stack", 3)
    first, second = (pd.DataFrame(json.loads(out)["outcome"]) for out in (alone, together))
    assert first["alpha (training)"].tolist() == pytest.approx(second["alpha (training)"].tolist(), rel=1e-3)
    assert first["accuracy"].tolist() == pytest.approx(second["accuracy"].tolist(), abs=0.02)


def test_local_errors(capsys):
    words = [
        "--model",
        "jiang_mlp",
        "--rule",
        "local",
        "--optimizer",
        "sgd",
        "--learning_rate",
        0.05,
        "--epochs",
        30,
        "--json",
    ]
    status, out, _ = run(capsys, *TRAIN, *words)
    assert status == 0
    outcome = json.loads(out)["outcome"]
    assert [row["layer"] for row in outcome] == [f"layers.{number}" for number in range(8)]
    assert outcome[0]["accuracy"] > 0.5


def test_what_jiang_et_al_leave_open_is_an_option(capsys, tmp_path):
    words = "--model jiang_mlp --rule local --optimizer sgd --learning_rate 0.5 --width 30 --depth 2 --classifier_std 0.1"
    status, out, _ = run(capsys, *TRAIN, *words.split(), "--initial_gain", 0.577, "--epochs", 1, "--out", tmp_path, "--json")
    assert status == 0
    assert [row["layer"] for row in json.loads(out)["outcome"]] == ["layers.0", "layers.1"]
    (weights,) = (tmp_path / "members").glob("*.safetensors")
    tensors = load_file(weights)
    assert tensors["classifiers.0.weight"].std().item() == pytest.approx(0.1, rel=0.15)
    assert "initial_gain: 0.577" in (tmp_path / "study.yaml").read_text()


@pytest.mark.slow  # tests/faults kills at every call
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    words = [*TRAIN, "--epochs", 10, "--beta", 0.1, "--measure_every", 10]
    assert command(*words, "--out", tmp_path / "whole").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "eigencode", *map(str, words), "--out", str(tmp_path / "killed")], stderr=subprocess.PIPE
    )
    states = tmp_path / "killed" / "states"
    for _ in range(600):
        if any(states.glob("*/group.safetensors")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    again = command(*words, "--out", tmp_path / "killed")
    assert again.returncode == 0
    assert "Going on from " in again.stderr
    weights = [folder / "members" / "seed0.safetensors" for folder in (tmp_path / "whole", tmp_path / "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_training_is_read_as_a_study(capsys, tmp_path):
    """The store and the study in the folder say what the table, the history and the weights say."""
    status, _, _ = run(
        capsys, *TRAIN, "--beta", "0,0.1", "--robustness.attacks", "fgsm", "--robustness.epsilons", "0.1", "--out", tmp_path
    )
    assert status == 0
    status, out, _ = run(capsys, "study", "show", tmp_path / "study.yaml")
    assert (status, "Networks of eigencode train" in out) == (0, True)
    words = ["results", tmp_path / "study.yaml", "--store", tmp_path / "cells.sqlite", "--export", tmp_path / "rows.csv"]
    assert run(capsys, *words)[0] == 0
    rows = pd.read_csv(tmp_path / "rows.csv")
    summary = pd.read_csv(tmp_path / "summary.csv")
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(summary["beta"]) == [0.0, 0.1]
    for number, (_, network) in enumerate(summary.iterrows()):
        own = rows[rows["beta"] == network["beta"]]
        last = own[own["epoch"] == own["epoch"].max()]
        held_out = last[last["perturbation"] == "held_out"].set_index("quantity")["value"]
        assert held_out["alpha"] == network["alpha (held out)"]
        assert held_out["accuracy"] == network["accuracy"]
        (attacked,) = last[(last["perturbation"] == "fgsm") & (last["quantity"] == "accuracy")]["value"]
        assert attacked == network["fgsm 0.1"]
        loss = last[(last["perturbation"] == "training") & (last["quantity"] == "loss")]["value"]
        assert list(loss) == list(history[(history["member"] == number) & (history["epoch"] == 2)]["loss"])


def test_weights_that_are_missing_are_not_made_up(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.commands.train._finish", _stopped)
        assert run(capsys, *TRAIN, "--out", tmp_path)[0] == 130
    (weights,) = (tmp_path / "states" / "members").iterdir()
    weights.unlink()
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
    assert (status, "(the weights of 1 finished networks are missing)" in err) == (1, True)
    assert run(capsys, *TRAIN, "--out", tmp_path, "--overwrite")[0] == 0


def test_what_is_no_state_of_this_version_is_refused(capsys, tmp_path):
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "group-000.safetensors").write_text("of the version before")
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
    assert status == 1
    assert "states is the unfinished training of another run (there is no run.json that can be read)." in err
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path, "--overwrite", "true")
    assert status == 0
    assert f"--overwrite: {tmp_path / 'states'} is damaged or of another run, and is replaced.\n" in err
    assert not (tmp_path / "states").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["--target", "-1", "--beta", "1"],
            2,
            "--target must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, 1000 at most; got '-1'.",
        ),
        (
            ["--beta", "-1"],
            2,
            "--beta must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, 1000 at most; got '-1'.",
        ),
        (
            ["--target", "a,b", "--beta", "1"],
            2,
            "--target must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, 1000 at most; got 'a,b'.",
        ),
        (["--seeds", "0"], 2, "--seeds must be at least 1; got 0."),
        (["--epochs", "0"], 2, "--epochs must be at least 1; got 0."),
        (
            ["--spectral.ranks", "3-4"],
            2,
            "`ranks` must start at 1 or above and hold at least 3 ranks; got (3, 4). Widen the window, from the lower rank to the higher.",
        ),
        (
            ["--spectral.layers", "nosuch"],
            1,
            "`layers`: no layer is called 'nosuch' (the network has 12). They are 'conv1', 'relu1', 'pool1', "
            "'conv2', 'relu2', 'pool2', ….",
        ),
        (
            ["--spectral.ranks", "6-500", "--beta", "1"],
            1,
            "A batch of 100 images has no eigenvalue at rank 500: the penalty's ranks 6-500 need batches of 501. Enlarge the batch "
            "or lower the last rank.",
        ),
        (
            ["--robustness.attacks", "cw"],
            2,
            "train: --robustness.attacks takes fgsm and pgd; got 'cw'. eigencode attack has others.",
        ),
        (
            ["--robustness.attacks", "fgsm", "--robustness.epsilons", "8"],
            2,
            "train: fgsm: `strengths` must be in 0..1, the range of pixels; got 8 (epsilon, input units). Write "
            "8/255 for levels of 0..255.",
        ),
        (["--stack", "0"], 2, "--stack must be at least 1; got 0."),
        (["--width", "20"], 1, "load: schaeffer_cnn has no option 'width'. It has image_shape, classes, input_mean, input_std."),
        (
            ["--model", "jiang_mlp", "--initial_gain", "-1"],
            1,
            "jiang_mlp: `classifier_std` and `initial_gain` must be at least 0; got 0.3 and -1.0.",
        ),
    ],
)
def test_bad_input_is_one_sentence(capsys, words, status, message):
    found, out, err = run(capsys, *TRAIN, *words)
    assert (found, out, err) == (status, "", f"eigencode: {message}\n")


def test_one_network_that_diverges_ends_alone(capsys, tmp_path):
    words = ["--optimizer", "sgd", "--learning_rate", 0.01, "--covariance", "0,1e30", "--stack", 2, "--json"]
    status, out, err = run(capsys, *TRAIN, *words, "--out", tmp_path / "run")
    record = json.loads(out)
    assert status == 0
    assert record["networks"] == ["covariance0_seed0"]
    assert list(record["failed"]) == ["covariance1e+30_seed0"]
    assert "covariance1e+30_seed0: Training stopped at step " in err
    assert [path.name for path in (tmp_path / "run" / "members").iterdir()] == ["covariance0_seed0.safetensors"]


def test_a_read_only_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path / "file" / "run")
    assert status == 1
    assert err.startswith("eigencode: --out: ")


def test_overwrite_goes_on_from_a_state_of_its_own(capsys, tmp_path, monkeypatch):
    words = [*TRAIN, "--out", tmp_path, "--overwrite", "true"]
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.attacked", _stopped)
        status, _, err = run(capsys, *words)
    assert (status, err.splitlines()[-1]) == (
        130,
        f"eigencode: interrupted; the last state is kept in {tmp_path / 'states'}: give the command again to go on.",
    )
    status, _, err = run(capsys, *words)
    assert (status, err.splitlines()[0]) == (0, f"Going on from {tmp_path / 'states'}.")
    assert "replaced" not in err


def _stopped(*_arguments, **_options):
    raise KeyboardInterrupt


def test_what_another_command_removes_is_told(capsys, tmp_path):
    assert run(capsys, *TRAIN, "--out", tmp_path)[0] == 0
    assert (tmp_path / "members").is_dir()
    words = [
        "measure",
        "--model",
        "gerum_shallow_mlp",
        "--count",
        "30",
        "--ranks",
        "2-10",
        "--half_samples",
        "0",
        "--overwrite",
        "--out",
    ]
    status, _, err = run(capsys, *words, tmp_path)
    assert status == 0
    assert f"--overwrite removed members, cells.sqlite, history.csv, which another run had left in {tmp_path}.\n" in err
    assert not (tmp_path / "members").exists()
    status, _, err = run(capsys, *words, tmp_path)
    assert (status, "--overwrite removed" in err) == (0, False)


def test_a_state_of_another_configuration_tells_of_overwrite(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.attacked", _stopped)
        run(capsys, *TRAIN, "--out", tmp_path)
    status, _, err = run(capsys, *TRAIN, "--learning_rate", "0.5", "--out", tmp_path)
    assert (status, err.count("Going on from")) == (1, 0)
    assert err == (
        f"eigencode: {tmp_path / 'states'} is the unfinished training of another run (learning_rate: 0.0001 there). Use the same "
        "configuration, another folder, or remove it to start again. --overwrite replaces it.\n"
    )


def test_no_other_command_leaves_results_beside_unfinished_training(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.attacked", _stopped)
        assert run(capsys, *TRAIN, "--out", tmp_path)[0] == 130
    for words in (["measure", "--count", 60], ["attack", "--count", 60], ["construct", "--count", 20, "--steps", 2]):
        status, _, err = run(capsys, *words, "--model", "schaeffer_cnn", "--out", tmp_path, "--overwrite")
        assert (status, err.count("\n")) == (1, 1)
        assert "holds unfinished training, in states. Give that command again, or name another folder." in err
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
    assert (status, "Going on from" in err) == (0, True)


def test_a_damaged_state_is_told_of_and_training_starts_again(capsys, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.attacked", _stopped)
        assert run(capsys, *TRAIN, "--out", tmp_path)[0] == 130
    (state,) = (tmp_path / "states").glob("*/group.safetensors")
    state.write_bytes(state.read_bytes()[:-100])
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
    assert status == 0
    assert f"Note: A state in {state.parent} is damaged or of another run. It was removed, and training starts again.\n" in err


def _begin(capsys, monkeypatch, *words):
    """Runs a command up to where its networks are attacked."""
    with monkeypatch.context() as patched:
        patched.setattr("eigencode.studies.execution.group.attacked", _stopped)
        assert run(capsys, *words)[0] == 130


def test_training_on_other_images_of_the_same_name_does_not_go_on(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 10, 150)
    np.savez("mine.npz", inputs=draws.random((150, 1, 8, 8), dtype=np.float32), labels=labels)
    words = [
        *TRAIN[:3],
        "--epochs",
        2,
        "--batch_size",
        100,
        "--spectral.ranks",
        "jiang",
        "--data",
        "tensors:mine.npz",
        "--out",
        "out",
    ]
    _begin(capsys, monkeypatch, *words)
    moment = Path("mine.npz").stat()
    np.savez("mine.npz", inputs=draws.random((150, 1, 8, 8), dtype=np.float32), labels=labels)
    os.utime("mine.npz", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    status, _, err = run(capsys, *words)
    assert (status, "out/states is the unfinished training of another run (its images differ)." in err) == (1, True)


def test_the_stack_of_training_that_goes_on_is_kept(capsys, tmp_path, monkeypatch):
    words = [*TRAIN, "--seeds", 4, "--out", tmp_path]
    _begin(capsys, monkeypatch, *words, "--stack", 2)
    (state,) = (tmp_path / "states").glob("*/group.safetensors")
    status, _, err = run(capsys, *words, "--stack", 3)
    assert (status, "(stack: 2 there)" in err) == (1, True)
    _begin(capsys, monkeypatch, *words)
    assert list((tmp_path / "states").glob("*/group.safetensors")) == [state]


@pytest.mark.parametrize("damage", ["run.json", "cells.sqlite"])
def test_a_place_that_is_damaged_is_replaced_if_asked(damage, capsys, tmp_path, monkeypatch):
    _begin(capsys, monkeypatch, *TRAIN, "--out", tmp_path)
    (tmp_path / "states" / damage).write_bytes(b"\xff not what it was")
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
    assert (status, "states is the unfinished training of another run (" in err, err.count("\n")) == (1, True, 1)
    status, _, err = run(capsys, *TRAIN, "--out", tmp_path, "--overwrite")
    assert (status, "is damaged or of another run, and is replaced.\n" in err) == (0, True)


def test_a_kill_before_anything_was_begun_changes_nothing(capsys, tmp_path):
    (tmp_path / "states" / ".run.json.partial").mkdir(parents=True)
    (tmp_path / "states" / ".run.json.lock").touch()
    assert run(capsys, *TRAIN, "--out", tmp_path)[0] == 0
    assert not (tmp_path / "states").exists()


def test_the_seed_chooses_the_attacked_images(capsys):
    words = [*TRAIN, "--learning_rate", 0.01, "--robustness.attacks", "fgsm", "--robustness.count", 40, "--seed", 3, "--json"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    settings = Settings(epochs=2, batch_size=100, spectral=SpectralSettings(ranks="jiang"))
    images, held_out = (
        load("digits", split=split, **count) for split, count in (("train", {"count": 300, "seed": 3}), ("test", {}))
    )
    network = models.load("schaeffer_cnn", image_shape=images.shape, seed=3)
    train(network, images, settings=settings, cells=MemberSettings(seed=3, learning_rate=0.01))
    shown = held_out.subset(40, seed=3)
    expected = robust_accuracies([network], shown, FGSM(), epsilons=[0.05])["accuracy"][0]
    assert json.loads(out)["outcome"][0]["fgsm 0.05"] == expected


def test_all_networks_that_diverge_are_an_error(capsys):
    status, _, err = run(capsys, *TRAIN, "--seeds", 2, "--learning_rate", "1e30")
    assert status == 1
    assert err.splitlines()[-1].startswith("eigencode: every network diverged; seed0: Training")
