import json

import eigencode as ec
from command_line import run


def test_set_record_and_page(capsys, tmp_path):
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


def test_usage(capsys, tmp_path):
    assert run(capsys, "construct", "--model", "gerum_cnn")[0] == 2
    assert run(capsys, "construct", "--out", tmp_path)[0] == 2
    status, _, err = run(capsys, "construct", "--model", "gerum_cnn", "--out", tmp_path / "x", "--steps", 0)
    assert (status, err) == (2, "eigencode: --steps must be at least 1; got 0.\n")
