"""Names are text everywhere: in figures, on terminals, in Markdown, on pages and in spreadsheets."""

import csv
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import eigencode as ec
from eigencode import cli
from eigencode._text import for_figure, for_markdown, for_spreadsheet, printable
from eigencode.reports import plot_along_layers, plot_spectra, print_rows
from eigencode.reports.page import render_markdown

NAMES = [
    r"$\frac$",
    "$a$",
    "[/b]",
    "[red]x",
    "_hidden",
    "=cmd|' /C calc'!A0",
    "@sum(1)",
    "<script>alert(1)</script>",
    "a|b",
    "\x1b[31mred",
    "two\nlines",
    "right\u202eleft",
    "{x}",
    "%s",
    ":smile:",
    "naïve 层",
]

CODE = """
from torch import nn
NAMES = {names!r}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        for name in NAMES:
            self.add_module(name, nn.Linear(64, 64))
        self.last = nn.Linear(64, 10)
    def forward(self, x):
        x = self.flat(x)
        for name in NAMES:
            x = getattr(self, name)(x)
        return self.last(x)
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    (folder / "net.py").write_text(CODE.format(names=NAMES))
    data = folder / "a[v2] $x$ [b].npz"
    np.savez(data, inputs=np.random.default_rng(0).random((120, 1, 8, 8), dtype=np.float32))
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    words = [
        "measure",
        f"--model=file:{folder}/net.py:Net",
        f"--data=tensors:{data}",
        "--layers=all",
        "--ranks=2-20",
        "--half_samples=0",
    ]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that the font does not have
        assert cli.main([*words, f"--out={folder}/out"]) == 0
    return folder / "out", out.getvalue(), err.getvalue()


def test_terminal(measured):
    _, out, err = measured
    assert "\x1b" not in out + err
    assert "\u202e" not in out
    shown = "".join(out.split())
    for name in NAMES:
        assert "".join(printable(name).split()) in shown, name
    assert "a[v2]$x$[b].npz" in shown


def test_page(measured):
    page = (measured[0] / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_spreadsheet(measured):
    with (measured[0] / "summary.csv").open(newline="") as file:
        layers = [row["layer"] for row in csv.DictReader(file)]
    assert not any(name.startswith(("=", "@", "+", "-", "\t")) for name in layers)
    assert "'=cmd|' /C calc'!A0" in layers
    assert for_spreadsheet(pd.DataFrame({"=x": ["-1e-5", "-x", "+2", 3.0]})).to_dict("list") == {
        "'=x": ["-1e-5", "'-x", "+2", 3.0]
    }


def test_record_and_spectra_keep_the_names(measured):
    record = json.loads((measured[0] / "record.json").read_text())
    assert [row["layer"] for row in record["layers"]][: len(NAMES)] == NAMES
    assert list(ec.load_spectra(measured[0] / "spectra.parquet"))[: len(NAMES)] == NAMES


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_figures_draw_them(name):
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(100, 20, generator=generator)
    spectra = {name: ec.Eigenspectrum.from_activations(code, name=name)}
    figure = plot_spectra({name: spectra, "second": spectra}, ranks=(2, 10))
    figure.savefig("/dev/null", format="svg")
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend[:2] == [for_figure(name)] * 2
    summary = pd.DataFrame(
        {"condition": name, "layer": [name, "b"], "alpha": 1.0, "alpha_low": 0.9, "alpha_high": 1.1, "dimension": 3.0}
    )
    plot_along_layers(summary).savefig("/dev/null", format="png")


@pytest.mark.parametrize("name", NAMES)
def test_tables(name, capsys):
    print_rows(pd.DataFrame({name: [name]}), title=name)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "".join(printable(name).split()) in "".join(out.split())


def test_markdown():
    for name in NAMES:
        shown = for_markdown(name)
        assert "\n" not in shown
        assert "<" not in shown
    assert for_markdown("a|b [x](http://y) $z$") == r"a\|b [x]\(http://y) \$z\$"
    table = pd.DataFrame({"a|b": ["<script>"]})
    text = render_markdown(
        "study", record=dict.fromkeys(("ranks", "changes", "missing", "claims", "attack_warnings", "published", "windows", "settings", "sensitivity", "curves", "recording"))
        | {"title": "x", "study": "x", "scale": "own", "cells": 1, "hours": 1.0, "machines": ["a|b"]},
        results=table, perturbed={}, rows=table, sensitivity=table,
    )  # fmt: skip
    assert "&lt;script>" in text
    assert r"| a\|b |" in text
