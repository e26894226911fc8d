"""The recipes of docs/how-to/extend.md, each followed in a copy of the package with the files that it names and no others."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import eigencode
from eigencode.studies import load

PACKAGE = Path(eigencode.__file__).parent
PAGE = PACKAGE.parents[1] / "docs" / "how-to" / "extend.md"

RECIPES = {
    "A data set.": {
        "datasets/sources.py": (
            "_BUNDLED: dict",
            """def _stripes(split: Split) -> ImageSet:
    generator = torch.Generator().manual_seed({"train": 0, "test": 1}[split])
    labels = torch.arange(200) % 10
    ramps = torch.linspace(0, 1, 8).pow(labels[:, None] / 3 + 0.3)[:, None, :, None].expand(200, 1, 8, 8)
    return ImageSet((ramps + 0.2 * torch.rand(200, 1, 8, 8, generator=generator)).clamp(0, 1), labels, f"stripes/{split}")


_BUNDLED: dict""",
            '{"digits": _digits}',
            '{"digits": _digits, "stripes": _stripes}',
        ),
    },
    "A network.": {
        "models/papers.py": (
            "PAPER_MODELS: dict",
            '''def one_layer(*, image_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Hidden layer of 30 units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 30), nn.Tanh(), nn.Linear(30, classes))


PAPER_MODELS: dict''',
            '"gerum_shallow_mlp": gerum_shallow_mlp,',
            '"gerum_shallow_mlp": gerum_shallow_mlp,\n    "one_layer": one_layer,',
        ),
    },
    "An option of measuring.": {
        "measurement/settings.py": (
            """        batch_size: Images taken at once.
    \"\"\"
""",
            """        batch_size: Images taken at once.
        coarse: Round codes to half precision.
    \"\"\"
""",
            "    batch_size: int = 128\n",
            "    batch_size: int = 128\n    coarse: bool = False\n",
            "    batch_size: int\n",
            "    batch_size: int\n    coarse: bool\n",
        ),
        "measurement/reader.py": (
            "            filling.take(name, code, ",
            """            if self.settings.coarse and code.rows is not None:
                code = code._replace(rows=code.rows.half())
            filling.take(name, code, """,
        ),
    },
    "A perturbation without labels.": {
        "perturbations/levels.py": (
            "",
            '''"""Grey levels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """Rounds every number to steps of a given size.

    Args:
        size: Step, input units.
    """

    size: float

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """PerturbationSpec images."""
        return (inputs / self.size).round() * self.size if self.size else inputs
''',
        ),
        "perturbations/specification.py": (
            "_EVERY = (",
            """_EVERY = (
    PerturbationKind("levels", "eigencode.perturbations.levels:Levels", (), "size of a step, input units"),""",
        ),
    },
    "An attack.": {
        "attacks/signs.py": (
            "",
            '''"""Random signs."""

from dataclasses import dataclass

import torch

from eigencode.attacks.reliability import Attacked


@dataclass(frozen=True)
class Signs:
    """A random sign for every number, of length epsilon."""

    seed: int = 0
    norm = "linf"
    bounds = (0.0, 1.0)
    targeted = False
    name = "signs"

    def __call__(self, model, inputs, labels, *, epsilon, indices=None):
        """Attacks a batch."""
        draws = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(self.seed))
        return Attacked((inputs + epsilon * draws.sign()).clamp(0, 1))
''',
        ),
        "perturbations/specification.py": (
            "KINDS = {kind.name",
            """_EVERY += (
    PerturbationKind("signs", "eigencode.attacks.signs:Signs", ("seed",), "epsilon, input units", attack=True, steps=1),
)

KINDS = {kind.name""",
        ),
    },
    "A reliability flag.": {
        "attacks/reliability.py": (
            "FLAGS = {",
            'FLAGS = {\n    "few_images": Flag("Fewer than 100 images were attacked.", "Attack more."),',
        ),
        "attacks/curves.py": (
            "        found = list(self.constant)\n",
            '        found = [*self.constant, *(["few_images"] if len(self.run.target) < 100 else [])]\n',
        ),
    },
    "A penalty.": {
        "penalties/size.py": (
            "",
            '''"""Size of a code."""

from torch import Tensor


def size_members(code: Tensor) -> Tensor:
    """Mean square of each member's code, shape (members,)."""
    return code.flatten(1).square().mean(dim=1)
''',
        ),
        "training/settings.py": (
            '    jacobian: float = _weight("c2", of="inputs")\n',
            '    jacobian: float = _weight("c2", of="inputs")\n    size: float = _weight("c3")\n',
            '    jacobian: Numbers = "0"\n',
            '    jacobian: Numbers = "0"\n    size: Numbers = "0"\n',
        ),
        "training/terms.py": (
            "TERMS: dict",
            """def _size(seen: ForwardPass, _settings: Settings) -> Tensor:
    from eigencode.penalties.size import size_members

    assert seen.code is not None
    return size_members(seen.code)


TERMS: dict""",
            '"jacobian": _jacobian}',
            '"jacobian": _jacobian, "size": _size}',
        ),
    },
    "A paper and its studies.": {
        "papers/small/__init__.py": ("", '"""A small paper."""\n\nfrom eigencode.papers.small.study import PAPER\n'),
        "papers/small/study.py": (
            "",
            '''"""A small study."""

from eigencode.studies.cell import CellConfig, ImagesSpec, NetworkSpec, Readout
from eigencode.studies.definition import Block, Paper, later
from eigencode.training.settings import MemberSettings, Settings, SpectralSettings

FIGURES = {"fig1": "Accuracy of a small network"}
SOURCES = {"training.epochs": "chosen: one, to be quick"}


def blocks(figure, scale):
    """Cells."""
    training = Settings(epochs=1, batch_size=50, spectral=SpectralSettings(ranks=(2, 9)))
    plan = CellConfig(NetworkSpec("one_layer"), ImagesSpec("stripes"), training, MemberSettings(), Readout(ranks=(2, 9)))
    return (Block(plan, {}, (0, 1)),)


PAPER = Paper("small", "A small paper", FIGURES, SOURCES, (), (), blocks, claims=later("eigencode.papers.small.claims", "CLAIMS"))
''',
        ),
        "papers/small/claims.py": (
            "",
            '''"""What the small paper finds."""

from eigencode.studies.results.claim import Claim, Part, finding


def _first(results):
    accuracy = results.select("accuracy", perturbation="held_out")["value"]
    return finding(f"accuracy {accuracy.mean():.2f}", "accuracy above 2", bool(accuracy.mean() > 2))


CLAIMS = (Claim("T1", "fig1", "Accuracy is above 2.", (Part("“above 2” (1)", _first),), window="none"),)
''',
        ),
        "papers/registry.py": (
            "from eigencode.papers import demo, gerum2022, jiang2020, schaeffer2020",
            "from eigencode.papers import demo, gerum2022, jiang2020, schaeffer2020, small",
            "schaeffer2020, demo)",
            "schaeffer2020, demo, small)",
        ),
    },
    "A fit window.": {
        "spectra/window.py": ('    "jiang": Window(', '    "early": Window(2, 9, source="this test"),\n    "jiang": Window('),
    },
    "A metric of a spectrum.": {
        "spectra/flatness.py": (
            "",
            '''"""How flat a spectrum is."""

import math

from torch import Tensor


def evenness(eigenvalues: Tensor) -> float:
    """Geometric over arithmetic mean of the positive eigenvalues: 1 for a flat spectrum."""
    positive = eigenvalues[eigenvalues > 0]
    return math.exp(float(positive.log().mean())) / float(positive.mean())
''',
        ),
        "spectra/metrics.py": (
            "from eigencode.spectra.eigenspectrum import Eigenspectrum",
            "from eigencode.spectra.eigenspectrum import Eigenspectrum\nfrom eigencode.spectra.flatness import evenness",
            "METRICS = (",
            'METRICS = (\n    Metric("evenness", lambda spectrum: evenness(spectrum.eigenvalues), "evenness", "{:.1f}"),',
        ),
    },
}

SCRIPT = """
import json, sys
import numpy
from eigencode import cli
from eigencode.studies import Store, overridden, run_study
from eigencode.studies.execution.engines import Local
from eigencode.papers.registry import load

draws = numpy.random.default_rng(0)
signal = draws.normal(size=(40, 60)) * numpy.arange(1, 41)[:, None] ** -0.5
numpy.save("recorded.npy", signal + 0.05 * draws.normal(size=(2, 40, 60)))
read = ["--model", "one_layer", "--count", "60", "--half_samples", "0", "--ranks", "early"]
assert cli.main(["measure", *read, "--recording", "recorded.npy", "--out", "measured"]) == 0
assert cli.main(["measure", *read, "--coarse", "--out", "coarse"]) == 0
assert cli.main(["attack", *read, "--perturbation", "levels", "--strengths", "0,0.5", "--out", "attacked"]) == 0
assert cli.main(["attack", *read, "--perturbation", "levels", "--strengths", "0.5", "--coarse", "--out", "coarse_levels"]) == 0
assert cli.main(["attack", *read, "--data", "stripes", "--perturbation", "signs", "--strengths", "0.1", "--out", "signs"]) == 0
train = ["train", "--model", "one_layer", "--count", "100", "--batch_size", "50", "--epochs", "2", "--spectral.ranks", "early"]
assert cli.main([*train, "--learning_rate", "0.01", "--size", "0,100", "--robustness.attacks", "fgsm", "--out", "sized"]) == 0
identities = [cell.identity for cell in load("demo").cells()]
assert cli.main(["attack", *read, "--perturbation", "fgsm", "--strengths", "0.1", "--out", "flagged"]) == 0
assert cli.main(["reproduce", "small.fig1", "--store", "small.sqlite", "--out", "small"]) == 0
words = "network.model=one_layer reading.ranks=early training.epochs=1 seeds=1 grid.member.beta=0 grid.member.target=1"
study = overridden(load("demo"), f"{words} training.spectral.ranks=2-9 'reading.perturbations=[{{kind: levels, strengths: [0.5]}}]'")
store = Store("store.sqlite")
assert not run_study(study, store, Local()).failed
rows = store.results()
kept = rows[(rows["quantity"] == "evenness") & (rows["perturbation"] == "levels")]
json.dump({"values": list(kept["value"]), "strengths": list(kept["strength"]), "identities": identities}, open("study.json", "w"))
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which the commands of a package were run for which all recipes were followed; and what they printed."""
    folder = tmp_path_factory.mktemp("recipes")
    copy = shutil.copytree(PACKAGE, folder / "package" / "eigencode", ignore=shutil.ignore_patterns("__pycache__"))
    for files in RECIPES.values():
        for name, changes in files.items():
            path = copy / name
            path.parent.mkdir(exist_ok=True)
            text = path.read_text() if path.exists() else ""
            for old, new in zip(changes[::2], changes[1::2], strict=True):
                assert not old or text.count(old) == 1, (name, old)
                text = text.replace(old, new, 1) if old else new
            path.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(folder / "package"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_page_names_the_files_of_the_recipe(recipe):
    paragraph = next(each for each in PAGE.read_text().split("\n\n") if each.startswith(f"**{recipe}**"))
    named = re.findall(r"`src/eigencode/([\w/.]+)`", paragraph)
    for name in RECIPES[recipe]:
        assert any(name == each or name.startswith(each.rstrip("/") + "/") for each in named), (name, named)


def test_a_network_a_window_and_a_metric(followed):
    folder, printed = followed
    rows = pd.read_csv(folder / "measured" / "summary.csv").to_dict("records")
    assert [row["condition"] for row in rows] == ["one_layer", "recording", "recording"]
    assert rows[2]["method"] == "signal moments"  # it has no eigenvalues of its own, and so no metric of them
    for row in rows[:2]:
        assert (row["first_rank"], row["last_rank"]) == (2, 9)
        assert 0 < row["evenness"] <= 1
        assert f" {row['evenness']:.1f} " in printed
    assert "evenness" in printed
    assert "evenness" in (folder / "measured" / "report.html").read_text()


def test_an_option_of_measuring(followed):
    """In the command line and in Python, of both ways to measure."""
    folder, _ = followed
    tables = [pd.read_csv(folder / name / "summary.csv") for name in ("measured", "coarse", "attacked", "coarse_levels")]
    exact, coarse, levels, coarse_levels = (list(table["alpha"].iloc[[0, -1]]) for table in tables)
    assert 0 < abs(exact[0] - coarse[0]) < 0.01
    assert all(0 < abs(one - other) < 0.01 for one, other in zip(levels, coarse_levels, strict=True))
    assert json.loads((folder / "coarse" / "record.json").read_text())["configuration"]["coarse"]


def test_a_perturbation(followed):
    folder, _ = followed
    table = pd.read_csv(folder / "attacked" / "summary.csv")
    assert set(zip(table["perturbation"], table["strength"], strict=True)) == {("unperturbed", 0), ("levels", 0.5)}
    read = json.loads((folder / "study.json").read_text())
    assert read["strengths"] == [0.5]
    assert 0 < read["values"][0] <= 1


def test_an_attack_on_a_data_set(followed):
    folder, _ = followed
    table = pd.read_csv(folder / "signs" / "summary.csv")
    assert set(zip(table["perturbation"], table["strength"], strict=True)) == {("unperturbed", 0), ("signs", 0.1)}
    assert "stripes" in json.loads((folder / "signs" / "record.json").read_text())["title"]


def test_a_flag(followed):
    folder, _ = followed
    flags = json.loads((folder / "flagged" / "record.json").read_text())["flags"]
    assert flags["few_images"]["meaning"] == "Fewer than 100 images were attacked."


def test_a_penalty(followed):
    """It is an option, a column, part of a network's name and of the page, and names no earlier cell anew."""
    folder, _ = followed
    table = pd.read_csv(folder / "sized" / "summary.csv")
    assert list(table["size"]) == [0, 100]
    assert list(table["network"]) == ["size0_seed0", "size100_seed0"]
    weights = [load_file(folder / "sized" / "members" / f"{name}.safetensors") for name in table["network"]]
    assert not torch.equal(weights[0]["1.weight"], weights[1]["1.weight"])
    assert "size100_seed0" in (folder / "sized" / "report.html").read_text()
    kept = json.loads((folder / "study.json").read_text())["identities"]
    assert kept == [cell.identity for cell in load("demo").cells()]


def test_a_paper(followed):
    folder, _ = followed
    record = json.loads((folder / "small" / "record.json").read_text())
    assert [(claim["claim"], claim["verdict"]) for claim in record["claims"]] == [("T1", "does not hold")]
    assert record["scale"] == "cpu"
    assert record["settings"][0]["source"] == "chosen: one, to be quick"
