import base64
import math
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch

from eigencode.errors import DataError
from eigencode.measurement.summary import summary_row
from eigencode.reports import claimed, plot_along_layers, plot_spectra, print_table, write_report
from eigencode.reports.records import MeasurementRecord
from eigencode.reports.tables import cells
from eigencode.spectra import Eigenspectrum, cvpca, load_spectra

pytestmark = pytest.mark.drawn

RANKS = (2, 30)


@pytest.fixture
def conditions(power_law_code):
    return {
        name: {layer: Eigenspectrum.from_activations(power_law_code(alpha, 100, 60), name=layer) for layer in ("conv<1>", "fc")}
        for name, alpha in (("clean", 1.0), ("noise", 0.5))
    }


@pytest.fixture
def summary(conditions):
    rows = [
        {"condition": condition, **summary_row(s, RANKS)} for condition, spectra in conditions.items() for s in spectra.values()
    ]
    rows.append({"condition": "noise", **summary_row(Eigenspectrum.from_activations(torch.eye(9), name="tiny"), RANKS)})
    return pd.DataFrame(rows)


@pytest.fixture
def record(summary):
    skipped = {"dead": "its output is the same for every input"}
    told = {"title": "A & B", "configuration": {"model": "x"}, "ranks": RANKS, "seed": 3}
    return MeasurementRecord(summary=summary, skipped=skipped, **told).as_dict()


def test_folder_holds_everything(tmp_path, conditions, summary, record):
    page = write_report(tmp_path / "out", conditions=conditions, summary=summary, record=record)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert files == [
        "figures/eigenspectra.png",
        "figures/eigenspectra.svg",
        "figures/layers.png",
        "figures/layers.svg",
        "record.json",
        "report.html",
        "spectra.parquet",
        "summary.csv",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    spectra = load_spectra(tmp_path / "out" / "spectra.parquet")
    assert list(spectra) == ["clean/conv<1>", "clean/fc", "noise/conv<1>", "noise/fc"]
    assert torch.equal(spectra["noise/fc"].eigenvalues, conditions["noise"]["fc"].eigenvalues)
    again = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert again["alpha"].to_list()[:4] == pytest.approx(summary["alpha"].to_list()[:4])
    text = page.read_text()
    assert "<h1>A &amp; B</h1>" in text
    assert "conv&lt;1&gt;" in text
    assert f"{summary['alpha'].iloc[0]:.3f}" in text
    assert "tiny: `ranks` (2, 30) goes beyond the numerical rank 8" in text
    assert "<code>dead</code>: its output is the same for every input." in text
    assert record["versions"]["eigencode"] in text
    assert record["hardware"]["processor"] in text


def test_page_needs_nothing_else(tmp_path, conditions, summary, record):
    text = write_report(tmp_path / "out", conditions=conditions, summary=summary, record=record).read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith("data:") for source in sources)
    figures = [source for source in sources if source.startswith("data:image/svg+xml;base64,")]
    assert len(figures) == 2
    assert all(b"<svg" in base64.b64decode(source.split(",", 1)[1]) for source in figures)
    assert "script" not in text


@pytest.mark.parametrize("word", ["fractal", "smooth"])
def test_no_output_judges_smoothness(tmp_path, conditions, summary, record, word, capsys):
    page = write_report(tmp_path / "out", conditions=conditions, summary=summary, record=record)
    print_table(summary, title="x")
    assert word not in page.read_text().lower()
    assert word not in capsys.readouterr().out.lower()


def test_files_can_be_read_by_others_and_nothing_else_is_left(tmp_path, conditions, summary, record):
    def write_more(folder):
        (folder / "components.safetensors").touch(mode=0o600)
        (folder / ".components.safetensors.lock").touch()  # whose removal has failed

    write_report(tmp_path / "out", conditions=conditions, summary=summary, record=record, write_more=write_more)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "out").iterdir() if path.is_file())
    assert not any(path.name.startswith(".") for path in (tmp_path / "out").iterdir())


def test_earlier_results_are_not_replaced_unasked(tmp_path, conditions, summary, record):
    folder = tmp_path / "out"
    with claimed(folder, overwrite=False):
        write_report(folder, conditions=conditions, summary=summary, record=record)
    (folder / "mine.txt").write_text("keep")
    told = f"--out: {folder} already holds results. Name another folder"
    assert _refused(folder, overwrite=False) == f"{told}, or pass --overwrite true."
    assert _refused(folder, overwrite=None) == f"{told}."
    with claimed(folder, overwrite=True):
        write_report(folder, conditions=conditions, summary=summary, record=record)
    assert (folder / "mine.txt").read_text() == "keep"
    (folder / "record.json").unlink()
    told = f"--out: {folder} holds spectra.parquet, which would be replaced. Name another folder, or pass --overwrite true."
    assert _refused(folder, overwrite=False) == told
    (folder / "record.json").write_text("[" * 100_000)
    assert _refused(folder, overwrite=False) == told
    file = folder / "mine.txt"
    assert _refused(file, overwrite=True) == f"--out: {file} is a file. Name a folder."
    told = f"--out: {file / 'sub'} cannot be written, since {file} is not a folder that you may write to."
    assert _refused(file / "sub", overwrite=True) == told


def _refused(folder, *, overwrite):
    with pytest.raises(DataError) as caught, claimed(folder, overwrite=overwrite):
        pass
    return str(caught.value)


def test_a_folder_is_one_runs_and_is_removed_if_it_stays_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    with claimed(folder, overwrite=False):
        code = f"from pathlib import Path\nfrom eigencode.reports import claimed\nwith claimed(Path({str(folder)!r}), overwrite=True): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        told = f"--out: another run is at work in {folder}. Wait until it has ended, or name another folder."
        assert other.stderr.splitlines()[-1] == f"eigencode.errors.DataError: {told}"
        assert folder.exists()
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_earlier_results(tmp_path, conditions, summary, record, monkeypatch):
    folder = tmp_path / "out"
    write_report(folder, conditions=conditions, summary=summary, record=record)
    before = (folder / "report.html").read_bytes()
    monkeypatch.setattr("eigencode.reports.page.plot_along_layers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(folder, conditions=conditions, summary=summary, record=record)
    assert (folder / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_figure_of_spectra(conditions, generator):
    signal = torch.randn(100, 60, generator=generator) * torch.arange(1, 61) ** -0.5
    recording = cvpca(signal + 0.1 * torch.randn(2, 100, 60, generator=generator), name="v1.npy")
    axes = plot_spectra(conditions, ranks=RANKS, recording=recording).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["conv<1>", "fc", "clean", "noise", "v1.npy", "fit window 2-30"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_recording_without_signal_is_drawn_as_nothing(conditions, generator):
    noise = cvpca(-torch.ones(2, 9, 5) + torch.tensor([1.0, -1.0])[:, None, None] * torch.randn(9, 5, generator=generator))
    assert noise.numerical_rank == 0
    plot_spectra(conditions, ranks=RANKS, recording=noise)


def test_many_layers_get_a_colour_bar(conditions):
    many = {f"layer{i}": conditions["clean"]["fc"] for i in range(40)}
    figure = plot_spectra({"net": many}, ranks=RANKS)
    assert figure.axes[0].get_legend() is None
    assert figure.axes[1].get_ylabel() == "layer, from layer0 (first) to layer39 (last)"


def test_figure_along_layers(summary):
    top, bottom = plot_along_layers(summary).axes
    assert top.get_lines()[0].get_ydata().tolist() == summary[summary["condition"] == "clean"]["alpha"].to_list()
    assert [tick.get_text() for tick in bottom.get_xticklabels()] == ["conv<1>", "fc", "tiny"]


def test_record_is_json_without_nan(record):
    import json

    assert json.loads(json.dumps(record, allow_nan=False))["layers"][-1]["alpha"] is None
    assert (record["ranks"], record["weights"], record["seed"]) == ([2, 30], "equal", 3)


def test_table(summary, capsys):
    print_table(summary, title="title")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert lines[2].split() == [
        "condition",
        "layer",
        "units",
        "rank",
        "α",
        "population",
        "α",
        "R²",
        "bend",
        "D",
        "population",
        "D",
        "first",
        "10",
        "how",
    ]
    assert "tiny" in lines[-2] or "tiny" in lines[-1]


@pytest.mark.parametrize(
    ("answer", "low", "high", "cell"),
    [
        ("bends", 12, 30, "0.70 to 1.40 at 20 (12 – 30)"),
        ("bends", 6, 50, "0.90 to 1.20"),
        ("no bend", 6, 50, "none"),
        ("cannot tell", 6, 50, "cannot tell"),
        ("", math.nan, math.nan, "–"),
    ],
)
def test_bends(summary, answer, low, high, cell):
    row = summary.iloc[0].to_dict() | {"power_law": answer, "break_rank": 20.0, "break_low": low, "break_high": high}
    row |= {"first_rank": 6, "last_rank": 50, "alpha_before": 0.7, "alpha_after": 1.4, "alpha_first": 0.9, "alpha_second": 1.2}
    assert cells(pd.Series(row))["bend"] == cell


def test_places_that_are_links_or_of_another_kind_are_taken(conditions, summary, record, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    write_report(out, conditions=conditions, summary=summary, record=record)
    (out / "figures").rename(elsewhere)
    (out / "figures").symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    write_report(out, conditions=conditions, summary=summary, record=record)
    assert not (out / "figures").is_symlink()
    assert sorted(elsewhere.iterdir()) == before
    assert sorted(path.name for path in (out / "figures").iterdir()) == sorted(path.name for path in before)


def test_new_results_replace_those_of_another_command(conditions, summary, record, tmp_path):
    out = tmp_path / "out"
    write_report(out, conditions=conditions, summary=summary, record=record)
    (out / "members").mkdir()
    (out / "members" / "seed0.safetensors").touch()
    (out / "history.csv").touch()
    (out / "report.md").write_text("perhaps my own")
    (out / "notes.txt").write_text("my own")
    write_report(out, conditions=conditions, summary=summary, record=record)
    left = {path.name for path in out.iterdir()}
    assert left == {"spectra.parquet", "summary.csv", "record.json", "report.html", "figures", "report.md", "notes.txt"}


def test_odd_folders_get_a_sentence(tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    os.mkfifo(odd / "record.json")
    with pytest.raises(DataError, match=r"holds record\.json, which would be replaced"), claimed(odd, overwrite=None):
        pass
    for told in ('{"configuration": 5}', '{"configuration": [1]}', "5"):
        hostile = tmp_path / "hostile"
        (hostile / ".whole").mkdir(parents=True)
        (hostile / ".whole" / "record.json").write_text(told)
        with pytest.raises(DataError), claimed(hostile, overwrite=False, configuration={"a": 1}):
            pass
        shutil.rmtree(hostile)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with (
        pytest.raises(DataError, match=r"is a link to a folder that does not exist\."),
        claimed(tmp_path / "link", overwrite=None),
    ):
        pass
    file = tmp_path / "file"
    file.mkdir()
    (file / ".partial").touch()
    with claimed(file, overwrite=None):
        assert not (file / ".partial").exists()
