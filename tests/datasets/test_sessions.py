from dataclasses import replace

import numpy as np
import pytest
import torch

from eigencode import signal_spectrum
from eigencode.datasets import join_sessions, load_recording
from eigencode.errors import DataError


def session(path, responses, stimuli):
    np.savez(path, resp=responses, istim=stimuli)
    return load_recording(path)


def test_the_same_presentations_in_two_files_are_one_recording(tmp_path, generator):
    stimuli = np.random.default_rng(0).permutation(np.repeat(np.arange(5, 25), 3))
    signal = (torch.randn(25, 9, generator=generator, dtype=torch.float64) / torch.arange(1, 10))[stimuli]
    responses = (signal + 0.01 * torch.randn(60, 9, generator=generator, dtype=torch.float64)).numpy()
    whole = session(tmp_path / "all.npz", responses, stimuli)
    parts = [session(tmp_path / "a.npz", responses[:, :4], stimuli), session(tmp_path / "b.npz", responses[:, 4:], stimuli)]
    joined = join_sessions(parts)
    assert torch.equal(joined.responses, whole.responses)
    assert joined.stimulus_ids == whole.stimulus_ids
    one, two = (signal_spectrum(each.presentations, each.stimuli) for each in (joined, whole))
    assert one.alpha.value == pytest.approx(two.alpha.value)
    assert joined.notes[-1] == "2 sessions together: 9 neurons, 20 stimuli, each shown 3 times in all of them"
    assert joined.name == "a.npz + b.npz"


def test_stimuli_go_by_their_number_and_the_fewest_presentations(tmp_path, generator):
    first = session(tmp_path / "a.npz", np.arange(14.0).reshape(7, 2) ** 2, np.array([4, 1, 1, 2, 4, 2, 4]))
    second = session(tmp_path / "b.npz", np.arange(18.0).reshape(6, 3) ** 2, np.array([9, 4, 2, 4, 2, 2]))
    joined = join_sessions([first, second])
    assert joined.stimulus_ids == (2, 4)
    assert joined.stimuli.tolist() == [0, 0, 1, 1]
    rows = np.concatenate([first.presentations[[3, 5, 0, 4]], second.presentations[[2, 4, 1, 3]]], axis=1)
    assert np.array_equal(joined.presentations.numpy(), rows)
    assert joined.notes[-1] == "2 stimuli that were not shown in all sessions are left out"


def test_what_is_refused(tmp_path):
    for name, shape in (("a", (2, 3, 10)), ("b", (2, 4, 12)), ("c", (2, 5, 10))):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=shape))
    a, b, c = (load_recording(tmp_path / f"{name}.npy") for name in "abc")
    assert join_sessions([a, c]).responses.shape == (2, 10, 8)
    with pytest.raises(DataError, match="known by their place alone, and the sessions have 10, 12 of them"):
        join_sessions([a, b])
    with pytest.raises(DataError, match="at least one recording"):
        join_sessions([])
    apart = [session(tmp_path / f"{k}.npz", np.arange(12.0).reshape(6, 2) ** 2, np.repeat([k, k + 1, k + 2], 2)) for k in (0, 7)]
    with pytest.raises(DataError, match="no stimulus was shown in all sessions"):
        join_sessions(apart)
    assert join_sessions([a]) is a


def test_places_are_no_numbers(tmp_path, generator):
    by_place = np.random.default_rng(0).normal(size=(2, 6, 10))
    np.save(tmp_path / "a.npy", by_place)
    named = session(tmp_path / "b.npz", by_place.transpose(0, 2, 1).reshape(20, 6) ** 2, np.r_[1:11, 1:11])
    first = load_recording(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"they are known by place in a.npy and by number in b.npz. Give each"):
        join_sessions([first, named])
    np.save(tmp_path / "c.npy", by_place[..., ::-1] ** 3)
    left = load_recording(tmp_path / "c.npy", leave_out=[3])
    joined = join_sessions([first, left])
    assert joined.stimulus_ids == (0, 1, 2, 4, 5, 6, 7, 8, 9)
    np.save(tmp_path / "d.npy", np.random.default_rng(1).normal(size=(2, 4, 11)))
    with pytest.raises(DataError, match="have 10, 11 of them"):
        join_sessions([joined, load_recording(tmp_path / "d.npy")])


def test_the_same_session_twice_is_refused(tmp_path):
    whole = session(tmp_path / "a.npz", np.random.default_rng(0).normal(size=(20, 6)), np.repeat(np.arange(10), 2))
    with pytest.raises(DataError, match="neurons of two sessions have the very same responses. Pass each session once"):
        join_sessions(each for each in (whole, whole))


def test_names_are_matched_by_name(tmp_path):
    def named(name, names, seed):
        recording = session(tmp_path / name, np.random.default_rng(seed).normal(size=(6, 4)), np.repeat([0, 1, 2], 2))
        return replace(recording, known_by="name", stimulus_names=names)

    first, second = named("a.npz", ("cat", "dog", "fox"), 0), named("b.npz", ("ant", "dog", "fox"), 1)
    joined = join_sessions([first, second])
    assert joined.stimulus_names == ("dog", "fox")
    expected = np.concatenate([first.presentations[2:], second.presentations[2:]], axis=1)
    assert np.array_equal(joined.presentations.numpy(), expected)
