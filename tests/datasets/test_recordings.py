import numpy as np
import pytest
import torch
from scipy.io import savemat

from eigencode.datasets import load_recording
from eigencode.errors import DataError

ONE = np.arange(12.0).reshape(3, 4)  # neurons x stimuli
TWO = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("ending", ["npy", "npz", "mat"])
@pytest.mark.parametrize("array", [ONE, TWO])
def test_formats(tmp_path, ending, array):
    path = tmp_path / f"v1.{ending}"
    if ending == "npy":
        np.save(path, array)
    elif ending == "npz":
        np.savez(path, resp=array)
    else:
        savemat(path, {"resp": array, "note": "text"})
    recording = load_recording(path)
    expected = array if array.ndim == 3 else array[None]
    assert recording.responses.dtype == torch.float64
    assert np.array_equal(recording.responses.numpy(), expected.transpose(0, 2, 1))
    assert recording.name == f"v1.{ending}"


def test_variable(tmp_path):
    np.savez(tmp_path / "r.npz", a=ONE, b=TWO)
    assert load_recording(tmp_path / "r.npz", variable="b").responses.shape == (2, 4, 3)
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "r.npz")
    assert str(caught.value) == (
        "r.npz: a recording must hold one array (neurons, stimuli) or (2, neurons, stimuli); got a (3, 4), b (2, 3, 4). Name one "
        "with --recording_variable."
    )
    with pytest.raises(DataError, match="r.npz: there is no array 'c'; got a, b. Name one of these."):
        load_recording(tmp_path / "r.npz", variable="c")


def test_errors(tmp_path):
    np.save(tmp_path / "five.npy", np.zeros((5, 3, 4)))
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "five.npy")
    assert str(caught.value) == (
        "five.npy: 'array' must have shape (neurons, stimuli) or (2, neurons, stimuli); got (5, 3, 4). Average over the repeats, or keep "
        "two of them."
    )
    (tmp_path / "bad.mat").write_bytes(b"not matlab at all, but long enough to be read as a header" * 4)
    with pytest.raises(DataError, match=r"bad.mat cannot be read as .mat \(.*Write it again."):
        load_recording(tmp_path / "bad.mat")
    with pytest.raises(DataError, match=r"table.csv: a recording must be a .npy, .npz, .mat file. Convert it."):
        load_recording(tmp_path / "table.csv")
    with pytest.raises(DataError, match="none.mat does not exist. Check the path."):
        load_recording(tmp_path / "none.mat")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (
            np.where(ONE == ONE[1, 2], np.nan, ONE),
            "responses must be finite; got 1 NaN or infinite values, the first of neuron 1 at stimulus 2,",
        ),
        (
            np.where(TWO == TWO[1, 0, 2], np.inf, TWO),
            "the first of neuron 0 at stimulus 2, counted from 0. Remove these neurons or stimuli.",
        ),
        (
            np.repeat(ONE[:, :1], 5, axis=1),
            "every neuron gives the same response to all stimuli, so there is no variance to measure.",
        ),
        (np.arange(5.0), "got array (5,). Save one such array, outside of cells."),
        (np.zeros((3, 4, 5)), "got (3, 4, 5). Average over the repeats, or keep two of them."),
        (np.zeros((4, 5, 2)), "got (4, 5, 2). Transpose it."),
    ],
)
def test_what_a_recording_is_told(tmp_path, array, text):
    np.save(tmp_path / "r.npy", array)
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "r.npy")
    assert text in str(caught.value)


def test_complex_responses(tmp_path):
    np.save(tmp_path / "r.npy", ONE * 1j)
    with pytest.raises(DataError, match="it holds no real numbers"):
        load_recording(tmp_path / "r.npy")


def test_arrays_within_structs_are_read_and_those_within_cells_told_of(tmp_path):
    savemat(tmp_path / "r.mat", {"session": {"resp": ONE}})
    assert np.array_equal(load_recording(tmp_path / "r.mat").responses[0].numpy().T, ONE)
    savemat(tmp_path / "r.mat", {"cells": np.array([ONE, "text"], dtype=object)})
    with pytest.raises(DataError, match=r"got no array of numbers. Save one such array, outside of cells\."):
        load_recording(tmp_path / "r.mat")
