"""Every command and every Python block of the README and the documentation runs."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from eigencode import cli
from eigencode._torchvision import import_torchvision
from eigencode.attacks import FLAGS
from eigencode.datasets import data_root
from eigencode.models import load as load_model
from eigencode.studies import Store, from_yaml
from eigencode.studies import load as load_study
from eigencode.studies.results.judging import claims_of
from eigencode.studies.yaml import overridden

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Long commands run in a small size: the same words, fewer images. Those of what was measured are slow even so.
SMALLER = {
    "reproduce demo": "reproduce demo --smoke",
    "--scale paper --store": "--smoke --store",
    "--scale cpu --store": "--smoke --store",
    "gerum2022_figS1.yaml --store": "gerum2022_figS1.yaml --smoke --store",
    "schaeffer2020_fig2.yaml --store": "schaeffer2020_fig2.yaml --smoke --store",
    "schaeffer2020_fig3_imagenet.yaml --store": "schaeffer2020_fig3_imagenet.yaml --smoke --store",
    "--windows 1-20,3-10,2-20,5-20": "--windows 1-20,3-10",
    "--windows 6-30,10-50,2-20,6-100": "--windows 2-5,3-8",
    "--windows 3-30,10-50,10-100,10-200": "--windows 2-5,3-8",
    "--count 3000": "--count 100",
    "--layers features.2,features.6,features.9,features.12": "--layers features.2 --count 40",
    "--ranks schaeffer": "--ranks jiang",
    "schaeffer_cnn --data digits --layers all": "schaeffer_cnn --data digits --count 120 --half_samples 0 --layers all",
    "gerum_cnn --data digits --layers all": "gerum_cnn --data digits --count 120 --half_samples 2 --layers all",
    "--data tensors:images.npz": "--half_samples 0 --data tensors:images.npz",
    "--data image_folder:photos": "--half_samples 0 --data image_folder:photos",
    "--epochs 60": "--epochs 1",
    "--epochs 50": "--epochs 1",
    "--epochs 10": "--epochs 1",
    "--seeds 20": "--seeds 2",
    "--robustness.count 10000": "--robustness.count 50",
    "--robustness.count 3000": "--robustness.count 50",
    "--target 1,2,3,4": "--target 2",
    "--epochs 5": "--epochs 1",
    "--half_samples 10": "--half_samples 0",
    "--strengths 0:0.19:0.01": "--strengths 0,0.1",
    "--strengths 0:0.5:0.1": "--strengths 0,0.1",
    "--strengths 0:0.2:0.1": "--strengths 0,0.1",
    "--strengths 0,0.05,0.1": "--strengths 0,0.1",
    "--strengths 1,2,4,8,16,32 --ranks": "--strengths 32 --ranks",
    "--strengths 0,0.1 --layers all": "--strengths 0,0.1 --layers output",
    "--data digits --perturbation": "--data digits --count 60 --half_samples 0 --perturbation",
    "--strengths 0.05,0.1,0.2,0.3,0.5": "--strengths 0.1",
    "--strengths 1,2,4,8,16,32 --out runs/": "--strengths 32 --out runs/",
    "interval_check.py --weights schaeffer_cifar10.safetensors": "interval_check.py --data digits --subsets 1 --counts 300",
}


def blocks(kind):
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            if match[1] == kind:
                slow = [pytest.mark.slow] if page.parent.name in ("measured", "reproductions") else []
                yield pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{number}", marks=slow)


@pytest.fixture(scope="module")
def small_gpt(tmp_path_factory):
    """A network of transformers with random weights, as it is saved."""
    import_torchvision()
    import transformers

    sizes = {"vocab_size": 30, "n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": 8}
    folder = tmp_path_factory.mktemp("gpt")
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return folder


def save_nwb(path, responses):
    """Spikes whose rates follow responses, shape (2, n_stimuli, n_units)."""
    from pynwb import NWBHDF5IO, NWBFile

    draws, presented = np.random.default_rng(0), responses.reshape(-1, responses.shape[-1])
    file = NWBFile(session_description="test", identifier="1", session_start_time=datetime(2026, 1, 1, tzinfo=UTC))
    file.add_trial_column(name="image_id", description="image")
    for start in range(len(presented)):
        file.add_trial(start_time=float(start), stop_time=start + 0.5, image_id=start % responses.shape[1])
    for rates in 60 * np.exp(presented.T):
        times = [start + draws.uniform(0, 0.5, draws.poisson(rate)) for start, rate in enumerate(rates)]
        file.add_unit(spike_times=np.sort(np.concatenate(times)))
    with NWBHDF5IO(str(path), "w") as opened:
        opened.write(file)


@pytest.fixture(scope="module")
def imagenet_weights(tmp_path_factory):
    """Random weights under the names of trained ones."""
    folder = tmp_path_factory.mktemp("weights")
    for spec in ("torchvision:squeezenet1_1", *(f"timm:tf_efficientnet_lite{number}" for number in range(3))):
        state = {name: tensor.clone() for name, tensor in load_model(spec).state_dict().items()}
        save_file(state, folder / f"{spec.partition(':')[2]}.safetensors")
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch, generator, small_gpt, request):
    """A folder with the files that the documentation speaks of."""
    monkeypatch.chdir(tmp_path)
    for folder in ("examples", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    np.savez("images.npz", inputs=torch.rand(60, 3, 32, 32, generator=generator).numpy())
    signal = torch.randn(300, 100, generator=generator) / torch.arange(1, 101) ** 0.5
    np.save("v1.npy", (signal + 0.05 * torch.randn(2, 300, 100, generator=generator)).transpose(1, 2).numpy())
    repeats = (signal + 0.3 * torch.randn(3, 300, 100, generator=generator)).numpy()
    repeats[2, ::3] = np.nan
    np.save("v4.npy", repeats.transpose(2, 1, 0))
    shown = np.r_[np.arange(61).repeat(2), [60] * 8]
    np.random.default_rng(0).shuffle(shown)
    savemat(
        "natimg.mat",
        {"stim": {"resp": repeats[np.arange(len(shown)) % 2, shown], "istim": shown + 1, "spont": np.ones((5, 100))}},
    )
    for name, part in (("monday", repeats[..., :60]), ("tuesday", repeats[..., 60:])):
        np.savez(f"{name}.npz", responses=part[:2].reshape(600, -1), istim=np.tile(np.arange(300), 2))
    save_nwb(tmp_path / "session.nwb", repeats[:2, :40, :9])
    for folder in ("imagenet", "recordings"):
        if (data_root() / folder).exists():
            (tmp_path / folder).symlink_to(data_root() / folder)
    for index in range(30):
        folder = tmp_path / "photos" / ("a" if index % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (70, 80, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    ids, lengths = torch.randint(1, 30, (60, 8), generator=generator), torch.randint(3, 9, (60, 1), generator=generator)
    np.savez("texts.npz", input_ids=ids.numpy(), attention_mask=(torch.arange(8) < lengths).numpy())
    (tmp_path / "gpt_folder").symlink_to(small_gpt)
    if "schaeffer2020_fig2.yaml" in str(request.node.callspec.params.values()):
        (tmp_path / "weights").symlink_to(request.getfixturevalue("imagenet_weights"))
    (tmp_path / "my_network.py").write_text(
        "from torch import nn\n\ndef make(image_shape):\n"
        "    return nn.Sequential(nn.Conv2d(image_shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(20))\n"
    )
    return tmp_path


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_blocks(code, workplace):
    (workplace / "block.py").write_text(code)
    runpy.run_path(str(workplace / "block.py"))


def needs_real_data(words):
    from conftest import _NEEDED

    folders = [folder for folder in ("imagenet", "recordings") if any(f"{folder}/" in word for word in words)]
    folders += ["imagenet" for word in words if word.endswith(("schaeffer2020_fig2.yaml", "schaeffer2020_fig3_imagenet.yaml"))]
    return [name for name, path in _NEEDED.items() if name in words and not path.exists()] + [
        folder for folder in folders if not Path(folder).exists()
    ]


@pytest.mark.parametrize("script", list(blocks("bash")))
def test_commands(script, workplace, capsys):
    for line in script.replace("\\\n", " ").splitlines():
        for long, short in SMALLER.items():
            line = line.replace(long, short)
        words = shlex.split(line, comments=True)
        if not words or words[0] in ("make", "pip"):
            assert not words or words[:2] in (["make", "demo"], ["make", "test"], ["pip", "install"]), line
            continue
        missing = needs_real_data(words)
        if missing:
            pytest.skip(f"needs real data: {', '.join(missing)} under EIGENCODE_DATA")
        if words[0] == "eigencode":
            words, file = (words[: words.index(">")], words[words.index(">") + 1]) if ">" in words else (words, None)
            capsys.readouterr()
            assert cli.main(words[1:]) == 0, capsys.readouterr().err
            if file:
                Path(file).write_text(capsys.readouterr().out)
        else:
            assert words[0] == "python", line
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_tables_of_simulations_are_those_of_the_kept_rows():
    command = [sys.executable, "-m", "benchmarks.spectrum_bench", "tables"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    page = (ROOT / "docs" / "measured" / "index.md").read_text()
    tables = [table.strip() for table in done.stdout.split("\n\n") if table.strip()]
    assert len(tables) == 5
    for table in tables:
        assert table in page


def test_the_figure_of_simulations_draws_the_kept_rows():
    code = (
        "from benchmarks.spectrum_bench import figures, tables\n"
        "panels = figures.draw().axes\n"
        "names = [name for name in tables.kept_rows('exponents') if name.endswith(figures.FEW)]\n"
        "drawn = {line.get_label(): list(line.get_xdata()) for line in panels[0].lines}\n"
        "assert drawn['population spectrum'] == [tables.kept_rows('exponents')[name]['bias'] for name in names]\n"
        "assert drawn['Mestre 2008'] == [tables.kept_rows('estimators')[name]['mestre']['bias'] for name in names]\n"
        "assert [axes.get_title(loc='left') for axes in panels] == list('ABCD')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.drawn
def test_demo(tmp_path, monkeypatch, capsys):
    """What `make demo` runs, start to end."""
    words = "reproduce demo --store demo/store.sqlite --out demo"
    assert f"eigencode {words}" in (ROOT / "Makefile").read_text()
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 0
    record = json.loads((tmp_path / "demo" / "record.json").read_text())
    first, *others = (claim["verdict"] for claim in record["claims"])
    assert first == "holds"
    assert set(others) <= {"holds", "undecided"}  # two seeds decide little
    assert "8 of 8 cells are finished" in capsys.readouterr().err
    assert cli.main(words.split()) == 0  # again: nothing is run, and the report is renewed
    assert "(0 of them now" in capsys.readouterr().err
    record.pop("study")
    (tmp_path / "demo" / "record.json").write_text(json.dumps(record))
    assert cli.main(words.split()) == 1
    assert "holds results of something else" in capsys.readouterr().err


KEPT = {
    "gerum2022": ["fig1e", "fig2", "fig2d", "fig3a", "fig3d", "fig3g", "figS1", "line"],
    "jiang2020": ["fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "settings"],
    "schaeffer2020": ["fig2", "fig3", "fig3_imagenet", "fig4", "fig5", "fig6", "fig7", "fig8"],
}
"""Figures of which cells are kept beside the pages."""


@pytest.mark.parametrize("kept", sorted((ROOT / "docs" / "reproductions").glob("*.sqlite")), ids=lambda path: path.stem)
def test_pages_say_what_the_kept_cells_say(kept, tmp_path, monkeypatch):
    """Claims and published numbers of every figure whose cells are kept beside its page, word for word."""
    monkeypatch.setattr("eigencode.commands.report.drawn", lambda _figures: {})  # which takes longer than all else
    store = shutil.copy(kept, tmp_path)
    page, compared, told = kept.with_suffix(".md").read_text(), [], []
    for name, scale, changes in re.findall(
        r"^eigencode reproduce (\S+)(?: --scale (\w+))? --store \S+(?: --set \"(.*?)\")?", page, re.MULTILINE
    ):
        file = ROOT / name if name.endswith(".yaml") else None
        study = from_yaml(file) if file else load_study(name, scale)
        study = overridden(study, changes) if changes else study
        kept_cells = Store(store).cells([plan.identity for plan in study.cells()])  # those that diverged, too
        if kept_cells.empty:
            continue
        words = ["--set", changes, "--store", str(store), "--out", str(tmp_path / study.name)]
        assert cli.main(["report", *([str(file)] if file else [name, "--scale", scale]), *words]) == 0
        report = (tmp_path / study.name / "report.md").read_text().splitlines()
        figure = study.name.partition(".")[2]
        rows = [
            line
            for line in report
            if f"({figure}) |" in line or f"({figure}). " in line or re.match(r"\| ([A-Z]\d+[a-z]?|Fig\. \w+) \|", line)
        ]
        assert len(rows) >= 2 * len(claims_of(study))
        assert [line for line in rows if line not in page] == []
        told += rows
        compared.append(study.name.partition(".")[2])
    assert sorted(compared) == KEPT[kept.stem]
    for listed in kept.parent.glob(f"{kept.stem}_settings.csv"):
        figure = listed.stem.partition("_")[2]
        assert listed.read_text() == (tmp_path / f"{kept.stem}.{figure}" / "sensitivity.csv").read_text()
        rows = {
            (row["part"], row["found"], row["verdict"]) for row in pd.read_csv(listed, keep_default_na=False).to_dict("records")
        }
        findings = page.partition("## Numbers that the paper states")[0]
        judged = [line for line in findings.splitlines() if re.match(r"\| [JS]\d", line) and line not in told]
        shown = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in judged]
        assert shown or told
        assert not [row for row in shown if (row[0], row[2], row[4].strip("*")) not in rows]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reproductions").glob("*.md")), ids=lambda path: path.stem)
def test_cells_of_the_findings_can_be_read_at_a_glance(page):
    findings = page.read_text().partition("## The paper's findings")[2].partition("\n## ")[0]
    cells = [cell for line in findings.splitlines() if line.startswith("| ") for cell in re.split(r"(?<!\\) \| ", line)]
    assert cells
    assert not [cell for cell in cells if len(cell) > 160]


def test_every_example_says_how_it_is_run():
    for script in (ROOT / "examples").glob("*.py"):
        assert f"python examples/{script.name}" in script.read_text().split('"""')[1]


@pytest.mark.slow
def test_interval_check(tmp_path):
    script = ROOT / "examples" / "interval_check.py"
    words = ["--data", "digits", "--subsets", "1", "--counts", "300"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.split()[0] in ("relu3", "relu4", "pool2")]) >= 3


def test_every_reliability_flag_is_explained():
    page = (ROOT / "docs" / "how-to" / "attack.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    explained = {name: (meaning, remedy) for name, meaning, remedy in rows if name in FLAGS}
    assert explained == {name: (flag.meaning, flag.remedy) for name, flag in FLAGS.items()}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_judges_a_code():
    forbidden = re.compile(r"\bis (fractal|smooth)\b")
    assert not [page for page in PAGES if forbidden.search(page.read_text())]
