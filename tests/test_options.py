"""What the command line says of options that nothing can follow, and that a switch is one wherever it stands."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch

from command_line import run
from eigencode import cli
from eigencode._running import usable_device
from eigencode.commands.checking import options_of, switches_of
from eigencode.commands.results import grouped
from eigencode.datasets import load
from eigencode.errors import DataError, ModelError

AT_ONCE = 2.0
"""Seconds in which an option that would fill the memory is refused."""

_STRENGTHS = "--strengths must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, 1000 at most; got"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("measure --count=99999999999999999999", "--count must be at most 9223372036854775807; got 99999999999999999999."),
        ("measure --seed=1e30", "--seed: expected a whole number; got 1e+30. See: eigencode measure --help"),
        ("measure --seed=-1", "--seed must be at least 0; got -1."),
        ("measure --classes=-1", "--classes must be at least 1; got -1."),
        ("measure --classes=1000000000", "--classes must be at most 100000; got 1000000000."),
        ("measure --batch_size=0", "--batch_size must be at least 1; got 0."),
        ("measure --batch_size=1e9", "--batch_size: expected a whole number; got 1000000000.0. See: eigencode measure --help"),
        ("measure --image_size=-1", "--image_size must be at least 1; got -1."),
        ("measure --half_samples=1000000000", "--half_samples must be at most 10000; got 1000000000."),
        ("measure --half_samples=1e20", "--half_samples: expected a whole number; got 1e+20. See: eigencode measure --help"),
        ("measure --model=", "--model is empty. Give it a value, or leave it out."),
        ("measure --recording=", "--recording is empty. Give it a value, or leave it out."),
        ("study plan demo --store=", "--store is empty. Give it a value, or leave it out."),
        ("measure --model=a\0b", "--model must be without NUL characters; got 'a\\x00b'."),
        ("study plan a\0b", "name must be without NUL characters; got 'a\\x00b'."),
        ("measure --out=\udcff", "options must be text in UTF-8; got other bytes. Write them anew."),
        ("measure --count=\udcff", "options must be text in UTF-8; got other bytes. Write them anew."),
        ("measure --layer=x", "unrecognized arguments: --layer=x. Did you mean --layers? See: eigencode measure --help"),
        (
            "train --bteta 1",
            "unrecognized arguments: --bteta 1. Did you mean --beta? See: eigencode train --help",
        ),
        ("measure --xyzzyq=3", "unrecognized arguments: --xyzzyq=3. See: eigencode measure --help"),
        ("measure --model=gerum_cnn --memory_limit=1MB", "`memory_limit` must be at least 1MiB; got '1MB'. Raise it."),
        ("measure --count=abc", "--count: expected a whole number or null; got abc. See: eigencode measure --help"),
        (
            f"measure --count={'9' * 5000}",
            f"--count: expected a whole number or null; got {'9' * 100}…. See: eigencode measure --help",
        ),
        (
            "measure --units=Channels",
            "--units: expected one of all, channels, pooled; got Channels. Did you mean 'channels'? See: eigencode measure --help",
        ),
        (
            "attack --loss_at=Local",
            "--loss_at: expected one of local, network or null; got Local. See: eigencode attack --help",
        ),
        ("attack --step_size=big", "--step_size: expected a number or null; got big. See: eigencode attack --help"),
        ("attack --clip=maybe", "--clip: expected true or false; got maybe. See: eigencode attack --help"),
        ("attack --strengths={}", f"{_STRENGTHS} '{{}}'."),
        ("train --learning_rate=1e300", "--learning_rate must lie within ±3.4e38, the range of float32; got 1e+300."),
        ("attack --strengths=big", f"{_STRENGTHS} 'big'."),
        ("attack --strengths=1e999999999", f"{_STRENGTHS} '1e999999999'."),
        ("attack --strengths=0:1e99999999:1", f"{_STRENGTHS} '0:1e99999999:1'."),
        ("attack --strengths=0:1:1e-30", f"{_STRENGTHS} '0:1:1e-30'."),
        ("train --seeds=100000000", "--seeds must be at most 10000; got 100000000."),
        ("train --beta=1,2,3 --seeds=5000", "train: this grid has 15000 networks; 10000 at most. Split it."),
        (
            "train --beta=1e999999999",
            "--beta must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, 1000 at most; got '1e999999999'.",
        ),
        ("train --adversarial.epsilon=-1", "adversarial: `epsilon` must be at least 0; got -1.0."),
        ("train --jacobian_squared=5", "--jacobian_squared: expected true or false; got 5. See: eigencode train --help"),
        (
            "train --optimizer=Adam",
            "--optimizer: expected one of adam, sgd; got Adam. Did you mean 'adam'? See: eigencode train --help",
        ),
    ],
)
def test_what_no_command_can_follow(capsys, words, text):
    started = time.perf_counter()
    status, out, err = run(capsys, *words.split(" "))
    assert (status, out, err) == (2, "", f"eigencode: {text}\n")
    assert time.perf_counter() - started < AT_ONCE + 5 * ("train" in words or "attack" in words)  # these load torch first


def test_many_budgets(capsys):
    many = ",".join(str(number / 2000) for number in range(1001))
    status, _, err = run(capsys, "train", "--robustness.attacks=fgsm", f"--robustness.epsilons={many}")
    assert (status, err) == (
        2,
        _STRENGTHS.replace("--strengths", "eigencode: --robustness.epsilons") + f" {many[:79]!r}".removesuffix("'") + "….\n",
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("measure --recording=r.npy --weights=nope", "--weights would do nothing here: it is read with a network (--model)."),
        ("measure --recording=r.npy --units=pooled", "--units would do nothing here: it is read with a network (--model)."),
        ("measure --model=gerum_cnn --recording_variable=x", "--recording_variable would do nothing here: it is read with --recording."),
        (
            "measure --model=gerum_cnn --image_size=32",
            "--image_size would do nothing here: it is read of folders of images (--data image_folder:PATH).",
        ),
        (
            "measure --model=gerum_cnn --data=tensors:x.npz --split=train",
            "--split would do nothing here: it is read of data sets that have a training and a test part.",
        ),
        ("measure --model=gerum_cnn --overwrite", "--overwrite would do nothing here: it is read with --out."),
        ("measure --model=gerum_cnn --units=pooled --tokens=cls", "--tokens would do nothing here: it is read with --units all."),
        ("attack --model=gerum_cnn --steps=3", "--steps would do nothing here: it is read by pgd."),
        ("attack --model=gerum_cnn --perturbation=fgsm --clip", "--clip would do nothing here: it is read by gaussian, pure_noise and grey_noise."),
        ("attack --model=gerum_cnn --norm=l2", "--norm would do nothing here: it is read by fgsm, pgd and art:NAME."),
        ("construct --kind=random_target --layer=a", "--layer would do nothing here: it is read by robust and non_robust."),
        ("train --target=2 --beta=0.00,0/255", "--target would do nothing here: it is read with a --beta above 0."),
        ("train --target=2", "--target would do nothing here: it is read with a --beta above 0."),
        ("train --schedule_factor=0.5", "--schedule_factor would do nothing here: it is read with --schedule step."),
        (
            "train --jacobian=1 --jacobian_projections=2",
            "--jacobian_projections would do nothing here: it is read with --jacobian_kind projected.",
        ),
        ("train --robustness.attacks=fgsm --robustness.steps=9", "--robustness.steps would do nothing here: it is read with "
         "--robustness.attacks pgd."),
        ("study list --smoke", "--smoke would do nothing here: it is read by show, plan and run."),
        ("study show demo --json", "--json would do nothing here: it is read by list, plan, run and merge."),
        ("study run demo --retries=9", "--retries would do nothing here: it is read with --engine ray."),
        ("results mine.yaml --scale=paper", "--scale would do nothing here: it is read of shipped studies."),
    ],
)  # fmt: skip
def test_what_nothing_would_read(capsys, words, text):
    assert run(capsys, *words.split()) == (2, "", f"eigencode: {text} Leave it out.\n")


def test_options_that_are_read_by_one_of_several_perturbations(capsys, tmp_path):
    draws = np.random.default_rng(0)
    np.savez(tmp_path / "i.npz", inputs=draws.random((60, 1, 8, 8), np.float32), labels=np.arange(60) % 10)
    words = ["attack", "--model=gerum_cnn", f"--data=tensors:{tmp_path}/i.npz", "--perturbation=gaussian,pgd", "--strengths=0.1"]
    status, out, _ = run(
        capsys, *words, "--steps=2", "--clip", "--ranks=1-8", "--layers=tanh3", "--probe=0", "--json", "--device=cpu"
    )
    assert (status, json.loads(out)["configuration"]["clip"]) == (0, True)


@pytest.mark.parametrize("command", list(cli._COMMANDS))
def test_every_boolean_is_a_bare_switch(capsys, command):
    config, _ = cli._COMMANDS[command]
    parser = cli.build_parser()
    for option in options_of(config):
        assert (option.name in switches_of(config)) == (option.hint is bool)
        if option.hint is bool:
            for words in ([f"--{option.name}"], [f"--{option.name}", "true"], [f"--{option.name.replace('_', '-')}"]):
                parsed = parser.parse_args(cli._normalised([command, *words]))
                assert parsed[f"{command}.{option.name}"] is True
            parsed = parser.parse_args(cli._normalised([command, f"--{option.name}", "false"]))
            assert parsed[f"{command}.{option.name}"] is False


def test_clip_is_a_switch_of_attack_and_a_number_of_train():
    assert "clip" in switches_of(cli.AttackConfig)
    assert {"mixed_precision", "jacobian_squared", "robustness.relative_step"} == switches_of(cli.TrainConfig) - {
        "grey",
        "json",
        "overwrite",
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "study plan demo --set seeds=1000000000",
            "--set: `seeds` must be a number of seeds from 1 to 100000, or a list of them; got 1000000000.",
        ),
        ("study plan demo --set seeds=true", "--set: `seeds` must be a number of seeds from 1 to 100000, or a list of them; got True."),
        (f"study plan demo --set training.epochs={'[' * 1500}", None),
        ("study plan demo --set grid.member.target=1,[", "--set takes values separated by commas, such as 1,2, or first:last:step; got '1,['."),
        ("study plan demo --set training=3", "--set: blocks.plan.training: expected fields and their values; got 3. Name each field."),
        ("study plan demo --set training.optimizer=Adam", "--set: blocks.plan.training.optimizer: expected one of adam, sgd; got Adam. Did "
         "you mean 'adam'?"),
    ],
)  # fmt: skip
def test_studies_at_once(capsys, words, text):
    started = time.perf_counter()
    status, _, err = run(capsys, *words.split())
    assert status == 2
    assert len(err.splitlines()) == 1
    assert text is None or err == f"eigencode: {text}\n"
    assert time.perf_counter() - started < 5 * AT_ONCE  # studies load torch first


def test_a_grid_that_no_machine_could_list(capsys, tmp_path):
    values = ",".join(map(str, range(1, 200)))
    grid = " ".join(f"grid.{name}={values}" for name in ("member.target", "member.beta", "member.covariance", "member.jacobian"))
    status, _, err = run(capsys, "study", "plan", "demo", "--set", grid)
    assert status == 2
    assert err.startswith("eigencode: --set: the grid has ")
    assert err.endswith(" cells; 100000 at most. Make several studies.\n")
    _, shown, _ = run(capsys, "study", "show", "demo")
    head, seeds, rest = shown.partition("  seeds:\n")
    (tmp_path / "s.yaml").write_text(f"{head}  seeds: 100000000\n{rest[rest.index('  figures') :]}")
    status, _, err = run(capsys, "study", "plan", str(tmp_path / "s.yaml"))
    assert seeds
    assert (status, err) == (
        1,
        f"eigencode: {tmp_path}/s.yaml: `seeds` must be a number of seeds from 1 to 100000, or a list of them; got 100000000.\n",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["measure", "--model", "gerum_cnn", "--data", "tensors:LONG.npz"],
        ["measure", "--model", "gerum_cnn", "--weights", "LONG"],
        ["measure", "--model", "gerum_cnn", "--out", "LONG"],
        ["measure", "--model", "file:LONG:make"],
        ["measure", "--recording", "LONG.npy"],
        ["measure", "--model", "gerum_cnn", "--data", "mnist", "--data_root", "LONG"],
        ["results", "demo", "--store", "LONG"],
        ["study", "run", "demo", "--store", "LONG"],
    ],
)
def test_names_of_300_characters(capsys, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *[word.replace("LONG", "x" * 300) for word in words])
    assert (status, len(err.splitlines())) == (1, 1)
    assert any(told in err for told in ("File name too long", "does not exist", "unable to open database file"))
    assert not list(tmp_path.iterdir())


def test_files_that_the_system_refuses(capsys, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "/data/MNIST")

    monkeypatch.setattr("eigencode.datasets.load", refused)
    status, _, err = run(capsys, "measure", "--model", "gerum_cnn")
    assert (status, err) == (
        1,
        "eigencode: /data/MNIST cannot be used (Permission denied). Name another file or folder, or fix this one.\n",
    )


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("train", "spectral: null", "--config: a group of options is null. Leave it out for its defaults."),
        (
            "attack",
            "model: gerum_cnn\nperturbation: []",
            "--perturbation must be a name, or several separated by commas; got ''.",
        ),
        (
            "attack",
            "perturbation: [1, 2]",
            "--perturbation: expected a list of texts or a text; got [1, 2]. See: eigencode attack --help",
        ),
        ("measure", "layers: null", "--layers must be a text; got None."),
        ("measure", "3", "--config: expected options, such as seed: 1; got 3. See: eigencode measure --help"),
        ("measure", "", "--config: expected options, such as seed: 1; got an empty file. See: eigencode measure --help"),
    ],
)
def test_files_of_options(capsys, tmp_path, command, text, said):
    (tmp_path / "c.yaml").write_text(text)
    assert run(capsys, command, "--config", tmp_path / "c.yaml") == (2, "", f"eigencode: {said}\n")


def test_a_data_root_that_cannot_be_read(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("pathlib.Path.rglob", refused)
    with pytest.raises(DataError) as caught:
        load("mnist", root=tmp_path)
    assert str(caught.value) == (
        f"mnist: {tmp_path} cannot be read (Permission denied). Name another folder with --data_root or EIGENCODE_DATA."
    )


def test_a_column_that_is_named_twice():
    rows = pd.DataFrame({"layer": ["a", "a"], "quantity": ["alpha"] * 2, "value": [1.0, 2.0], "seed": [0, 1]})
    assert grouped(rows, "layer,layer").equals(grouped(rows, "layer"))


def test_devices():
    assert usable_device("cpu") == "cpu"
    for device in ("meta", "nonsense", "cuda:99", "cpu:x"):
        with pytest.raises(ModelError) as caught:
            usable_device(device)
        assert str(caught.value).startswith(f"--device {device} cannot be used (")
    assert torch.ones(1).item() == 1


def test_classes_for_a_factory_that_takes_none(capsys, tmp_path):
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(3, 2)\n")
    status, _, err = run(capsys, "measure", "--model", f"file:{tmp_path}/net.py:make", "--classes", "7")
    assert (status, err) == (
        1,
        f"eigencode: load: make in {tmp_path}/net.py takes no `classes`; got 7. Leave it out, or let the factory take it.\n",
    )
