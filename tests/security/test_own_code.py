"""Code that a name stands for is run when a network is made, and at no other time."""

import pytest

from eigencode import cli, models
from eigencode.errors import ModelError
from eigencode.studies import load, overridden, smoke_version, to_yaml

CODE = """
import pathlib
from torch import nn
pathlib.Path({marker!r}).touch()
def make(image_shape=(1, 8, 8)):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))
"""


@pytest.fixture
def marker(tmp_path):
    (tmp_path / "net.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    return tmp_path / "marker"


@pytest.mark.parametrize("kind", ["file", "module"])
def test_reading_a_study_runs_none(tmp_path, marker, kind, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    name, where = ("file", str(tmp_path / "net.py")) if kind == "file" else ("module", "net")
    study = overridden(smoke_version(load("demo")), f"network.model={name}:{where}:make")
    (tmp_path / "study.yaml").write_text(to_yaml(study))
    store = tmp_path / "store.sqlite"
    for action in (["list"], ["show", str(tmp_path / "study.yaml")], ["plan", str(tmp_path / "study.yaml")]):
        assert cli.main(["study", *action, "--store", str(store)]) == 0
    assert not marker.exists()
    told = capsys.readouterr()
    assert f"Running this study runs the code of {where}, with all that you may do yourself. Read it first." in told.err
    assert cli.main(["study", "plan", str(tmp_path / "study.yaml"), "--json", "--store", str(store)]) == 0
    assert not marker.exists()
    assert '"seconds": null' in capsys.readouterr().out


def test_making_a_network_runs_it(tmp_path, marker):
    models.load(f"file:{tmp_path}/net.py:make")
    assert marker.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\ndef make(): sys.exit(3)", r"make in .*net.py failed \(SystemExit: 3\). Fix the factory."),
        ("raise SystemExit", r"net.py could not be run \(SystemExit: \). Fix the file."),
        ("make = 3", "has no callable 'make'. Check the name."),
        ("make = type", r"make in .*net.py failed \(TypeError: .*\). Fix the factory."),
        ("def make(): return 3", "make in .*net.py must return a torch.nn.Module; got int."),
    ],
)
def test_factories_that_are_none(tmp_path, code, message):
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(ModelError, match=message):
        models.load(f"file:{tmp_path}/net.py:make")
