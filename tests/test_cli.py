import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import eigencode as ec
from eigencode import cli
from eigencode.errors import EigencodeError


def run(capsys, *words):
    """Exit status, stdout and stderr of a command in this process."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "eigencode.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


MLP = ["--model", "gerum_shallow_mlp", "--count", 60, "--ranks", "jiang", "--layers", "hidden1,tanh1"]


class TestAttack:
    @pytest.fixture
    def weights(self, tmp_path, trained_mlp):
        save_file(trained_mlp.state_dict(), tmp_path / "mlp.safetensors")
        return ["--weights", tmp_path / "mlp.safetensors"]

    def test_json_agrees_with_the_library(self, capsys, weights, trained_mlp):
        words = ["--perturbation", "pgd", "--steps", 5, "--strengths", "0:0.2:0.1", "--probe", 20, "--json", "--seed", 2]
        status, out, _ = run(capsys, "attack", *MLP, *weights, *words)
        assert status == 0
        record = json.loads(out)
        images = ec.datasets.load("digits", count=60, seed=2)
        found = ec.perturbed_spectra(
            trained_mlp,
            images,
            ec.attacks.PGD(steps=5, seed=2),
            strengths=[0, 0.1, 0.2],
            layers=["hidden1", "tanh1"],
            probe=20,
            seed=2,
        )
        expected = found.summary("jiang")
        rows = pd.DataFrame(record["layers"])
        for column in ("condition", "layer", "accuracy", "alpha", "alpha_low", "dimension", "flags"):
            assert rows[column].to_list() == expected[column].to_list()
        assert [point["accuracy"] for point in record["curves"]["pgd"]] == [p.accuracy for p in found.curve.points]
        assert record["perturbations"] == ["unperturbed", "pgd"]

    def test_folder_of_several_perturbations(self, capsys, weights, tmp_path):
        words = ["--perturbation", "gaussian,fgsm", "--strengths", "0.1, 2/10", "--out", tmp_path / "out"]
        status, out, err = run(capsys, "attack", *MLP, *weights, *words)
        assert status == 0
        assert out.count("unperturbed") == 2
        assert f"Report: {tmp_path / 'out' / 'report.html'}" in err
        files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
        figures = ["accuracy_against_alpha", "examples_fgsm", "examples_gaussian", "response", "spectra_fgsm", "spectra_gaussian"]
        assert files == [
            *(f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")),
            "record.json",
            "report.html",
            "spectra.parquet",
            "summary.csv",
        ]
        spectra = ec.load_spectra(tmp_path / "out" / "spectra.parquet")
        labels = ("unperturbed", "gaussian 0.1", "gaussian 0.2", "fgsm 0.1", "fgsm 0.2")
        assert list(spectra) == [f"{label}/{layer}" for label in labels for layer in ("hidden1", "tanh1")]
        assert json.loads((tmp_path / "out" / "record.json").read_text())["flags"] is not None

    def test_components_are_saved_and_used_again(self, capsys, weights, tmp_path):
        words = ["attack", *MLP, *weights, "--strengths", "4,20", "--json"]
        status, first, _ = run(capsys, *words, "--perturbation", "pca", "--out", tmp_path / "one")
        assert status == 0
        saved = tmp_path / "one" / "components.safetensors"
        assert json.loads(first)["components"] == {"source": "digits/train", "images": 1297, "rank": 61}
        status, second, _ = run(capsys, *words, "--perturbation", "pca", "--components", saved)
        assert status == 0
        assert json.loads(second)["layers"] == json.loads(first)["layers"]
        status, third, _ = run(capsys, *words[:-2], "0,0.1", "--json", "--perturbation", "zca", "--components", saved)
        assert [row["condition"] for row in json.loads(third)["layers"]][::2] == ["unperturbed", "zca 0", "zca 0.1"]

    @pytest.mark.parametrize("kind", ["layer_gaussian", "layer_fgsm"])
    def test_layers(self, capsys, kind):
        words = [
            "attack",
            "--model",
            "jiang_mlp",
            "--count",
            60,
            "--ranks",
            "jiang",
            "--perturbation",
            kind,
            "--strengths",
            "0.5",
        ]
        status, out, _ = run(capsys, *words, "--json")
        rows = pd.DataFrame(json.loads(out)["layers"])
        assert status == 0
        assert rows["layer"].to_list() == [f"layers.{layer}" for layer in range(8)] * 2
        assert rows["accuracy"].nunique() > 3

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (
                ["--strengths", "0:-1:0.1"],
                2,
                "--strengths must be first:last:step such as 0:0.2:0.01, or numbers such as 0,2/255,4/255",
            ),
            (["--strengths=-0.1,0.2"], 2, "none of them negative, 1000 at most; got '-0.1,0.2'"),
            (["--strengths", "1/0"], 2, "got '1/0'"),
            (["--strengths", "1e999"], 2, "got '1e999'"),
            (["--probe", -1], 2, "--probe must be at least 0; got -1."),
            (["--perturbation", "gaussian,layer_fgsm"], 2, "layer_fgsm is read at the layer that it attacks"),
            (["--strengths", "0:1:0.0001"], 2, "1000 at most"),
            (["--perturbation", "blur"], 2, "no perturbation is called 'blur'"),
            (["--perturbation", "art:Nothing"], 2, "the toolbox has no attack of this name"),
            (["--perturbation", "pgd", "--restarts", 3], 2, '`restarts` of 3 need start="random"'),
            (["--perturbation", "fgsm", "--strengths", "3"], 1, "fgsm: `epsilon` must lie in 0..1"),
            (
                ["--perturbation", "pca", "--strengths", "0,1"],
                1,
                "projection: `k` must be a whole number from 1 to 64, the pixels; got 0.",
            ),
            (["--layers", "hiden1"], 1, "no layer is called 'hiden1'"),
            (
                ["--perturbation", "pca", "--strengths", "3", "--components", "nowhere"],
                1,
                "nowhere does not exist. Check the path.",
            ),
            (["--perturbation", "layer_fgsm", "--loss_at", "local"], 1, "this network has none"),
        ],
    )
    def test_bad_input_is_one_sentence(self, capsys, words, status, message):
        found, out, err = run(capsys, "attack", *MLP, *words)
        assert found == status
        assert out == ""
        assert message in err
        assert err.startswith("eigencode: ")
        assert err.count("\n") == 1

    def test_yaml_takes_numbers_and_lists(self, capsys, tmp_path):
        (tmp_path / "attack.yaml").write_text("perturbation: [gaussian, fgsm]\nstrengths: [0.1, 0.2]\ncount: 60\nranks: jiang\n")
        status, out, _ = run(capsys, "attack", "--config", tmp_path / "attack.yaml", *MLP[:2], "--layers", "tanh1", "--json")
        assert status == 0
        conditions = [row["condition"] for row in json.loads(out)["layers"]]
        assert conditions == ["unperturbed", "gaussian 0.1", "gaussian 0.2", "fgsm 0.1", "fgsm 0.2"]
        (tmp_path / "binary.yaml").write_bytes(bytes([0xFF, 0xFE, 0x80]))
        message = "eigencode: --config must be a YAML file; got a binary one.\n"
        assert run(capsys, "attack", "--config", tmp_path / "binary.yaml")[::2] == (2, message)

    def test_needs_a_model(self, capsys):
        assert run(capsys, "attack")[::2] == (2, "eigencode: attack: there is nothing to attack. Name a network with --model.\n")

    def test_unlabelled_images(self, capsys, tmp_path):
        save_file({"inputs": torch.rand(60, 1, 8, 8)}, tmp_path / "images.safetensors")
        data = ["--data", f"tensors:{tmp_path / 'images.safetensors'}"]
        status, _, err = run(capsys, "attack", *MLP, *data, "--perturbation", "fgsm", "--strengths", "0.1")
        assert status == 1
        assert "fgsm: an attack needs labels, and 60 of them are missing. Add them." in err

    def test_empty_data_set(self, capsys, tmp_path):
        save_file({"inputs": torch.rand(0, 1, 8, 8)}, tmp_path / "images.safetensors")
        status, _, err = run(capsys, "attack", "--model", "gerum_cnn", "--data", f"tensors:{tmp_path / 'images.safetensors'}")
        assert status == 1
        assert "there are no images" in err


class TestConstruct:
    def test_set_record_and_page(self, capsys, tmp_path):
        words = ["--model", "gerum_cnn", "--count", 40, "--kind", "robust", "--steps", 3, "--out", tmp_path / "set"]
        status, out, err = run(capsys, "construct", *words)
        assert status == 0
        assert "accuracy_new_labels" in out
        assert "code_distance_at_end" in out
        images = ec.datasets.load(f"tensors:{tmp_path / 'set' / 'images.safetensors'}")
        assert (len(images), images.shape) == (40, (1, 8, 8))
        record = json.loads((tmp_path / "set" / "record.json").read_text())
        assert record["construction"]["steps"] == 3
        assert record["configuration"]["kind"] == "robust"
        page = (tmp_path / "set" / "report.html").read_text()
        assert record["model_sha256"] in page
        assert (tmp_path / "set" / "figures" / "preview.png").exists()
        assert "load them with --data tensors:" in err
        assert run(capsys, "construct", *words)[0] == 1  # the folder is full
        assert run(capsys, "construct", *words, "--overwrite", "--kind", "random_target", "--step_size", 0.5, "--json")[0] == 0

    def test_usage(self, capsys, tmp_path):
        assert run(capsys, "construct", "--model", "gerum_cnn")[0] == 2
        assert run(capsys, "construct", "--out", tmp_path)[0] == 2
        status, _, err = run(capsys, "construct", "--model", "gerum_cnn", "--out", tmp_path / "x", "--steps", 0)
        assert (status, err) == (2, "eigencode: construct: `steps` must be at least 1; got 0.\n")


TRAIN = ["train", "--model", "schaeffer_cnn", "--count", 300, "--epochs", 2, "--batch_size", 100, "--penalty.ranks", "jiang"]


class TestTrain:
    def test_grid_table_folder_and_weights(self, capsys, tmp_path):
        words = ["--penalty.target", "1,2", "--penalty.strength", "0,0.1", "--seeds", 2, "--robustness.attacks", "fgsm,pgd"]
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
        assert out.splitlines()[0] == "schaeffer_cnn trained on digits/train · 6 networks"
        table = pd.read_csv(tmp_path / "run" / "summary.csv")
        names = [
            f"target{target}_strength{strength}_seed{seed}"
            for target, strength in ((1, 0), (1, 0.1), (2, 0.1))
            for seed in (0, 1)
        ]
        names[:2] = ["strength0_seed0", "strength0_seed1"]
        assert table["network"].tolist() == names
        assert {"accuracy", "alpha (training)", "alpha (held out)", "fgsm 0.05", "pgd 0.1"} <= set(table)
        assert (table["fgsm 0.05"] <= table["accuracy"] + 0.2).all()
        assert pd.read_csv(tmp_path / "run" / "history.csv")["member"].nunique() == 6
        record = json.loads((tmp_path / "run" / "record.json").read_text())
        assert record["networks"] == names
        assert record["configuration"]["penalty"]["target"] == "1,2"
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

    def test_grouping_changes_nothing(self, capsys):
        words = ["--penalty.strength", 0.1, "--seeds", 3, "--json"]
        _, alone, _ = run(capsys, *TRAIN, *words, "--stack", 1)
        _, together, _ = run(capsys, *TRAIN, *words, "--stack", 3)
        first, second = (pd.DataFrame(json.loads(out)["outcome"]) for out in (alone, together))
        assert first["alpha (training)"].tolist() == pytest.approx(second["alpha (training)"].tolist(), rel=1e-3)
        assert first["accuracy"].tolist() == pytest.approx(second["accuracy"].tolist(), abs=0.02)

    def test_local_errors(self, capsys):
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

    def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(self, tmp_path):
        words = [*TRAIN, "--epochs", 10, "--penalty.strength", 0.1, "--measure_every", 10]
        assert command(*words, "--out", tmp_path / "whole").returncode == 0
        process = subprocess.Popen(
            [sys.executable, "-m", "eigencode.cli", *map(str, words), "--out", str(tmp_path / "killed")], stderr=subprocess.PIPE
        )
        states = tmp_path / "killed" / "states"
        for _ in range(600):
            if states.exists() and any(states.glob("group*")):
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

    def test_a_changed_command_does_not_go_on_from_another_run(self, capsys, tmp_path):
        from eigencode.training.saving import save_tensors

        save_tensors(tmp_path / "states" / "group-000.safetensors", {"a": torch.zeros(1)}, {"identity": {}})
        status, _, err = run(capsys, *TRAIN, "--out", tmp_path)
        assert status == 1
        assert "belongs to another run: its settings differ" in err
        assert run(capsys, *TRAIN, "--out", tmp_path, "--overwrite", "true")[0] == 0

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (["--penalty.target", "-1"], 2, "train: --penalty.target must be an exponent of at least 0; got -1."),
            (["--penalty.strength", "-1"], 2, "train: `strength` is the weight of a penalty and must be at least 0; got -1.0."),
            (["--penalty.target", "a,b"], 2, "--penalty.target must be a number, or several separated by commas; got 'a,b'."),
            (["--seeds", "0"], 2, "train: --seeds is the number of networks for each setting, at least 1; got 0."),
            (["--epochs", "0"], 2, "train: `epochs` must be at least 1; got 0."),
            (
                ["--penalty.ranks", "3-4"],
                2,
                "fit_power_law: `ranks` must start at 1 or above and hold at least 3 ranks; got (3, 4). Widen the window.",
            ),
            (
                ["--penalty.layers", "nosuch"],
                1,
                "`layers`: no layer is called 'nosuch' (the network has 12). Did you mean 'conv1' or 'relu1' or 'pool1' "
                "or 'conv2' or 'relu2' or 'pool2'?",
            ),
            (
                ["--penalty.ranks", "6-500", "--penalty.strength", "1"],
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
                1,
                "fgsm: `epsilon` must lie in 0..1, the distance between two images in linf within bounds 0..1; got 8. It is in input "
                "units: write 8/255, not 8.",
            ),
            (["--stack", "0"], 1, "`stack` is a number of networks, at least 1; got 0."),
        ],
    )
    def test_bad_input_is_one_sentence(self, capsys, words, status, message):
        found, out, err = run(capsys, *TRAIN, *words)
        assert (found, out, err) == (status, "", f"eigencode: {message}\n")

    def test_one_network_that_diverges_ends_alone(self, capsys, tmp_path):
        words = ["--optimizer", "sgd", "--learning_rate", 0.01, "--covariance.strength", "0,1e30", "--stack", 2, "--json"]
        status, out, err = run(capsys, *TRAIN, *words, "--out", tmp_path / "run")
        record = json.loads(out)
        assert status == 0
        assert record["networks"] == ["covariance0_seed0"]
        assert list(record["failed"]) == ["covariance1e+30_seed0"]
        assert "covariance1e+30_seed0: Training stopped at step " in err
        assert [path.name for path in (tmp_path / "run" / "members").iterdir()] == ["covariance0_seed0.safetensors"]

    def test_a_read_only_folder(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        status, _, err = run(capsys, *TRAIN, "--out", tmp_path / "file" / "run")
        assert status == 1
        assert err.startswith("eigencode: --out: ")


class TestHelp:
    def test_does_not_import_torch(self):
        code = "import sys, eigencode.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"

    def test_answers_in_a_second(self):
        best = 9.0
        for _ in range(3):
            start = time.perf_counter()
            assert command("--help").returncode == 0
            best = min(best, time.perf_counter() - start)
        assert best < 1

    def test_every_option_is_explained(self, capsys):
        for name, config in (("measure", cli.MeasureConfig), ("attack", cli.AttackConfig), ("construct", cli.ConstructConfig)):
            status, out, _ = run(capsys, name, "--help")
            assert status == 0
            for option in config.__dataclass_fields__:
                assert f"--{option} " in out
            assert out.count("type:") >= 0.8 * len(config.__dataclass_fields__)

    def test_version(self, capsys):
        assert run(capsys, "--version")[:2] == (0, f"eigencode {ec.__version__}\n")


class TestMeasure:
    def test_table(self, capsys):
        status, out, err = run(capsys, "measure", "--model", "schaeffer_cnn", "--count", 200, "--layers", "conv1,relu4,fc3")
        assert status == 0
        assert out.splitlines()[0] == "schaeffer_cnn (random weights) · digits · 200 images (ranks 6-50, weights equal)"
        assert [line.split()[0] for line in out.splitlines()[4:7]] == ["conv1", "relu4", "fc3"]
        assert "note: fc3: `ranks` (6, 50) goes beyond the numerical rank 10" in err

    def test_json_agrees_with_the_library(self, capsys):
        status, out, _ = run(
            capsys, "measure", "--model", "gerum_cnn", "--count", 300, "--ranks", "2-30", "--json", "--device", "cpu", "--seed", 4
        )
        record = json.loads(out)
        assert status == 0
        images = ec.datasets.load("digits", count=300, seed=4)
        spectrum = ec.measure(ec.models.load("gerum_cnn", image_shape=images.shape, seed=4), images, seed=4)["tanh3"]
        (row,) = record["layers"]
        assert row["alpha"] == spectrum.fit((2, 30)).alpha
        assert [row["alpha_low"], row["alpha_high"]] == [getattr(spectrum.alpha_interval((2, 30)), k) for k in ("low", "high")]
        assert row["dimension"] == spectrum.dimension
        assert (record["ranks"], record["seed"], record["configuration"]["model"]) == ([2, 30], 4, "gerum_cnn")
        assert set(record) == {
            "title", "created", "configuration", "seed", "ranks", "weights", "versions", "hardware", "layers", "skipped", "recording",
        }  # fmt: skip

    def test_folder(self, capsys, tmp_path):
        words = ["measure", "--model", "gerum_cnn", "--count", 100, "--ranks", "jiang", "--out", tmp_path / "out"]
        status, out, err = run(capsys, *words)
        assert status == 0
        assert f"Report: {tmp_path}/out/report.html" in err
        assert pd.read_csv(tmp_path / "out" / "summary.csv")["layer"].tolist() == ["tanh3"]
        status, out, err = run(capsys, *words)
        assert (status, out) == (1, "")
        assert err == f"eigencode: --out: {tmp_path}/out already holds results. Name another folder, or pass --overwrite true.\n"
        assert run(capsys, *words, "--overwrite")[0] == 0

    def test_recording_in_place_of_a_network_and_beside_it(self, capsys, tmp_path, generator):
        signal_ = torch.randn(120, 80, generator=generator) * torch.arange(1, 81) ** -0.5
        repeats = signal_ + 0.05 * torch.randn(2, 120, 80, generator=generator)
        np.save(tmp_path / "two.npy", repeats.transpose(1, 2).numpy())
        np.save(tmp_path / "one.npy", repeats[0].T.numpy())
        status, out, _ = run(capsys, "measure", "--recording", tmp_path / "two.npy", "--ranks", "1-30", "--json")
        (row,) = json.loads(out)["layers"]
        assert (status, row["method"], row["units"], row["samples"]) == (0, "cross-validated", 80, 120)
        assert row["alpha"] == pytest.approx(1, abs=0.3)
        status, out, _ = run(capsys, "measure", "--recording", tmp_path / "one.npy", "--ranks", "1-30", "--json")
        assert json.loads(out)["layers"][0]["method"] == "covariance"
        words = ["--model", "gerum_cnn", "--count", 100, "--recording", tmp_path / "two.npy", "--ranks", "1-30"]
        status, out, _ = run(capsys, "measure", *words, "--out", tmp_path / "both", "--json")
        assert [row["layer"] for row in json.loads(out)["layers"]] == ["tanh3", "two.npy"]
        assert "two.npy" in (tmp_path / "both" / "figures" / "eigenspectra.svg").read_text()
        assert run(capsys, "measure", "--recording", tmp_path / "two.npy", "--ranks", "1-30", "--out", tmp_path / "r")[0] == 0

    def test_configuration_file(self, capsys, tmp_path):
        file = tmp_path / "c.yaml"
        file.write_text("model: gerum_cnn\ncount: 100\nranks: jiang\nlayers: conv1\n")
        status, out, _ = run(capsys, "measure", "--config", file, "--seed", 2, "--json")
        assert status == 0
        configuration = json.loads(out)["configuration"]
        assert [configuration[k] for k in ("model", "count", "layers", "seed")] == ["gerum_cnn", 100, "conv1", 2]
        status, printed, _ = run(capsys, "measure", "--config", file, "--print_config")
        assert status == 0
        assert "model: gerum_cnn" in printed
        file.write_text("modle: gerum_cnn\n")
        status, _, err = run(capsys, "measure", "--config", file)
        assert status == 2
        assert "modle" in err

    def test_dashes_are_underscores(self, capsys, tmp_path):
        _, out, _ = run(capsys, "measure", "--data-root", tmp_path, "--batch-size=7", "--print-config")
        assert f"data_root: {tmp_path}" in out
        assert "batch_size: 7" in out

    def test_group_of_networks(self, capsys, monkeypatch):
        monkeypatch.setitem(ec.models.GROUPS, "pair", ("gerum_cnn", "schaeffer_cnn"))
        status, out, _ = run(capsys, "measure", "--model", "pair", "--count", 100, "--ranks", "jiang", "--json")
        assert status == 0
        assert [(row["condition"], row["layer"]) for row in json.loads(out)["layers"]] == [
            ("gerum_cnn", "tanh3"),
            ("schaeffer_cnn", "relu4"),
        ]

    def test_weights(self, capsys, tmp_path):
        model = ec.models.load("gerum_cnn", image_shape=(1, 8, 8), seed=9)
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        words = ["measure", "--model", "gerum_cnn", "--count", 100, "--ranks", "jiang", "--json"]
        _, loaded, _ = run(capsys, *words, "--weights", tmp_path / "w.safetensors")
        _, fresh, _ = run(capsys, *words)
        expected = ec.measure(model, ec.datasets.load("digits", count=100))["tanh3"].fit("jiang").alpha
        assert json.loads(loaded)["layers"][0]["alpha"] == expected != json.loads(fresh)["layers"][0]["alpha"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--model", "gerum_cnn", "--layers", "conv9"],
            "`layers`: no layer is called 'conv9' (the network has 10). Did you mean 'conv2' or 'conv1'?",
        ),
        (
            ["--model", "gerum_cnn", "--ranks", "6-5000"],
            "no exponent could be fitted: tanh3: `ranks` (6, 5000) goes beyond the numerical rank 499; the largest window possible is (6, "
            "499). Lower the last rank, or pass more images or units.",
        ),
        (
            ["--model", "gerum_cnn", "--ranks", "garum"],
            "fit_power_law: `ranks` must be two ranks or one of jiang, gerum, schaeffer, schaeffer_output, stringer; got 'garum'. "
            "Name one of these.",
        ),
        (
            ["--model", "gerum_cnn", "--count", "5"],
            "no exponent could be fitted: tanh3: `ranks` (6, 50) goes beyond the numerical rank 4; the largest window possible is (1, 4). "
            "Lower the last rank, or pass more images or units.",
        ),
        (["--model", "gerum_cnn", "--count", "1"], "measure: at least 2 images are needed; got 1. Pass more images."),
        (["--model", "gerum_cnn", "--count", "9999"], "digits/test: `count` must lie between 1 and 500, the images there are; got 9999."),
        (["--model", "gerum_cnn", "--weights", "no.pt"], "weights: no.pt does not exist. Check the path."),
        (["--model", "gerum_cnn", "--memory_limit", "lots"], "`memory_limit` must be a number of bytes such as 4GiB or 500MB; got 'lots'."),
        ([], "measure: there is nothing to measure. Name a network with --model, or a recording with --recording."),
    ],
)  # fmt: skip
def test_a_users_mistake_gets_one_sentence(capsys, words, text):
    status, _, err = run(capsys, "measure", *words)
    assert status == (2 if "garum" in words or not words else 1)
    assert err.splitlines()[-1] == f"eigencode: {text}"
    assert "Traceback" not in err


def test_a_device_that_is_not_there(capsys):
    status, _, err = run(capsys, "measure", "--model", "gerum_cnn", "--device", "cuda:7")
    assert status == 1
    assert "--device cuda:7 cannot be used" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["measure", "--modle", "x"], "modle"),
        (["measure", "--units", "some"], "some"),
        (["measure", "--count", "many"], "count"),
        (["measur"], "measur"),
        ([], "COMMAND"),
    ],
)
def test_usage_errors_exit_with_2(capsys, words, text):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert text in err
    assert "Traceback" not in err


def test_every_error_is_a_value_error():
    assert issubclass(EigencodeError, ValueError)


def test_interrupt_leaves_nothing(tmp_path):
    words = [sys.executable, "-m", "eigencode.cli", "measure", "--model", "torchvision:resnet101", "--data", "tensors:x.npz"]
    np.savez(
        tmp_path / "x.npz",
        inputs=np.zeros((4000, 3, 64, 64), np.float32) + np.random.default_rng(0).random((4000, 1, 1, 1), np.float32),
    )
    process = subprocess.Popen(
        [*words, "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err.splitlines()[-1]) == ("", "eigencode: interrupted; nothing was written.")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


class TestDoctor:
    def test_names_what_is_missing_and_how_to_mend_it(self, capsys, tmp_path):
        status, out, _ = run(capsys, "doctor", "--data_root", tmp_path)
        assert status == 0
        assert f"torch: {torch.__version__}" in out
        assert f"data root: {tmp_path}" in out
        assert "mnist: missing" in out
        remedy = f"data set cifar10: eigencode measure --model gerum_cnn --data cifar10 --data_root {tmp_path}  (downloads it)"
        assert remedy in out

    def test_finds_data(self, capsys, tmp_path):
        (tmp_path / "MNIST" / "raw").mkdir(parents=True)
        (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").touch()
        _, out, _ = run(capsys, "doctor", "--data_root", tmp_path)
        assert "mnist: there" in out
