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
    assert joined.notes[-1] == "2 sessions together: 9 neurons, 20 stimuli, each shown 3 times"
    assert joined.name == "a.npz + b.npz"


def test_stimuli_go_by_their_number_and_the_fewest_presentations(tmp_path, generator):
    first = session(tmp_path / "a.npz", np.arange(14.0).reshape(7, 2) ** 2, np.array([4, 1, 1, 2, 4, 2, 4]))
    second = session(tmp_path / "b.npz", np.arange(18.0).reshape(6, 3) ** 2, np.array([9, 4, 2, 4, 2, 2]))
    joined = join_sessions([first, second])
    assert joined.stimulus_ids == (2, 4)
    assert joined.stimuli.tolist() == [0, 0, 1, 1]
    rows = np.concatenate([first.presentations[[3, 5, 0, 4]], second.presentations[[2, 4, 1, 3]]], axis=1)
    assert np.array_equal(joined.presentations.numpy(), rows)
    assert joined.notes[-1] == "1 stimuli that were not shown in all sessions are left out"


def test_what_is_refused(tmp_path):
    for name, shape in (("a", (2, 3, 10)), ("b", (2, 4, 12)), ("c", (2, 5, 10))):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=shape))
    a, b, c = (load_recording(tmp_path / f"{name}.npy") for name in "abc")
    assert join_sessions([a, c]).responses.shape == (2, 10, 8)
    with pytest.raises(DataError, match="stimuli have no numbers, and the sessions have 10, 12 of them"):
        join_sessions([a, b])
    with pytest.raises(DataError, match="at least one recording"):
        join_sessions([])
    apart = [session(tmp_path / f"{k}.npz", np.arange(12.0).reshape(6, 2) ** 2, np.repeat([k, k + 1, k + 2], 2)) for k in (0, 7)]
    with pytest.raises(DataError, match="no stimulus was shown in all sessions"):
        join_sessions(apart)
    assert join_sessions([a]) is a
