import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

import eigencode as ec
from command_line import run


def test_table(capsys):
    status, out, err = run(capsys, "measure", "--model", "schaeffer_cnn", "--count", 200, "--layers", "conv1,relu4,fc3")
    assert status == 0
    assert out.splitlines()[0] == "schaeffer_cnn (random weights) · digits · 200 images (ranks 6-50, weights equal)"
    assert [line.split()[0] for line in out.splitlines()[4:7]] == ["conv1", "relu4", "fc3"]
    assert "note: fc3: `ranks` (6, 50) goes beyond the numerical rank 10" in err


def test_json_agrees_with_the_library(capsys):
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
        "title", "created", "configuration", "seed", "ranks", "weights", "versions", "hardware", "layers", "skipped", "notes", "accuracy",
        "recording",
    }  # fmt: skip


def test_folder(capsys, tmp_path):
    words = ["measure", "--model", "gerum_cnn", "--count", 100, "--ranks", "jiang", "--out", tmp_path / "out"]
    status, out, err = run(capsys, *words)
    assert status == 0
    assert f"Report: {tmp_path}/out/report.html" in err
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["layer"].tolist() == ["tanh3"]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert err == f"eigencode: --out: {tmp_path}/out already holds results. Name another folder, or pass --overwrite true.\n"
    assert run(capsys, *words, "--overwrite")[0] == 0


@pytest.mark.drawn
def test_recording_in_place_of_a_network_and_beside_it(capsys, tmp_path, generator):
    signal_ = torch.randn(120, 80, generator=generator) * torch.arange(1, 81) ** -0.5
    repeats = signal_ + 0.05 * torch.randn(2, 120, 80, generator=generator)
    np.save(tmp_path / "two.npy", repeats.transpose(1, 2).numpy())
    np.save(tmp_path / "one.npy", repeats[0].T.numpy())
    status, out, _ = run(capsys, "measure", "--recording", tmp_path / "two.npy", "--ranks", "1-30", "--json")
    row, signal = json.loads(out)["layers"]
    assert (status, row["method"], row["units"], row["samples"]) == (0, "cross-validated", 80, 120)
    assert row["alpha"] == pytest.approx(1, abs=0.3)
    assert (signal["layer"], signal["method"], signal["first_rank"], signal["last_rank"]) == (
        "two.npy (signal)",
        "signal moments",
        1,
        80,
    )
    assert signal["alpha_low"] < 1 < signal["alpha_high"]
    recorded = json.loads(out)["recording"]
    assert recorded["signal"]["alpha"]["value"] == signal["alpha"]
    assert recorded["signal"]["signal_fraction"]["value"] == pytest.approx(0.95, abs=0.02)
    status, out, _ = run(capsys, "measure", "--recording", tmp_path / "one.npy", "--ranks", "1-30", "--json")
    assert json.loads(out)["layers"][0]["method"] == "covariance"
    words = ["--model", "gerum_cnn", "--count", 100, "--recording", tmp_path / "two.npy", "--ranks", "1-30"]
    status, out, _ = run(capsys, "measure", *words, "--out", tmp_path / "both", "--json")
    assert [row["layer"] for row in json.loads(out)["layers"]] == ["tanh3", "two.npy", "two.npy (signal)"]
    assert "two.npy" in (tmp_path / "both" / "figures" / "eigenspectra.svg").read_text()
    assert run(capsys, "measure", "--recording", tmp_path / "two.npy", "--ranks", "1-30", "--out", tmp_path / "r")[0] == 0


def test_configuration_file(capsys, tmp_path):
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


def test_dashes_are_underscores(capsys, tmp_path):
    _, out, _ = run(capsys, "measure", "--data-root", tmp_path, "--batch-size=7", "--print-config")
    assert f"data_root: {tmp_path}" in out
    assert "batch_size: 7" in out


def test_group_of_networks(capsys, monkeypatch):
    monkeypatch.setitem(ec.models.GROUPS, "pair", ("gerum_cnn", "schaeffer_cnn"))
    status, out, _ = run(capsys, "measure", "--model", "pair", "--count", 100, "--ranks", "jiang", "--json")
    assert status == 0
    assert [(row["condition"], row["layer"]) for row in json.loads(out)["layers"]] == [
        ("gerum_cnn", "tanh3"),
        ("schaeffer_cnn", "relu4"),
    ]


def test_weights(capsys, tmp_path):
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
            "499). Lower the last rank, or pass more images.",
        ),
        (
            ["--model", "gerum_cnn", "--ranks", "garum"],
            "`ranks` must be first and last rank, such as 6-50, or one of jiang, gerum, schaeffer, schaeffer_output, alpha_req, stringer; got 'garum'. "
            "Name one of these.",
        ),
        (
            ["--model", "gerum_cnn", "--count", "5"],
            "no exponent could be fitted: tanh3: `ranks` (6, 50) goes beyond the numerical rank 4; the largest window possible is (1, 4). "
            "Lower the last rank, or pass more images.",
        ),
        (["--model", "gerum_cnn", "--count", "1"], "measure: at least 2 inputs are needed; got 1. Pass more of them."),
        (["--model", "gerum_cnn", "--count", "9999"], "digits/test: `count` must lie between 1 and 500, the images there are; got 9999."),
        (["--model", "gerum_cnn", "--weights", "no.pt"], "weights: no.pt does not exist. Check the path."),
        (["--model", "gerum_cnn", "--memory_limit", "lots"], "`memory_limit` must be a number of bytes such as 4GiB or 500MB; got 'lots'."),
        ([], "measure: there is nothing to measure. Name a network with --model, or a recording with --recording."),
    ],
)  # fmt: skip
def test_a_users_mistake_gets_one_sentence(capsys, words, text):
    status, _, err = run(capsys, "measure", *words)
    assert status == (2 if {"garum", "lots"} & set(words) or not words else 1)
    assert err.splitlines()[-1] == f"eigencode: {text}"
    assert "Traceback" not in err


def test_a_device_that_is_not_there(capsys):
    status, _, err = run(capsys, "measure", "--model", "gerum_cnn", "--device", "cuda:7")
    assert status == 1
    assert "--device cuda:7 cannot be used" in err


def test_interrupt_leaves_nothing(tmp_path):
    words = [sys.executable, "-m", "eigencode", "measure", "--model", "torchvision:resnet101", "--data", "tensors:x.npz"]
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
    assert process.returncode in (130, -signal.SIGINT)  # the latter where it came while Python ran exec: a shell shows 130 too
    assert (out, err.splitlines()[-1]) == ("", "eigencode: interrupted; nothing was written.")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_repeats_that_share_no_signal_keep_their_other_numbers(capsys, tmp_path, json_too):
    draws = np.random.default_rng(0).normal(size=(40, 300))
    np.save(tmp_path / "r.npy", np.stack([draws, -draws]))
    words = ["--recording", tmp_path / "r.npy", "--ranks", "2-10", "--out", tmp_path / "out", *json_too]
    status, out, err = run(capsys, "measure", *words)
    assert (status, "Traceback" in err) == (1, False)  # there is no exponent
    assert "the share of the variance is undefined, since the eigenvalues sum to -" in err
    assert (tmp_path / "out" / "record.json").exists()
    assert "–" in out or json.loads(out)


def test_images_that_do_not_fit_name_the_options(tmp_path, capsys):
    torch.save({"inputs": torch.rand(20, 3, 9, 9)}, tmp_path / "images.pt")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())\n"
    )
    model = f"file:{tmp_path}/net.py:make"
    status, _, err = run(capsys, "measure", "--model", model, "--data", f"tensors:{tmp_path}/images.pt", "--layers", "0")
    assert status == 1
    assert err.rstrip().endswith(
        "To change the images, save them in a folder: --image_size, --transform and --grey are read with image_folder:PATH. What is no "
        "image: measure it from Python, ec.measure(model, inputs)."
    )
    for folder in "ab":
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "images" / folder / "0.png")
    words = ["--model", model, "--data", f"image_folder:{tmp_path}/images", "--layers", "0"]
    assert run(capsys, "measure", *words)[2].rstrip().endswith("Options for images: --image_size, --transform, --grey.")
    assert run(capsys, "measure", *words, "--grey")[0] == 1  # two images are too few for an exponent


def test_inputs_that_are_no_images_are_told_where_they_can_be_measured(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", inputs=np.random.default_rng(0).normal(size=(20, 12, 5)).astype("f4"))
    err = run(capsys, "measure", "--model", "gerum_cnn", "--data", f"tensors:{tmp_path}/x.npz")[2]
    assert "What is no image is measured from Python: ec.measure(model, inputs)." in err


@pytest.mark.drawn
def test_recordings_with_axes_and_presentations(capsys, tmp_path):
    draws = np.random.default_rng(0)
    values = np.where(np.arange(1, 41) < 8, 1.0, 8**3 / np.arange(1, 41.0) ** 3)
    signal = draws.normal(size=(300, 40)) * np.sqrt(values)
    responses = signal + 0.1 * draws.normal(size=(3, 300, 40))
    responses[2, ::3] = np.nan
    np.save(tmp_path / "r.npy", responses.transpose(2, 1, 0))
    words = ["measure", "--recording", tmp_path / "r.npy", "--ranks", "2-12"]
    status, out, err = run(capsys, *words, "--out", tmp_path / "page")
    assert status == 0
    assert "axes read as neurons,stimuli,repeats: 40 neurons, 300 stimuli, each shown 2 to 3 times." in err
    assert "one exponent does not describe the signal over all its ranks (p = " in err
    assert "r.npy (signal)" in out
    page = (tmp_path / "page" / "report.html").read_text()
    assert "one exponent does not describe the signal" in page
    figure = (tmp_path / "page" / "figures" / "eigenspectra.svg").read_text()
    assert "signal, one exponent" in figure
    assert "signal, two exponents" in figure
    named = run(capsys, *words, "--recording_axes", "neurons,stimuli,repeats", "--json")[1]
    kept = np.arange(3 * 300) % 300
    order = draws.permutation(np.flatnonzero(~np.isnan(responses[..., 0].ravel())))
    np.savez(tmp_path / "listed.npz", x=responses.reshape(-1, 40)[order], stimuli=kept[order])
    listed = run(capsys, "measure", "--recording", tmp_path / "listed.npz", "--ranks", "2-12", "--json")[1]
    first, second = (json.loads(text)["recording"]["signal"] for text in (named, listed))
    for name in ("alpha", "dimension", "signal_fraction"):
        assert first[name] == pytest.approx(second[name], rel=1e-6)
    assert first["broken_rank"]["low"] <= 8 <= first["broken_rank"]["high"]


def test_a_recording_without_a_signal_says_so(capsys, tmp_path):
    noise = np.random.default_rng(1).normal(size=(2, 30, 50))
    np.save(tmp_path / "noise.npy", noise)
    _, out, err = run(capsys, "measure", "--recording", tmp_path / "noise.npy", "--ranks", "1-5", "--json")
    found = json.loads(out)["recording"]["signal"] if out else None
    assert found is None or found["alpha"]["value"] is None
    assert "no signal was found" in err or "the exponent of the signal is not determined by 50 stimuli" in err


def test_spontaneous_activity_is_taken_away(capsys, tmp_path):
    draws = np.random.default_rng(0)
    shared = np.linalg.qr(draws.normal(size=(30, 3)))[0]
    signal = draws.normal(size=(80, 30)) * np.arange(1, 31.0) ** -0.5
    common = 3 * draws.normal(size=(160, 3)) @ shared.T
    responses = np.concatenate([signal, signal]) + common + 0.2 * draws.normal(size=(160, 30))
    rest = {"istim": np.r_[1:81, 1:81], "spont": draws.normal(size=(200, 3)) @ shared.T + 0.01 * draws.normal(size=(200, 30))}
    savemat(tmp_path / "s.mat", {"stim": {"resp": responses, **rest}})
    words = ["measure", "--recording", tmp_path / "s.mat", "--ranks", "2-10", "--json"]
    fractions = []
    for more in ([], ["--recording_spontaneous", "stim.spont", "--recording_components", "3"]):
        status, out, _ = run(capsys, *words, *more)
        assert status == (0 if more else 1)  # with the common activity no exponent can be fitted
        fractions.append(json.loads(out)["recording"]["signal"]["signal_fraction"]["value"])
    assert fractions[0] < 0.25 < 0.6 < fractions[1]
    assert "there is no array 'spont'" in run(capsys, *words, "--recording_spontaneous", "spont")[2]


def test_sessions_and_sampled_neurons(capsys, tmp_path):
    draws = np.random.default_rng(0)
    signal = draws.normal(size=(60, 20)) * np.arange(1, 21.0) ** -0.5 @ draws.normal(size=(20, 24))
    responses = signal + 0.5 * draws.normal(size=(2, 60, 24))
    names = []
    for name, part in (("a", slice(0, 14)), ("b", slice(14, 24))):
        np.save(tmp_path / f"{name}.npy", responses[..., part].transpose(0, 2, 1))
        names.append(str(tmp_path / f"{name}.npy"))
    np.save(tmp_path / "whole.npy", responses.transpose(0, 2, 1))
    np.save(tmp_path / "once.npy", responses[0].T)
    words = ["--ranks", "1-5", "--json", "--recording_neurons", "sampled"]
    found = []
    for recording in (", ".join(names), tmp_path / "whole.npy"):
        status, out, err = run(capsys, "measure", "--recording", recording, *words)
        assert status == 0
        assert "the dimension in all neurons, if these are an independent sample of them, is " in err
        found.append(json.loads(out)["recording"])
    assert "2 sessions together: 24 neurons, 60 stimuli, each shown 2 times in all of them" in found[0]["notes"]
    for name in ("alpha", "dimension_of_all_neurons", "signal_fraction"):
        for end in ("low", "value"):
            assert found[0]["signal"][name][end] == pytest.approx(found[1]["signal"][name][end], rel=1e-6)
    fixed = json.loads(run(capsys, "measure", "--recording", tmp_path / "whole.npy", *words[:3])[1])["recording"]["signal"]
    assert found[1]["signal"]["alpha"]["low"] < fixed["alpha"]["low"]
    assert "dimension_of_all_neurons" not in fixed
    status, out, err = run(capsys, "measure", "--recording", tmp_path / "once.npy", *words)
    assert "an independent sample of them, is " in err
    assert json.loads(out)["recording"]["dimension_of_all_neurons"]["low"] >= 1
    np.save(tmp_path / "few.npy", responses[0, :, :6].T)
    status, out, err = run(capsys, "measure", "--recording", tmp_path / "few.npy", *words)
    assert status == 0
    assert "with at least 8 of each; got (60, 6)" in err
    assert "--recording must be a file, or several separated by commas" in run(capsys, "measure", "--recording", "a.npy,")[2]


def test_an_nwb_file(capsys, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    draws = np.random.default_rng(0)
    file = pynwb.NWBFile(session_description="test", identifier="1", session_start_time=datetime(2026, 1, 1, tzinfo=UTC))
    file.add_trial_column(name="image_id", description="image")
    drive, images = draws.gamma(2.0, 20.0, (60, 12)), np.tile(np.arange(60), 2)
    for start, image in enumerate(images):
        file.add_trial(start_time=float(start), stop_time=start + 0.5, image_id=int(image))
    for unit in range(12):
        times = [start + draws.uniform(0, 0.5, draws.poisson(drive[image, unit])) for start, image in enumerate(images)]
        file.add_unit(spike_times=np.sort(np.concatenate(times)))
    with pynwb.NWBHDF5IO(str(tmp_path / "v1.nwb"), "w") as opened:
        opened.write(file)
    words = ["measure", "--recording", tmp_path / "v1.nwb", "--ranks", "1-5"]
    status, out, err = run(capsys, *words, "--recording_window", "0.0,0.4")
    assert status == 0
    assert "v1.nwb (signal)" in out
    assert "spikes per second of 12 neurons, from 0 to 0.4 s after the start of each presentation in trials" in err
    assert "--recording_axes is not of NWB files" in run(capsys, *words, "--recording_axes", "neurons,stimuli")[2]
    np.save(tmp_path / "r.npy", drive)
    err = run(capsys, "measure", "--recording", tmp_path / "r.npy", "--ranks", "1-5", "--recording_window", "0,1")[2]
    assert "--recording_window is of NWB files" in err


def test_stimuli_to_leave_out_are_decimal(capsys, tmp_path):
    np.save(tmp_path / "r.npy", np.random.default_rng(0).normal(size=(2, 20, 70)))
    words = ["measure", "--recording", tmp_path / "r.npy", "--ranks", "1-5", "--recording_leave_out"]
    assert "--recording_leave_out must be whole numbers, separated by commas; got '1:5'" in run(capsys, *words, "1:5")[2]
    for given, left in (("1:5:1", 65), ("3", 69), ("3,69", 68)):
        assert f"20 neurons, {left} stimuli" in run(capsys, *words, given)[2]
