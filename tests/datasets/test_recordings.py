import itertools

import numpy as np
import pytest
import torch
from scipy.io import savemat

from eigencode.datasets import data_root, load_recording, load_spontaneous
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
        "r.npz: a recording must hold one array of neurons and stimuli, in 2 or 3 dimensions; got a (3, 4), b (2, 3, 4). Name one "
        "with --recording_variable."
    )
    with pytest.raises(DataError, match="r.npz: there is no array 'c'; got a, b. Name one of these."):
        load_recording(tmp_path / "r.npz", variable="c")


def test_errors(tmp_path):
    np.save(tmp_path / "five.npy", np.zeros((5, 3, 4)))
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "five.npy")
    assert str(caught.value) == (
        "five.npy: nothing says which axis of 'array', of shape (5, 3, 4), is which. Name them with --recording_axes, such as "
        "neurons,stimuli,repeats."
    )
    (tmp_path / "bad.mat").write_bytes(b"not matlab at all, but long enough to be read as a header" * 4)
    with pytest.raises(DataError, match=r"bad.mat cannot be read as .mat \(.*Write it again."):
        load_recording(tmp_path / "bad.mat")
    with pytest.raises(
        DataError, match=r"table.csv: a recording must be a .npy, .npz, .mat, .h5, .hdf5 or .nwb file. Convert it."
    ):
        load_recording(tmp_path / "table.csv")
    with pytest.raises(DataError, match="none.mat does not exist. Check the path."):
        load_recording(tmp_path / "none.mat")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (
            np.where(ONE == ONE[1, 2], np.nan, ONE),
            "got 1 NaN or infinite values, the first of neuron 1, counted from 0, at stimulus 2. Leave them out with --recording_missing neurons or presentations.",
        ),
        (
            np.where(TWO == TWO[1, 0, 2], np.inf, TWO),
            "the first of neuron 0, counted from 0, at stimulus 2. Remove these neurons or stimuli.",
        ),
        (
            np.repeat(ONE[:, :1], 5, axis=1),
            "every neuron gives the same response to all stimuli, so there is no variance to measure.",
        ),
        (np.arange(5.0), "got array (5,). Save one such array of real numbers, outside of cells."),
        (
            np.full((2, 3, 4), np.nan),
            "there is no presentation of a stimulus with responses. Leave out less, or name another array or other axes.",
        ),
        (np.zeros((4, 5, 2)), "of shape (4, 5, 2), is which. Name them with --recording_axes, such as neurons,stimuli,repeats."),
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
    with pytest.raises(DataError, match=r"got no array of numbers. Save one such array of real numbers, outside of cells\."):
        load_recording(tmp_path / "r.mat")


def _session(path, *, blanks=0, neurons=7, transposed=False, **more):
    """A file of Stringer et al.'s layout: 5 stimuli shown twice in random order, a blank; and the responses to (stimulus, repeat)."""
    draws = np.random.default_rng(0)
    ids = draws.permutation([1, 2, 3, 4, 5] * 2 + [6] * blanks)
    responses = draws.normal(size=(len(ids), neurons))
    savemat(path, {"stim": {"resp": responses.T if transposed else responses, "istim": ids[:, None].astype("f8"), **more}})
    return np.stack([np.stack([responses[ids == stimulus][repeat] for stimulus in range(1, 6)]) for repeat in range(2)])


@pytest.mark.parametrize("transposed", [False, True])
def test_the_presentations_of_a_stimulus_are_found_by_its_number(tmp_path, transposed):
    expected = _session(tmp_path / "s.mat", transposed=transposed, spont=np.ones((4, 6)))
    for named in ({}, {"variable": "stim.resp"}, {"variable": "stim.resp", "stimuli": "stim.istim"}):
        found = load_recording(tmp_path / "s.mat", **named)
        assert np.array_equal(found.responses.numpy(), expected)
        assert np.array_equal(found.repeats(2).numpy(), expected)
        assert found.axes == (("neurons", "presentations") if transposed else ("presentations", "neurons"))
        assert found.stimulus_ids == (1, 2, 3, 4, 5)


def test_a_blank_is_named_and_can_be_left_out(tmp_path):
    expected = _session(tmp_path / "s.mat", blanks=9)
    found = load_recording(tmp_path / "s.mat")
    assert found.counts.tolist() == [2, 2, 2, 2, 2, 9]
    assert found.responses.shape == (9, 6, 7)
    assert "stimulus 6 was shown 9 times, others 2 times (the median)" in found.notes[-1]
    without = load_recording(tmp_path / "s.mat", leave_out=[6])
    assert np.array_equal(without.responses.numpy(), expected)
    assert len(without.notes) == 1
    with pytest.raises(DataError, match="there is no stimulus 7; they are numbered 1 to 6"):
        load_recording(tmp_path / "s.mat", leave_out=[7])


def test_as_many_neurons_as_presentations_are_named(tmp_path):
    expected = _session(tmp_path / "s.mat", neurons=10)
    with pytest.raises(DataError, match="Name them with --recording_axes, presentations,neurons or neurons,presentations"):
        load_recording(tmp_path / "s.mat")
    assert np.array_equal(load_recording(tmp_path / "s.mat", axes="presentations,neurons").responses.numpy(), expected)


@pytest.mark.parametrize("order", list(itertools.permutations(["neurons", "stimuli", "repeats"])))
def test_axes_by_name_and_by_missing_presentations(tmp_path, order):
    draws = np.random.default_rng(1)
    responses = draws.normal(size=(4, 6, 5))  # repeats, stimuli, neurons
    for stimulus, shown in enumerate([4, 2, 3, 4, 2, 4]):
        responses[shown:, stimulus] = np.nan
    axes = [("repeats", "stimuli", "neurons").index(name) for name in order]
    np.save(tmp_path / "r.npy", responses.transpose(axes))
    for given in (None, ",".join(order), order):
        found = load_recording(tmp_path / "r.npy", axes=given)
        assert found.axes == order
        assert np.array_equal(found.responses.numpy(), responses, equal_nan=True)
        assert found.counts.tolist() == [4, 2, 3, 4, 2, 4]
        assert np.array_equal(found.repeats(3).numpy(), responses[:3][:, [0, 2, 3, 5]])


def test_several_axes_of_stimuli_are_taken_together(tmp_path):
    array = np.arange(2 * 3 * 4 * 5.0).reshape(3, 2, 4, 5)
    np.savez(tmp_path / "r.npz", films=array)
    found = load_recording(tmp_path / "r.npz", axes="stimuli,repeats,neurons,stimuli")
    assert np.array_equal(found.responses.numpy(), array.transpose(1, 0, 3, 2).reshape(2, 15, 4))
    assert "stimuli along several axes are taken for independent" in found.notes[1]


def test_stimuli_that_were_never_shown_are_left_out(tmp_path):
    array = np.where(np.arange(4) == 2, np.nan, ONE)
    np.save(tmp_path / "r.npy", array)
    found = load_recording(tmp_path / "r.npy")
    assert (found.stimulus_ids, found.responses.shape) == ((0, 1, 3), (1, 3, 3))
    assert "1 stimuli without any response are left out" in found.notes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"axes": "neurons,images"}, "an axis must be neurons, stimuli, repeats or presentations; got 'images'."),
        ({"axes": "stimuli,repeats"}, "must have neurons once"),
        ({"axes": "presentations,neurons,repeats"}, "presentations go with neurons alone"),
        ({"axes": "neurons,stimuli,repeats"}, "Name as many axes as the array has; 3 are named."),
        ({"axes": "neurons,stimuli,repeats", "variable": "a"}, "'a' has shape (3, 4), and 3 axes are named"),
        ({"axes": "presentations,neurons"}, "nothing says which stimulus each presentation was"),
        ({"stimuli": "halves"}, "stimuli must be whole numbers below 2^53; got 0.5."),
        ({"stimuli": "short"}, "one for each presentation of an array in two dimensions; got 2 of them"),
        ({"stimuli": "endless"}, "stimuli must be whole numbers below 2^53; got inf."),
        ({"stimuli": "none"}, "there is no array 'none'"),
        ({"stimuli": "ids", "axes": "neurons,stimuli"}, "are those of presentations, and the axes are neurons,stimuli"),
    ],
)
def test_what_axes_are_told(tmp_path, options, text):
    np.savez(
        tmp_path / "r.npz", a=ONE, halves=np.arange(3) / 2, short=np.arange(2), ids=np.arange(3), endless=np.array([1, 2, np.inf])
    )
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "r.npz", **options)
    assert text in str(caught.value)


def test_responses_missing_of_some_neurons(tmp_path):
    array = np.arange(2 * 4 * 5.0).reshape(2, 4, 5)  # repeats, neurons, stimuli
    array[0, 1, 2] = array[1, :, 4] = np.nan
    np.save(tmp_path / "r.npy", array)
    found = load_recording(tmp_path / "r.npy", missing="neurons")
    assert np.array_equal(found.responses.numpy(), array[:, [0, 2, 3]].transpose(0, 2, 1), equal_nan=True)
    assert "1 neurons without a response to some presentation are left out" in found.notes
    found = load_recording(tmp_path / "r.npy", missing="presentations")
    assert found.counts.tolist() == [2, 2, 1, 2, 1]
    assert np.array_equal(found.responses[0, 2].numpy(), array[1, :, 2])
    assert "1 presentations without the response of some neuron are left out" in found.notes
    array[0, range(4), range(4)] = np.nan
    np.save(tmp_path / "r.npy", array)
    with pytest.raises(DataError, match="Leave out less, or name another array"):
        load_recording(tmp_path / "r.npy", missing="neurons")


def test_components_of_spontaneous_activity_are_taken_away(tmp_path):
    draws = np.random.default_rng(0)
    shared = np.linalg.qr(draws.normal(size=(7, 2)))[0]
    spontaneous = draws.normal(size=(50, 2)) * [3, 2] @ shared.T
    _session(tmp_path / "s.mat", spont=spontaneous + 5)
    plain = load_recording(tmp_path / "s.mat", variable="stim.resp")
    without = plain.without_components(load_spontaneous(tmp_path / "s.mat", "stim.spont"), 2)
    assert np.allclose(without.presentations.numpy() @ shared, 0, atol=1e-12)
    away = plain.presentations.numpy() @ (np.eye(7) - shared @ shared.T)
    assert np.allclose(without.presentations.numpy(), away, atol=1e-12)
    assert (without.removed, plain.removed) == (2, 0)
    assert without.notes[-1] == "2 principal components of spontaneous activity are taken away"
    turned = plain.without_components(torch.from_numpy(spontaneous.T), 2)
    assert torch.allclose(turned.presentations, without.presentations, atol=1e-12)


@pytest.mark.parametrize(
    ("spontaneous", "count", "text"),
    [
        (np.zeros((50, 6)), 2, "must have one axis of 7 neurons and one of other length; got shape (50, 6)"),
        (np.zeros((7, 7)), 2, "one of other length; got shape (7, 7)"),
        (np.full((50, 7), np.nan), 2, "spontaneous activity must be finite"),
        (np.zeros((50, 7)), 2, "spontaneous activity of shape (50, 7) has 0 components to take away; 2 are asked for."),
        (np.eye(50, 7), 7, "has 6 components to take away; 7 are asked for. Take away fewer, or none."),
        (np.ones((1, 7)), 1, "has 0 components to take away"),
    ],
)
def test_what_spontaneous_activity_is_told(tmp_path, spontaneous, count, text):
    _session(tmp_path / "s.mat")
    with pytest.raises(DataError) as caught:
        load_recording(tmp_path / "s.mat").without_components(torch.from_numpy(spontaneous), count)
    assert text in str(caught.value)


@pytest.mark.parametrize("ending", ["h5", "hdf5", "H5"])
def test_hdf5_in_the_order_in_which_it_is_stored(tmp_path, ending):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / f"r.{ending}"
    with h5py.File(path, "w") as file:
        file["session/responses"] = np.stack([ONE, ONE + 1, ONE + 2]).astype(">f4")
        file["session/stimulus_ids"] = np.array([4, 4, 9, 9])
        file["text"] = "ten"
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
        file["session/same"] = h5py.SoftLink("/session/responses")
    found = load_recording(path, axes="repeats,neurons,stimuli")
    assert np.array_equal(found.responses[2].numpy(), ONE.T + 2)
    with h5py.File(path, "w") as file:
        file["a/x"], file["a/stimulus_ids"] = ONE, np.array([4, 4, 9, 9])
    found = load_recording(path)
    assert (found.axes, found.stimulus_ids) == (("neurons", "presentations"), (4, 9))
    assert np.array_equal(found.responses[1].numpy(), ONE.T[1::2])


def test_damaged_hdf5(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "r.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(300))
    with pytest.raises(DataError, match=r"r\.h5 cannot be read as \.h5 \(.*Write it again\."):
        load_recording(tmp_path / "r.h5")


def test_a_session_that_was_cut_short_is_not_taken_for_repeats_of_few_stimuli(tmp_path):
    responses = np.random.default_rng(0).normal(size=(5, 20, 4))  # neurons, stimuli, repeats
    responses[:, 15:, 0] = np.nan
    np.save(tmp_path / "r.npy", responses)
    with pytest.raises(DataError, match="nothing says which axis"):
        load_recording(tmp_path / "r.npy")
    assert load_recording(tmp_path / "r.npy", axes="neurons,stimuli,repeats").counts.tolist() == [4] * 15 + [3] * 5


def test_missing_presentations_go_before_the_usual_order(tmp_path):
    responses = np.random.default_rng(0).normal(size=(2, 20, 5))  # repeats, stimuli, neurons
    responses[1, 3:15] = np.nan
    np.save(tmp_path / "r.npy", responses)
    assert load_recording(tmp_path / "r.npy").axes == ("repeats", "stimuli", "neurons")


def test_stimuli_beside_the_array_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "r.npz", x=ONE, istim=np.arange(7))
    with pytest.raises(DataError, match=r"got 7 of them and an array of shape \(3, 4\)"):
        load_recording(tmp_path / "r.npz")
    assert load_recording(tmp_path / "r.npz", axes="neurons,stimuli").responses.shape == (1, 4, 3)


def test_spontaneous_activity_of_neurons_that_are_left_out(tmp_path):
    draws = np.random.default_rng(0)
    responses, activity = draws.normal(size=(2, 6, 9)), draws.normal(size=(30, 6))  # repeats, neurons, stimuli; times, neurons
    responses[0, 2, 4] = np.nan
    np.save(tmp_path / "r.npy", responses)
    found = load_recording(tmp_path / "r.npy", missing="neurons")
    assert found.neurons == (0, 1, 3, 4, 5)
    without = found.without_components(torch.from_numpy(activity), 1)
    same = found.without_components(torch.from_numpy(activity[:, [0, 1, 3, 4, 5]]), 1)
    assert torch.allclose(without.presentations, same.presentations, atol=1e-12)


def test_stimuli_that_are_no_numbers_are_not_ignored(tmp_path):
    np.savez(tmp_path / "r.npz", resp=ONE, istim=np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match="istim beside 'resp' must hold whole numbers; it holds texts or others"):
        load_recording(tmp_path / "r.npz")
    assert load_recording(tmp_path / "r.npz", axes="neurons,stimuli").responses.shape == (1, 4, 3)
    np.savez(tmp_path / "r.npz", resp=ONE, istim=np.ones((3, 2)))
    with pytest.raises(DataError, match="one for each presentation of an array in two dimensions; got 6 of them"):
        load_recording(tmp_path / "r.npz")


def test_single_missing_presentations_do_not_show_the_axes(tmp_path):
    responses = np.random.default_rng(0).normal(size=(5, 12, 40))  # neurons, stimuli, repeats
    responses[:, 11, 5] = np.nan
    np.save(tmp_path / "r.npy", responses)
    with pytest.raises(DataError, match="nothing says which axis"):
        load_recording(tmp_path / "r.npy")


def test_arrays_of_more_dimensions_are_listed(tmp_path):
    np.savez(tmp_path / "r.npz", vector=np.arange(5.0), films=np.ones((3, 2, 4, 5)), rates=ONE)
    with pytest.raises(
        DataError, match=r"got films \(3, 2, 4, 5\), rates \(3, 4\)\. Name one with --recording_variable, and its axes"
    ):
        load_recording(tmp_path / "r.npz")
    with pytest.raises(DataError, match="'vector' has one axis, and a recording needs neurons and stimuli"):
        load_recording(tmp_path / "r.npz", variable="vector")


@pytest.mark.real_data
def test_a_session_of_v4():
    file = data_root() / "recordings" / "v4_210325.npy"
    if not file.exists():
        pytest.skip("no recording")
    found = load_recording(file)
    assert found.axes == ("neurons", "stimuli", "repeats")
    assert found.responses.shape == (10, 640, 50)
    assert found.counts.unique().tolist() == [6, 7, 8, 9, 10]
    assert np.array_equal(found.responses.permute(2, 1, 0).numpy(), np.load(file), equal_nan=True)
