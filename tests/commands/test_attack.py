import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import eigencode as ec
from command_line import run

INTERVALS = ["--model", "gerum_shallow_mlp", "--count", 60, "--ranks", "jiang", "--layers", "hidden1,tanh1"]
MLP = [*INTERVALS, "--half_samples", 0]


@pytest.fixture
def weights(tmp_path, trained_mlp):
    save_file(trained_mlp.state_dict(), tmp_path / "mlp.safetensors")
    return ["--weights", tmp_path / "mlp.safetensors"]


def test_json_agrees_with_the_library(capsys, weights, trained_mlp):
    words = ["--perturbation", "pgd", "--steps", 5, "--strengths", "0:0.2:0.2", "--probe", 20, "--json", "--seed", 2]
    status, out, _ = run(capsys, "attack", *INTERVALS, *weights, *words)
    assert status == 0
    record = json.loads(out)
    images = ec.datasets.load("digits", count=60, seed=2)
    found = ec.perturbed_spectra(
        trained_mlp,
        images,
        ec.attacks.PGD(steps=5, seed=2),
        strengths=[0, 0.2],
        layers=["hidden1", "tanh1"],
        probe=20,
        seed=2,
    )
    expected = found.summary("jiang").replace([-np.inf, np.inf], np.nan)  # JSON has no infinity: an end that is open is null
    rows = pd.DataFrame(record["layers"])
    columns = ["condition", "layer", "accuracy", "alpha", "alpha_low", "dimension", "flags"]
    pd.testing.assert_frame_equal(rows[columns], expected[columns], check_exact=True, check_dtype=False)
    assert [point["accuracy"] for point in record["curves"]["pgd"]] == [p.accuracy for p in found.curve.points]
    assert record["perturbations"] == ["unperturbed", "pgd"]


@pytest.mark.drawn
def test_folder_of_several_perturbations(capsys, weights, tmp_path):
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
    assert json.loads((tmp_path / "out" / "record.json").read_text())["flags"] == {}


def test_flags_are_told_with_what_raised_them(capsys, weights):
    words = ["--perturbation", "pgd", "--steps", "2", "--strengths", "0.01,0.2", "--json"]
    status, out, err = run(capsys, "attack", *MLP, *weights, *words)
    assert status == 0
    flags = json.loads(out)["flags"]
    assert flags["budget_out_of_reach"]["conditions"] == ["pgd 0.2"]
    assert f"budget_out_of_reach (pgd 0.2): {flags['budget_out_of_reach']['meaning']}" in err


def test_components_are_saved_and_used_again(capsys, weights, tmp_path):
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
def test_layers(capsys, kind):
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
        "--half_samples",
        0,
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
            "--strengths must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01",
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
def test_bad_input_is_one_sentence(capsys, words, status, message):
    found, out, err = run(capsys, "attack", *MLP, *words)
    assert found == status
    assert out == ""
    assert message in err
    assert err.startswith("eigencode: ")
    assert err.count("\n") == 1


def test_yaml_takes_numbers_and_lists(capsys, tmp_path):
    (tmp_path / "attack.yaml").write_text(
        "perturbation: [gaussian, fgsm]\nstrengths: [0.1, 0.2]\ncount: 60\nranks: jiang\nhalf_samples: 0\n"
    )
    status, out, _ = run(capsys, "attack", "--config", tmp_path / "attack.yaml", *MLP[:2], "--layers", "tanh1", "--json")
    assert status == 0
    conditions = [row["condition"] for row in json.loads(out)["layers"]]
    assert conditions == ["unperturbed", "gaussian 0.1", "gaussian 0.2", "fgsm 0.1", "fgsm 0.2"]
    (tmp_path / "binary.yaml").write_bytes(bytes([0xFF, 0xFE, 0x80]))
    message = f"eigencode: --config: {tmp_path}/binary.yaml is not a text file in UTF-8. Check that it is the right file.\n"
    assert run(capsys, "attack", "--config", tmp_path / "binary.yaml")[::2] == (2, message)


def test_needs_a_model(capsys):
    assert run(capsys, "attack")[::2] == (2, "eigencode: attack: there is nothing to attack. Name a network with --model.\n")


def test_unlabelled_images(capsys, tmp_path):
    save_file({"inputs": torch.rand(60, 1, 8, 8)}, tmp_path / "images.safetensors")
    data = ["--data", f"tensors:{tmp_path / 'images.safetensors'}"]
    status, _, err = run(capsys, "attack", *MLP, *data, "--perturbation", "fgsm", "--strengths", "0.1")
    assert status == 1
    assert "fgsm: an attack needs labels, and 60 of them are missing. Add them." in err


def test_empty_data_set(capsys, tmp_path):
    save_file({"inputs": torch.rand(0, 1, 8, 8)}, tmp_path / "images.safetensors")
    status, _, err = run(capsys, "attack", "--model", "gerum_cnn", "--data", f"tensors:{tmp_path / 'images.safetensors'}")
    assert status == 1
    assert "there are no images" in err


def test_what_the_flag_advises_can_be_done(capsys, tmp_path):
    words = [
        *[
            "attack",
            "--model",
            "gerum_shallow_mlp",
            "--count",
            "40",
            "--perturbation",
            "pgd",
            "--strengths",
            "0,0.5",
            "--steps",
            "5",
        ],
        "--layers",
        "penultimate",
    ]
    words += ["--ranks", "2-10", "--half_samples", "0", "--json"]
    for more, flagged in (([], True), (["--relative_step"], False)):
        status, out, err = run(capsys, *words, *more)
        assert status == 0, err
        assert ("budget_out_of_reach" in json.loads(out)["flags"]) == flagged
    status, _, err = run(capsys, *words, "--relative_step", "--step_size", "0.1")
    assert (status, err) == (
        2,
        "eigencode: pgd: `relative_step` sets the length of a step, and so does `step_size`. Leave one out.\n",
    )
    status, _, err = run(capsys, "attack", "--model", "gerum_cnn", "--perturbation", "fgsm", "--relative_step")
    assert (status, err) == (2, "eigencode: --relative_step would do nothing here: it is read by pgd. Leave it out.\n")
