from importlib.metadata import version

from command_line import run


def test_names_what_is_missing_and_how_to_mend_it(capsys, tmp_path):
    status, out, _ = run(capsys, "doctor", "--data_root", tmp_path)
    assert status == 0
    assert f"torch: {version('torch')}" in out
    assert f"data root: {tmp_path}" in out
    assert "mnist: missing" in out
    remedy = f"data set cifar10: eigencode measure --model gerum_cnn --data cifar10 --data_root {tmp_path}  (downloads it)"
    assert remedy in out


def test_finds_data(capsys, tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").touch()
    _, out, _ = run(capsys, "doctor", "--data_root", tmp_path)
    assert "mnist: there" in out
