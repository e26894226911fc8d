import errno
import json
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from scipy import stats

from command_line import run
from eigencode.commands.results import compared, filtered, grouped
from eigencode.errors import UsageError
from eigencode.studies import Store, from_yaml, load
from eigencode.studies.execution.group import CellRecord
from eigencode.studies.execution.readout import ROW
from eigencode.studies.results.claim import HOW_JUDGED


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with Jiang's whole study in its smallest size, and where its report is."""
    from eigencode import cli

    folder = tmp_path_factory.mktemp("studies")
    made = folder.parents[bool(os.environ.get("PYTEST_XDIST_WORKER"))] / "jiang_smoke"  # once for all processes of a run
    words = ["reproduce", "jiang2020", "--smoke", "--store", str(made / "store.sqlite"), "--out", str(made / "report")]
    with FileLock(f"{made}.lock"):
        assert made.exists() or cli.main(words) == 0
    return shutil.copytree(made, folder, dirs_exist_ok=True)


def smoke(store, command, name="jiang2020", *words):
    return [*command.split(), name, "--smoke", "--store", store / "store.sqlite", *words]


def test_list_and_show(capsys, tmp_path):
    status, out, _ = run(capsys, "study", "list", "--json")
    assert status == 0
    titles = {row["study"]: row["what"] for row in json.loads(out)["rows"]}
    assert titles["jiang2020.fig5"] == "Exponent against accuracy, layer by layer"
    status, out, _ = run(capsys, "study", "show", "jiang2020.fig5", "--scale", "paper", "--set", "seeds=3")
    (tmp_path / "mine.yaml").write_text(out)
    assert status == 0
    assert from_yaml(tmp_path / "mine.yaml").blocks[0].plan == load("jiang2020.fig5", "paper").blocks[0].plan
    assert from_yaml(tmp_path / "mine.yaml").blocks[0].seeds == (0, 1, 2)


def test_plan_counts_what_is_finished(capsys, store):
    status, out, _ = run(capsys, *smoke(store, "study plan", "jiang2020", "--json"))
    rows, groups = (json.loads(out)[name] for name in ("rows", "groups"))
    assert status == 0
    assert sum(int(row["cells"]) for row in rows) == sum(len(group["cells"]) for group in groups) == 10
    assert {cell["network.options.width"] for group in groups for cell in group["cells"]} == {50, 200, 400}
    assert not any(cell["to run"] for group in groups for cell in group["cells"])
    assert {row["to run"] for row in rows} == {0}
    _, out, _ = run(capsys, *smoke(store, "study plan", "jiang2020.fig6", "--set", "member.learning_rate=0.2"))
    assert "2 cells in 1 group, 2 to run" in " ".join(out.split())


def test_a_plan_says_what_a_pilot_leaves_undecided(capsys, tmp_path):
    """Of the kept networks of Gerum's Fig. 3d, two of each setting."""
    kept = shutil.copy(Path(__file__).parents[2] / "docs/reproductions/gerum2022.sqlite", tmp_path)
    status, _, err = run(capsys, "study", "plan", "gerum2022.fig3d", "--store", kept, "--set", "seeds=4")
    assert status == 0
    (line,) = [line for line in err.splitlines() if line.startswith("G6b ")]
    assert re.fullmatch(r"G6b is undecided so far: strong minus .*, n = 2; about 3 would decide it\.", line)
    ratio = (stats.t.ppf(0.975, 3) / 2) / (stats.t.ppf(0.975, 1) / 2**0.5)
    assert err.splitlines()[-1] == (
        f"With 4 networks of each setting, as planned, intervals of means will be {ratio:.2g} times as wide."
    )


def test_run_tells_what_was_new(capsys, store):
    status, out, err = run(capsys, *smoke(store, "study run", "jiang2020.fig6"))
    assert (status, out) == (0, "")
    assert err.startswith("2 of 2 cells are finished (0 of them now")


def test_report_has_claims_figures_and_data(capsys, store):
    record = json.loads((store / "report" / "record.json").read_text())
    assert [claim["claim"] for claim in record["claims"]] == [f"J{number}" for number in range(1, 11)]
    assert {claim["verdict"] for claim in record["claims"]} <= {"holds", "does not hold", "undecided", "not tested"}
    parts = [part for claim in record["claims"] for part in claim["parts"]]
    assert all(part["found"] and part["says"] for part in parts)
    assert not any(part["verdict"] in ("holds", "does not hold") for part in parts)  # on digits, which are not the paper's
    assert any(part["found"].startswith("not tested on mnist; on digits: ") for part in parts)
    figures = {path.stem for path in (store / "report" / "figures").iterdir()}
    assert {f"jiang2020.fig{number}" for number in range(2, 9)} <= figures
    page = (store / "report" / "report.html").read_text()
    assert HOW_JUDGED.replace("'", "&#39;") in page
    assert HOW_JUDGED in (store / "report" / "report.md").read_text()
    assert "smoke" in page
    assert "chosen: 200" in page
    lines = (store / "report" / "report.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| J")]
    assert [line.split()[1] for line in rows] == [part["part"] for part in parts]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert [row["paper"] for row in record["published"]] == ["0.95 to 1", "0.56", "0.86", "1.04"]
    assert len(pd.read_parquet(store / "report" / "results.parquet")) > 1000
    status, out, _ = run(capsys, *smoke(store, "report", "jiang2020.fig5", "--out", store / "five", "--json"))
    assert [claim["claim"] for claim in json.loads(out)["claims"]] == ["J4", "J5"]
    assert status == 0


def test_a_figure_and_its_claims_stand_together_with_a_caption_in_words(store):
    page = (store / "report" / "report.html").read_text()
    caption = "Fig. 6. Gaussian noise at the input of each layer."
    assert page.count(f'alt="{caption}') == page.count(f"<figcaption>{caption}") == 1
    after = page.partition(f"<figcaption>{caption}")[2].partition("<figure>")[0]
    assert "<b>J6 not tested.</b> Noise lowers accuracy and α, less in deeper layers." in after
    assert "<b>J7 " in after
    assert "J5 " not in after


def test_a_recording_stands_beside_networks(capsys, store, tmp_path):
    draw = np.random.default_rng(0)
    signal = draw.standard_normal((300, 30)) * np.arange(1, 31) ** -0.5
    np.save(tmp_path / "two.npy", np.stack([(signal + 0.3 * draw.standard_normal(signal.shape)).T for _ in range(2)]))
    words = ["--recording", tmp_path / "two.npy", "--out", tmp_path / "report"]
    assert run(capsys, *smoke(store, "report", "jiang2020.fig3", *words))[0] == 0
    told = json.loads((tmp_path / "report" / "record.json").read_text())["recording"]
    assert (told["neurons"], told["stimuli"]) == (30, 300)
    assert told["signal"]["alpha"]["low"] < 1 < told["signal"]["alpha"]["high"]
    assert re.fullmatch(r"α \d\.\d\d \[\d\.\d\d, \d\.\d\d\] of what repeats share, by its moments", told["told"])
    for name in ("report.html", "report.md"):
        assert told["told"] in (tmp_path / "report" / name).read_text()
    status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig5", *words[:2], "--out", tmp_path / "five"))
    assert (status, err) == (
        2,
        "eigencode: --recording is drawn in jiang2020.fig3, gerum2022.fig1e, schaeffer2020.fig4 and in their papers' studies; "
        "jiang2020.fig5 has no such figure.\n",
    )
    status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig3", "--recording_axes", "neurons,stimuli"))
    assert (status, err) == (2, "eigencode: --recording_axes would do nothing here: it is read with --recording. Leave it out.\n")
    assert not (tmp_path / "five").exists()
    words = ["--recording", "nowhere.npy", "--store", tmp_path / "new.sqlite", "--out", tmp_path / "new"]
    status, _, err = run(capsys, "reproduce", "jiang2020.fig3", "--smoke", *words)
    assert (status, "nowhere.npy" in err) == (1, True)
    assert not (tmp_path / "new.sqlite").exists()


def test_a_report_that_is_interrupted_at_its_end_says_where_it_is(capsys, store, tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("eigencode.commands.report.say_outdated", interrupted)
    status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig6", "--out", tmp_path / "report"))
    assert (status, err.splitlines()[-1]) == (130, f"eigencode: interrupted; all results are in {tmp_path / 'report'}.")
    assert (tmp_path / "report" / "record.json").exists()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_report_opens_in_a_browser_without_a_word_in_its_console(store):
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", "--v=0"]
    options = [f"--user-data-dir={store / 'browser'}", "--disable-background-networking", "--dump-dom"]
    page = f"file://{store / 'report' / 'report.html'}"
    done = subprocess.run([*browser, *options, page], capture_output=True, text=True, timeout=120, check=False)
    assert "Findings" in done.stdout
    assert ":CONSOLE" not in done.stderr


def test_results_are_filtered_grouped_and_exported(capsys, store, tmp_path):
    words = ["--where", "quantity=alpha perturbation=unperturbed width=200", "--group", "layer"]
    status, out, _ = run(capsys, *smoke(store, "results", "jiang2020", *words, "--json"))
    rows = json.loads(out)
    assert status == 0
    assert [row["layer"] for row in rows] == [f"layers.{number}" for number in range(8)]
    status, _, err = run(capsys, *smoke(store, "results", "jiang2020", *words[:2], "--export", tmp_path / "alpha.csv"))
    table = pd.read_csv(tmp_path / "alpha.csv")
    assert table.groupby("layer")["value"].mean().tolist() == pytest.approx([row["mean"] for row in rows])
    assert f"{len(table)} rows: {tmp_path / 'alpha.csv'}" in err
    run(capsys, *smoke(store, "results", "jiang2020", "--all_epochs", "--export", tmp_path / "all.parquet"))
    assert pd.read_parquet(tmp_path / "all.parquet")["epoch"].nunique() == 2


def test_an_export_replaces_exports_alone(capsys, store, tmp_path):
    for name in ("r.csv", "r.parquet"):
        for _ in range(2):
            status, _, err = run(capsys, *smoke(store, "results", "jiang2020", "--export", tmp_path / name))
            assert status == 0, err
    others = {"notes.csv": b"my notes\n1,2\n", "notes.parquet": b"PAR1", "binary.csv": b"\xff\0"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        status, _, err = run(capsys, *smoke(store, "results", "jiang2020", "--export", tmp_path / name))
        wanted = f"eigencode: --export: {tmp_path / name} already exists and is not an export of results. Name another file, or remove it.\n"
        assert (status, err) == (2, wanted)
        assert (tmp_path / name).read_bytes() == content


def test_kept_spectra_are_fitted_over_other_ranks(capsys, store, tmp_path):
    chosen = ["--where", "quantity=alpha perturbation=unperturbed layer=layers.0", "--json"]
    found = {}
    for ranks in ("1-10", "2-8", "jiang"):
        status, out, _ = run(capsys, *smoke(store, "results", "jiang2020.fig5", *chosen, "--ranks", ranks))
        assert status == 0
        found[ranks] = [row["value"] for row in json.loads(out)]
    status, out, _ = run(capsys, *smoke(store, "results", "jiang2020.fig5", *chosen))
    kept = [row["value"] for row in json.loads(out)]
    assert found["1-10"] == found["jiang"] == pytest.approx(kept, rel=1e-12)
    assert found["2-8"] != pytest.approx(kept, rel=1e-3)
    words = ["--ranks", "2-8", "--windows", "jiang,3-9,300-900", "--out", tmp_path / "report"]
    assert run(capsys, *smoke(store, "report", "jiang2020.fig5", *words))[0] == 0
    record = json.loads((tmp_path / "report" / "record.json").read_text())
    assert record["ranks"] == "2-8"
    rows = pd.DataFrame(record["windows"])
    assert set(rows["part"]) == {"J4a", "J4b", "J4c"}  # the other claim of this figure needs no exponent
    rows = rows[rows["part"] == "J4b"]
    assert rows["ranks"].tolist() == ["2-8", "1-10", "3-9", "300-900"]
    claims = json.loads((store / "report" / "record.json").read_text())["claims"]
    (original,) = [part for claim in claims for part in claim["parts"] if part["part"] == "J4b"]
    assert rows.set_index("ranks").loc["1-10", ["found", "verdict"]].tolist() == [original["found"], original["verdict"]]
    assert rows["verdict"].iloc[3] == "not tested"
    assert "no spectrum of the finished cells reaches so far" in rows["found"].iloc[3]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Exponents over ranks 2-8, fitted to the kept spectra" in text
    assert "\n\n## Findings" in text
    assert "| J4b | 3-9 |" in text
    for others in ([], ["--ranks", "3-8"]):
        status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig5", *others, "--out", tmp_path / "report"))
        assert (status, err.count("\n")) == (1, 1)
        assert "holds the report over other ranks. Name another folder." in err
    assert run(capsys, *smoke(store, "report", "jiang2020.fig5", *words))[0] == 0
    for wrong, message in (
        (["--ranks", "300-900"], "no spectrum of the finished cells reaches so far"),
        (["--windows", "3"], "--windows takes windows such as 3-30,10-50; got '3'"),
    ):
        status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig5", *wrong, "--out", tmp_path / "other"))
        assert (status > 0, err.count("\n")) == (True, 1)
        assert message in err


def test_a_report_tells_what_was_changed_and_keeps_to_its_cells(capsys, store, tmp_path):
    out = ["--out", tmp_path / "report"]
    assert run(capsys, *smoke(store, "report", "jiang2020.fig5", "--set", "seeds=1", *out))[0] == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "scale smoke (cpu, changed: seeds=1): " in text
    assert "| `training.epochs` | 2 | shrunk here; as the study comes: chosen: 60" in text
    status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig5", *out))
    assert (status, err.count("\n")) == (1, 1)
    assert "holds the report of other cells. Name another folder." in err


def test_results_say_what_they_average_over(capsys, store):
    chosen = ["--where", "quantity=alpha perturbation=unperturbed"]
    _, _, err = run(capsys, *smoke(store, "results", "jiang2020", *chosen, "--group", "layer"))
    assert "Averaged over width (3 values): name them in --group" in err
    _, _, err = run(capsys, *smoke(store, "results", "jiang2020", *chosen, "--group", "layer,width"))
    assert "Averaged" not in err
    status, _, err = run(capsys, *smoke(store, "results", "jiang2020", "--where", "quantity=alhpa"))
    assert (status, err.count("\n")) == (2, 1)
    assert "no row has quantity 'alhpa'. There are accuracy, alpha," in err


def made_up_accuracies():
    """Accuracies of networks with two baselines that differ, and gains that grow with the target."""
    rows = []
    for seed, own in enumerate([0.90, 0.80, 0.85]):
        for data in ("mnist", "cifar10"):
            for target, gain in ((math.nan, 0.0), (1.0, 0.01 + 0.002 * seed), (2.0, 0.02)):
                beta = 0.0 if math.isnan(target) else 1.0
                value = own + gain - (0.3 if data == "cifar10" else 0.0)
                about = {"cell": f"{data}{seed}{target}", "network": f"{data}{seed}{target}", "data": data, "seed": seed}
                where = {"layer": None, "perturbation": "held_out", "strength": 0.0, "epoch": 3, "quantity": "accuracy"}
                rows.append({**about, **where, "value": value, "beta": beta, "target": target})
    return pd.DataFrame(rows)


def test_results_less_those_of_other_networks_are_paired():
    rows, alone = compared(made_up_accuracies(), "beta=0")
    assert (len(rows), alone) == (12, 0)
    table = grouped(rows, "target,data", intervals=True).set_index(["target", "data"])
    assert table["mean"].to_dict() == pytest.approx(
        {(1.0, "mnist"): 0.012, (1.0, "cifar10"): 0.012, (2.0, "mnist"): 0.02, (2.0, "cifar10"): 0.02}
    )
    half = 4.302652729911275 * 0.002 / math.sqrt(3)  # Student's t of two degrees of freedom
    assert table.loc[(1.0, "mnist"), ["low", "high", "count"]].tolist() == pytest.approx([0.012 - half, 0.012 + half, 3])
    assert grouped(rows, "target", intervals=True)["low"].isna().all()  # six values of three seeds are not six networks
    rows, alone = compared(made_up_accuracies(), "target=1")
    assert (len(rows), alone) == (12, 0)  # the baselines too
    rows, alone = compared(made_up_accuracies(), "data=mnist target=1")
    assert rows[rows["data"] == "cifar10"].groupby("target")["value"].mean().tolist() == pytest.approx([-0.3, -0.292])
    fewer = made_up_accuracies().query("seed > 0 or beta > 0")
    rows, alone = compared(fewer, "beta=0")
    assert (len(rows), alone) == (8, 4)
    without = made_up_accuracies().query("data == 'mnist' or beta > 0")  # baselines of one data set are not those of another
    rows, alone = compared(without, "beta=0")
    assert (set(rows["data"]), len(rows), alone) == ({"mnist"}, 6, 6)
    sooner = made_up_accuracies()
    sooner["epoch"] = sooner["epoch"].mask(sooner["beta"] == 0, 10)  # each network's last
    assert compared(sooner, "beta=0")[1] == 0
    assert compared(made_up_accuracies(), "beta=0", "data=mnist target=2")[1] == 0
    for wrong, message in {
        "perturbation=held_out": "--against: there are no rows but those of perturbation=held_out. Name the networks to compare",
        "beta=3": "--against: no row has beta '3'. There are 0, 1.",
        "beta": "--against takes column=value; got 'beta'.",
        "beta=0 seed=1": "--against: seeds are what is paired. Name networks by other columns, such as beta=0.",
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            compared(made_up_accuracies(), wrong)
    twice = made_up_accuracies().assign(beta=0.0)
    twice.loc[0, "beta"] = 1.0
    with pytest.raises(UsageError, match=r"--against: several networks of one seed have beta=0\. Name more of their columns\."):
        compared(twice.drop(columns=["target"]), "beta=0")


def test_results_command_compares(capsys, store):
    chosen = ["--where", "quantity=accuracy perturbation=held_out", "--group", "layer,width"]
    _, out, _ = run(capsys, *smoke(store, "results", "jiang2020.fig4", *chosen, "--json"))
    means = {(row["layer"], row["width"]): row["mean"] for row in json.loads(out)}
    status, out, _ = run(capsys, *smoke(store, "results", "jiang2020.fig4", *chosen, "--against", "width=200", "--json"))
    rows = {(row["layer"], row["width"]): row for row in json.loads(out)}
    assert status == 0
    assert {width for _, width in rows} == {width for _, width in means} - {200}
    for (layer, width), row in rows.items():
        assert row["mean"] == pytest.approx(means[layer, width] - means[layer, 200])
        assert row["low"] <= row["mean"] <= row["high"]
    _, out, _ = run(capsys, *smoke(store, "results", "jiang2020.fig4", *chosen, "--against", "width=200"))
    assert "jiang2020.fig4 (smoke), less width=200 of the same seed: " in " ".join(out.split())


def test_results_are_chosen_as_they_are_shown_and_stand_in_order():
    names = {"layer": ["layers.2", "layers.10"], "strength": [8 / 255, 1.0, 0.0, 2 / 255], "seed": [10001, 10002]}
    rows = pd.MultiIndex.from_product(names.values(), names=list(names)).to_frame(index=False).assign(quantity="alpha", value=1.0)
    chosen = filtered(rows, "strength=0.007843,1 layer=layers.10")
    assert (len(chosen), set(chosen["strength"])) == (4, {2 / 255, 1.0})
    table = grouped(rows, "layer,strength")
    assert list(table["layer"].unique()) == ["layers.2", "layers.10"]
    assert list(table["strength"]) == 2 * [0.0, 2 / 255, 8 / 255, 1.0]
    wrong = {
        "layer=layers.2,strength=1": "no row has layer 'strength=1'. There are layers.10, layers.2. Spaces stand between",
        "strength=1,0.5": "no row has strength '0.5'. There are 0, 0.007843, 0.03137, 1.",
        "seed=10003": "no row has seed '10003'",
        "strength=weak": "strength is a number; got 'weak'.",
    }
    for words, message in wrong.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            filtered(rows, words)


@pytest.mark.drawn
def test_a_study_of_ones_own_has_a_report_too(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "from eigencode import models\ndef make(image_shape): return models.load('gerum_shallow_mlp', image_shape=image_shape)\n"
    )
    (tmp_path / "net.py").write_text(code)
    words = "training.epochs=2 seeds=2 images.train_count=200 reading.perturbations=[] grid.member.target=1,2"
    words += " network.model=file:net.py:make"
    _, out, _ = run(capsys, "study", "show", "demo", "--set", words)
    (tmp_path / "mine.yaml").write_text(out.replace("name: demo", "name: mine"))
    assert run(capsys, "study", "run", "mine.yaml", "--store", "mine.sqlite")[0] == 0
    beyond = ["--set", "reading.ranks=[2,600]"]
    _, _, err = run(capsys, "study", "run", "mine.yaml", "--store", "mine.sqlite", *beyond)
    assert "6 networks have no exponent at tanh1, whose dimensions `reading.ranks` reach beyond." in err
    status, out, _ = run(capsys, "report", "mine.yaml", "--store", "mine.sqlite", "--out", "mine")
    assert status == 0
    assert out.count("±") == 9  # accuracy, exponent and dimension of a baseline and two targets
    assert (tmp_path / "mine" / "figures" / "spectra.png").exists()
    status, *_ = run(capsys, "results", "mine.yaml", "--store", "mine.sqlite", "--group", "target", "--export", "mine.csv")
    assert status == 0
    assert pd.read_csv("mine.csv").groupby("target", dropna=False)["count"].sum().shape == (3,)  # the baseline has no target
    later = time.time() + 5
    os.utime("net.py", (later, later))
    for command in (["study", "plan"], ["study", "run"], ["report"]):
        _, _, err = run(
            capsys, *command, "mine.yaml", "--store", "mine.sqlite", *(["--out", "mine"] if command == ["report"] else [])
        )
        assert "net.py was changed after 6 of the cells were finished. Run them again with --again." in err


def test_a_plan_says_what_cannot_start(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "study", "plan", "demo", "--set", "images.data=cifar100")
    assert status == 0
    assert err.startswith("8 cannot start: load: no data set is called 'cifar100'.")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["results", "--store", "my store.sqlite"],
            2,
            "name a study, such as jiang2020.fig5, or a YAML file. See them all, and what the store has of them, with: "
            "eigencode study list --store 'my store.sqlite'",
        ),
        (["study", "run", "jiang1999"], 1, "No study is called 'jiang1999'. There are jiang2020"),
        (["reproduce", "jiang2020.fig99"], 1, "jiang2020 has no figure 'fig99'. It has fig2,"),
        (["study", "run", "mine.yaml"], 1, "mine.yaml does not exist. Check the path."),
        (["study", "run", "jiang2020.fig6", "--set", "training.epoch=3"], 2, "--set: a study has no field 'epoch' here"),
        (["study", "run", "jiang2020.fig6", "--set", "seeds=0"], 2, "the grid has no cells"),
        (["study", "plan", "demo", "--set", "training.epochs=1,2"], 2, "For several: grid.training.epochs=1,2"),
        (["study", "show", "demo", "--set", "grid.member.target="], 2, "--set takes field=value"),
        (["study", "show", "demo", "--set", "member.target=foo"], 2, "expected a number or layers and their numbers; got foo"),
        (["study", "plan", "demo", "--set", "reading.ranks=[30,2]"], 1, "reading: `ranks` must start at 1 or above and hold at"),
        (["study", "plan", "demo", "--set", "training.spectral.ranks=[9,2]"], 1, "training.spectral: `ranks` must start at 1"),
        (["study", "plan", "demo", "--set", "images.test_count=30"], 1, "reach beyond the 29 eigenvalues of a code of 30 images"),
        (
            ["study", "run", "jiang2020.fig6", "--address", "10.0.0.1:1"],
            2,
            "--address 10.0.0.1:1 is the address of a Ray cluster.",
        ),
        (["study", "merge"], 2, "name the store to copy from, such as: eigencode study merge theirs.sqlite"),
        (["study", "merge", "no.sqlite"], 1, "the store no.sqlite does not exist: nothing has been run into it yet."),
        (["study", "plan", "jiang2020.fig6", "--store", "nosuch://x"], 1, "Give a file, or the URL of a database whose driver"),
        (
            ["report", "jiang2020.fig6"],
            1,
            "no cell of jiang2020.fig6 (cpu) is finished in studies/store.sqlite. Run it with: eigencode study run jiang2020.fig6",
        ),
        (
            ["results", "demo", "--smoke", "--set", "training.epochs=1 seeds=1"],
            1,
            "eigencode study run demo --smoke --set 'training.epochs=1 seeds=1' --store studies/store.sqlite",
        ),
        (["report", "demo", "--windows", "3-10"], 2, "--windows: the claims of demo need no exponents, or those over"),
        (
            ["study", "plan", "demo", "--set", "training.spectral.ranks=[2,300]"],
            1,
            "training.spectral: `ranks` 2-300 need batches of 301 images; got 150.",
        ),
    ],
)
def test_bad_input_is_one_sentence(capsys, words, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words[0] in ("report", "results"):
        Store("studies/store.sqlite")
    found, out, err = run(capsys, *words)
    assert (found, out) == (status, "")
    assert err.startswith("eigencode: ")
    assert err.count("\n") == 1
    assert message in err


def test_results_refuse_what_is_not_there(capsys, store):
    for words, message in (
        (["--where", "colour=red"], "--where: there is no column 'colour'."),
        (["--group", "colour"], "--group: there is no column 'colour'."),
        (["--export", "x.xls"], "--export must be a .csv or .parquet file; got x.xls."),
    ):
        status, out, err = run(capsys, *smoke(store, "results", "jiang2020.fig6", *words))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_a_report_holds_its_study_and_a_refusal_tells_other_scales(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: ''\nblocks:\n- plan: {training: {epochs: 1, batch_size: 90}, reading: {ranks: [2, 10], count: 90}}\n"
    )
    status, _, err = run(capsys, "reproduce", "mine.yaml", "--store", "mine.sqlite", "--out", "mine")
    assert status == 0, err
    written = (tmp_path / "mine" / "report.md").read_text()
    for row in ("| `training.epochs` | 1 |", "| `training.batch_size` | 90 |", "| `member.learning_rate` | 0.0001 |"):
        assert row in written
    assert from_yaml(tmp_path / "mine" / "study.yaml").cells() == from_yaml(tmp_path / "mine.yaml").cells()
    plan = load("demo", "quick").cells()[0]
    Store("demo.sqlite").save([CellRecord(plan, pd.DataFrame([("", "held_out", 0.0, 1, "accuracy", 1.0)], columns=ROW))])
    status, _, err = run(capsys, "results", "demo", "--scale", "paper", "--store", "demo.sqlite", "--set", "training.epochs=9")
    assert status == 1
    assert "It has 1 of 8 cells of --scale cpu. Run it with: " in err


def test_failures_are_told_by_all_who_look(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--smoke", "--set", "seeds=1 reading.layers=nowhere", "--store", "mine.sqlite"]
    assert run(capsys, "study", "run", *words)[0] == 1
    _, _, err = run(capsys, "study", "plan", *words)
    assert re.search(r"3 failed: .*nowhere.*[^.]\. Run them again with --retry\.", err)
    for command in ("report", "results"):
        status, _, err = run(capsys, command, *words)
        assert (status, err.count("\n")) == (1, 1)
        assert re.search(r"no cell of demo \(smoke\) is finished in mine.sqlite: 3 failed: .*nowhere.* --retry\n", err)


def test_files_that_must_be_brought_are_told_before(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, _, err = run(capsys, "study", "plan", "demo", "--set", "network.weights=none.pt")
    assert "4 cannot start: none.pt does not exist. Bring it, or check the path." in err
    _, _, err = run(capsys, "study", "plan", "schaeffer2020.fig2", "--set", "images.data=image_folder:nowhere")
    assert err == "11 cannot start: nowhere does not exist. Bring it, or check the path.\n"


def test_a_papers_study_that_was_edited_is_ones_own(capsys, tmp_path, monkeypatch):
    """Even if it keeps the paper's name; figures that its networks cannot fill are named, and left out."""
    monkeypatch.chdir(tmp_path)
    for name, scale in (("jiang2020.fig5", "paper"), ("demo", "quick")):
        _, text, _ = run(capsys, "study", "show", name, "--scale", scale)
        (tmp_path / "same.yaml").write_text(text)
        assert run(capsys, "study", "plan", "same.yaml")[1].split("\n")[0].startswith(f"{name} ({scale})")
        (tmp_path / "edited.yaml").write_text(re.sub(r" epochs: \d+", " epochs: 1", text))
        assert run(capsys, "study", "plan", "edited.yaml")[1].split("\n")[0].startswith(f"{name} (own)")
    (tmp_path / "edited.yaml").write_text(
        re.sub(r" epochs: \d+", " epochs: 1", text).replace("name: demo", "name: jiang2020.fig2")
    )
    status, _, err = run(capsys, "reproduce", "edited.yaml", "--set", "seeds=1", "--store", "mine.sqlite", "--out", "mine")
    assert status == 0
    assert "Not drawn: jiang2020.fig2 needs what these cells lack." in err
    (tmp_path / "edited.yaml").write_text(re.sub(r" epochs: \d+", " epochs: 1", text))
    assert run(capsys, "reproduce", "edited.yaml", "--store", "mine.sqlite", "--out", "two")[0] == 0
    told = (tmp_path / "two" / "report.md").read_text()
    assert "demo, scale own (not demo as it comes): 8 cells finished" in told
    assert "| `training.epochs` | 1 | changed here;" in told
    assert "| changed here; as the study comes: chosen: what takes seconds |" in told
    assert told.count("changed here") == 1


def test_a_report_on_a_full_disk_is_not_begun(capsys, store, tmp_path, monkeypatch):
    def full(*_words, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    status, _, err = run(capsys, *smoke(store, "report", "jiang2020.fig5", "--out", tmp_path / "report"))
    assert (status, err.count("\n")) == (1, 1)
    assert "(No space left on device). Make room, or name another folder." in err
    assert not (tmp_path / "report").exists()


def test_the_file_of_a_configuration_names_the_study(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, text, _ = run(capsys, "study", "plan", "demo", "--smoke", "--print_config")
    (tmp_path / "plan.yaml").write_text(text)
    assert run(capsys, "study", "--config", "plan.yaml")[1].startswith("demo (smoke): 6 cells")
    assert run(capsys, "study", "show", "--config=plan.yaml")[1].startswith("name: demo\n")
    assert run(capsys, "study", "plan", "jiang2020.fig6", "--config", "plan.yaml")[1].startswith("jiang2020.fig6 (smoke)")


def test_looking_makes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "study", "plan", "demo")[0] == 0
    for command in ("report", "results"):
        status, _, err = run(capsys, command, "demo")
        assert status == 1
        assert "the store studies/store.sqlite does not exist: nothing has been run into it yet." in err
    assert not list(tmp_path.iterdir())


def test_merge(capsys, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["study", "merge", store / "store.sqlite", "--store", "mine.sqlite"]
    count = len(Store(store / "store.sqlite").finished())
    status, out, err = run(capsys, *words)
    assert (status, out) == (0, "")
    assert err.startswith(f"{count} cells of {store / 'store.sqlite'} were copied into mine.sqlite, which has {count} now.")
    status, out, _ = run(capsys, *words, "--json")
    assert json.loads(out) == {"copied": 0, "cells": count}
    status, _, err = run(capsys, "study", "run", "jiang2020", "--smoke", "--store", "mine.sqlite")
    assert (status, "(0 of them now," in err) == (0, True)
