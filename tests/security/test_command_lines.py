"""Command lines by the hundred, right and wrong: none may end in a traceback, and each that fails says why in one line."""

import random

import numpy as np
import pytest
import yaml

from command_line import run
from eigencode import cli
from eigencode.commands.checking import options_of

SEED = 20
SHORT, LONG = 4, 60

_WRONG = [
    "", " ", "abc", "-1", "0", "1", "2.5", "1e30", "1e-30", "1e999999999", "99999999999999999999", "9" * 5000, "nan", "inf", "-inf", "True",
    "false", "null", "None", "[]", "{}", "[1,2", "[" * 300, "1,2,x", ",", ":", "a:b:c", "=", "%s", "{0}", "x" * 300, "\0", "a\0b", "\udcff",
    "Ж🦄", "🦄" * 100, "\n", "a\nb", "'", '"', "/dev/null", "/proc/self/mem", "/etc", "..", "/", "file:x.py:make", "module:os:getcwd", "tensors:",
    "tensors:net.py", "image_folder:.", "ilyas:.", "torchvision:", "torchvision:nothing", "timm:nothing", "art:", "art:Nothing", "1-2", "5-1",
    "0-10", "1-99999999999999999999", "conv*", "#2", "[0]", "cuda:99", "meta", "cpu:7", "cpu", "!!python/object:os.system", "*a", "&a 1",
]  # fmt: skip

_RIGHT = {
    "layers": ["penultimate", "all", "2", "1,2"],
    "units": ["all", "channels", "pooled"],
    "ranks": ["1-8", "(2, 7)"],
    "count": ["30", "50"],
    "data": ["tensors:images.npz"],
    "model": ["file:net.py:make", "gerum_cnn"],
    "half_samples": ["0", "4"],
    "batch_size": ["7", "1000000000"],
    "perturbation": ["gaussian", "fgsm,pgd", "pca", "layer_gaussian", "pure_noise"],
    "strengths": ["0.1", "0:0.2:0.1", "1/255,2/255"],
    "steps": ["2"],
    "epochs": ["1"],
    "seeds": ["2"],
    "seed": ["0", "9223372036854775807"],
    "stack": ["1"],
    "beta": ["0.1", "0,0.1"],
    "robustness.attacks": ["fgsm", "fgsm,pgd"],
    "set": ["training.epochs=1", "grid.member.learning_rate=0.001,0.002", "seeds=1"],
    "where": ["quantity=alpha", "quantity=accuracy layer=2"],
    "group": ["layer", "layer,layer", "perturbation"],
    "against": ["member=1", "learning_rate=0.001"],
    "windows": ["1-5,2-7"],
    "device": ["cpu"],
}

_STUDY = {
    "name": "mine",
    "title": "A small one",
    "blocks": [
        {
            "plan": {
                "network": {"model": "file:net.py:make"},
                "images": {"data": "tensors:images.npz"},
                "training": {"epochs": 1, "batch_size": 30, "spectral": {"ranks": [1, 8]}},
                "reading": {"ranks": [1, 8], "count": 60},
            },
            "grid": {"member.learning_rate": [0.001]},
            "seeds": 1,
        }
    ],
}

_NETWORK = ["--model", "file:net.py:make", "--data", "tensors:images.npz", "--device", "cpu"]

_STARTS = {
    "measure": [[*_NETWORK, "--ranks", "1-8"], ["--recording", "recording.npy", "--ranks", "1-8"]],
    "attack": [
        [*_NETWORK, "--ranks", "1-8", "--strengths", "0.1", "--layers", "2"],
        [*_NETWORK, "--ranks", "1-8", "--strengths", "0.1", "--layers", "2", "--perturbation", "fgsm,pgd", "--steps", "2", "--probe", "5"],
        [*_NETWORK, "--ranks", "1-8", "--strengths", "3", "--layers", "2", "--perturbation", "pca,zca"],
    ],
    "train": [
        [*_NETWORK, "--epochs", "1", "--batch_size", "30", "--spectral.ranks", "1-8"],
        [*_NETWORK, "--epochs", "1", "--batch_size", "30", "--spectral.ranks", "1-8", "--beta", "0,0.1", "--jacobian", "0.1"],
        [*_NETWORK, "--epochs", "1", "--batch_size", "30", "--spectral.ranks", "1-8", "--robustness.attacks", "pgd", "--robustness.steps", "2"],
        [*_NETWORK, "--epochs", "1", "--batch_size", "30", "--spectral.ranks", "1-8", "--adversarial.epsilon", "0.1", "--adversarial.steps", "2"],
    ],
    "construct": [[*_NETWORK, "--steps", "2"]],
    "study": [[action, "mine.yaml"] for action in ("show", "plan", "run")] + [["list"], ["merge", "store.sqlite", "--store", "o.sqlite"]],
    "reproduce": [["mine.yaml"]],
    "report": [["mine.yaml"]],
    "results": [["mine.yaml"]],
    "doctor": [[]],
}  # fmt: skip

_LEFT_OUT = {("study", "engine"), ("reproduce", "engine"), ("study", "action")}
"""A cluster takes seconds to start, and the action is part of the start."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with small images, a network, a recording and a study that has been run."""
    folder = tmp_path_factory.mktemp("lines")
    draws = np.random.default_rng(SEED)
    np.savez(folder / "images.npz", inputs=draws.random((60, 1, 8, 8), np.float32), labels=np.arange(60) % 10)
    np.save(folder / "recording.npy", draws.standard_normal((20, 50)))
    (folder / "net.py").write_text(
        "import torch\n"
        "def make(image_shape):\n"
        "    layers = torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.Tanh(), torch.nn.Linear(12, 10)\n"
        "    return torch.nn.Sequential(*layers)\n"
    )
    (folder / "mine.yaml").write_text(yaml.safe_dump(_STUDY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["study", "run", "mine.yaml", "--store", "store.sqlite"]) == 0
    return folder


def lines(command, count):
    """Command lines, the same at every call: a small one that is right, with up to three options right or wrong."""
    draws = random.Random(f"{SEED} {command}")
    config, _ = cli._COMMANDS[command]
    options = [option for option in options_of(config) if (command, option.name) not in _LEFT_OUT and option.name != "out"]
    positionals = getattr(config, "positionals", ())
    for _ in range(count):
        words = list(draws.choice(_STARTS[command]))
        for option in draws.sample(options, draws.choice([0, 1, 1, 1, 2, 3][: 2 * len(options) + 1])):
            right = _RIGHT.get(option.name) or _RIGHT.get(option.name.rpartition(".")[2]) or ["true", "1"]
            value = draws.choice(right if draws.random() < 0.5 else _WRONG)
            if option.name in positionals:
                words[-1:] = [value]
            elif option.hint is bool and draws.random() < 0.5:
                words.append(f"--{option.name}")
            else:
                words += [f"--{option.name}={value}"] if draws.random() < 0.7 else [f"--{option.name}", value]
        if command in ("reproduce", "report", "results") and not any(word.startswith("--store") for word in words):
            words += ["--store", "store.sqlite"]
        if draws.random() < 0.1:
            words.insert(draws.randrange(len(words) + 1), draws.choice(["--nothing", "--", "-", *_WRONG]))
        yield [command, *words]


@pytest.mark.parametrize("command", list(cli._COMMANDS))
@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_no_command_line_ends_in_a_traceback(command, count, place, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(place)
    monkeypatch.setattr("eigencode.commands.attack._figures", lambda *_: {})  # which take most of the time
    monkeypatch.setattr("eigencode.commands.report.draw", lambda *_: None)
    faults = []
    for number, words in enumerate(lines(command, count)):
        out = tmp_path / f"out{number}"
        if "out" in cli._COMMANDS[command][0].__dataclass_fields__:
            words = [*words, "--out", str(out)]
        try:
            status, stdout, stderr = run(capsys, *words)
        except Exception as error:
            capsys.readouterr()
            faults.append((words, f"{type(error).__name__}: {error}"))
            continue
        said = [line for line in stderr.splitlines() if line.startswith("eigencode: ")]
        if status not in (0, 1, 2) or len(said) != (status != 0) or "Traceback" in stdout + stderr:
            faults.append((words, status, stderr))
        if status and out.exists() and "Report: " not in stderr:
            faults.append((words, "left", sorted(path.name for path in out.iterdir())))
    assert not faults, "\n".join(map(str, faults))
