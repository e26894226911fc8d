"""NWB files written by pynwb: spikes and fluorescence at presentations, and what is refused."""

import warnings
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from eigencode.datasets import load_nwb, load_recording
from eigencode.errors import DataError

pynwb = pytest.importorskip("pynwb")
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:The linked table for DynamicTableRegion")  # pynwb, of a file being built

STARTS = np.arange(12.0)
IMAGES = np.array([7, 3, 5, 7, 3, 5, 9, 9, 7, 3, 5, 9])
SPIKES = [np.sort(np.random.default_rng(unit).uniform(-1, 13, 300)) for unit in range(5)]


def new_file():
    return pynwb.NWBFile(session_description="test", identifier="1", session_start_time=datetime(2026, 1, 1, tzinfo=UTC))


def written(file, path):
    with pynwb.NWBHDF5IO(str(path), "w") as opened:
        opened.write(file)
    return path


def with_trials(file, values=IMAGES, column="image_id", lasting=0.5):
    file.add_trial_column(name=column, description="stimulus")
    for start, value in zip(STARTS, values, strict=True):
        file.add_trial(start_time=start, stop_time=start + lasting, **{column: value})
    return file


def with_units(file, observed=None):
    for unit, times in enumerate(SPIKES):
        file.add_unit(spike_times=times, **({"obs_intervals": observed[unit]} if observed else {}))
    return file


def with_fluorescence(file, data, name="DfOverF", **times):
    device = file.create_device(name="microscope")
    channel = pynwb.ophys.OpticalChannel(name="channel", description="green", emission_lambda=500.0)
    plane = file.create_imaging_plane(
        name="plane",
        optical_channel=channel,
        description="V1",
        device=device,
        excitation_lambda=900.0,
        indicator="GCaMP6s",
        location="V1",
        imaging_rate=10.0,
    )
    module = file.create_processing_module(name="ophys", description="fluorescence")
    segmentation = pynwb.ophys.ImageSegmentation()
    module.add(segmentation)
    regions = segmentation.create_plane_segmentation(name="regions", description="regions", imaging_plane=plane)
    for _ in range(data.shape[1]):
        regions.add_roi(image_mask=np.ones((2, 2)))
    table = regions.create_roi_table_region(region=list(range(data.shape[1])), description="all")
    series = pynwb.ophys.RoiResponseSeries(name=name, data=data, rois=table, unit="1", **times)
    module.add(pynwb.ophys.DfOverF(roi_response_series=[series]))
    return file


def rates(first, last):
    """Spikes per second between two times after each start, counted one by one."""
    return np.array([[((start + first <= t) & (t < start + last)).sum() / (last - first) for t in SPIKES] for start in STARTS])


@pytest.mark.parametrize(("window", "first", "last"), [(None, 0.0, 0.5), ("0.05,0.25", 0.05, 0.25), ((-0.5, 1.5), -0.5, 1.5)])
def test_spikes_are_counted_at_each_presentation(tmp_path, window, first, last):
    path = written(with_units(with_trials(new_file())), tmp_path / "session.nwb")
    found = load_nwb(path, window=window)
    assert np.allclose(found.presentations.numpy(), rates(first, last))
    assert found.stimulus_ids == (3, 5, 7, 9)
    assert found.stimuli.tolist() == [(3, 5, 7, 9).index(image) for image in IMAGES]
    assert found.responses.shape == (3, 4, 5)
    when = "from start to stop" if window is None else f"from {first:g} to {last:g} s after the start"
    assert f"spikes per second of 5 neurons, {when} of each presentation in trials" in found.notes


def test_stimuli_may_be_texts_in_another_table(tmp_path):
    file = with_units(with_trials(new_file(), column="choice"))
    scenes = pynwb.epoch.TimeIntervals(name="scenes", description="images")
    scenes.add_column(name="stimulus_name", description="image")
    names = ["zebra", "ant", "mole"] * 4
    for start, name in zip(STARTS, names, strict=True):
        scenes.add_row(start_time=start, stop_time=start + 0.5, stimulus_name=name)
    file.add_time_intervals(scenes)
    path = written(file, tmp_path / "session.nwb")
    found = load_nwb(path)
    assert found.stimuli.tolist() == [2, 0, 1] * 4
    assert "alphabetical order of scenes.stimulus_name: 0 is ant, 1 is mole, 2 is zebra" in found.notes[-1]
    assert found.stimulus_names == ("ant", "mole", "zebra")
    assert load_nwb(path, stimuli="trials.choice").stimulus_ids == (3, 5, 7, 9)
    assert load_nwb(path, stimuli="choice", leave_out=[9]).stimulus_ids == (3, 5, 7)


def test_units_that_were_not_observed_have_no_response(tmp_path):
    observed = [[[0.0, 20.0]]] * 4 + [[[0.0, 3.2], [3.9, 20.0]]]
    path = written(with_units(with_trials(new_file()), observed), tmp_path / "session.nwb")
    with pytest.raises(DataError, match="the first of neuron 4, counted from 0, at stimulus 7"):
        load_nwb(path)
    assert load_nwb(path, missing="neurons").presentations.shape == (12, 4)
    assert load_nwb(path, missing="presentations").presentations.shape == (11, 5)


@pytest.mark.parametrize("by_rate", [True, False])
def test_fluorescence_is_averaged_over_each_presentation(tmp_path, by_rate):
    data = np.random.default_rng(0).normal(size=(130, 4))
    times = {"rate": 10.0, "starting_time": 0.0} if by_rate else {"timestamps": np.arange(130) / 10}
    path = written(with_fluorescence(with_trials(new_file()), data, **times), tmp_path / "session.nwb")
    found = load_nwb(path)
    expected = np.stack([data[int(10 * start) : int(10 * start) + 5].mean(0) for start in STARTS])
    assert np.allclose(found.presentations.numpy(), expected)
    with pytest.raises(DataError, match=r"no sample of DfOverF, one in 0.1 s, lies within a presentation.*such as 0,1"):
        load_nwb(path, window=(0.01, 0.02))


def test_both_kinds_of_responses_must_be_named(tmp_path):
    file = with_fluorescence(with_units(with_trials(new_file())), np.ones((130, 4)) * np.arange(130)[:, None], rate=10.0)
    path = written(file, tmp_path / "session.nwb")
    with pytest.raises(
        DataError, match="several responses may be meant; got units, DfOverF. Name one of these with --recording_variable"
    ):
        load_nwb(path)
    assert load_nwb(path, responses="units").presentations.shape == (12, 5)
    assert load_nwb(path, responses="DfOverF").presentations.shape == (12, 4)
    with pytest.raises(DataError, match="there are no responses 'spikes'; got units, DfOverF"):
        load_nwb(path, responses="spikes")


@pytest.mark.parametrize(
    ("values", "names", "shown"),
    [
        ([90.0, 22.5, np.nan] * 4, ("22.5", "90"), [1, 0] * 4),
        (["b", "a", ""] * 4, ("a", "b"), [1, 0] * 4),
        ([-1, 5, 5] * 4, ("-1", "5"), [0, 1, 1] * 4),
        ([2.0, 0.0, np.nan] * 4, (), [1, 0] * 4),
    ],
)
def test_stimuli_of_any_kind(tmp_path, values, names, shown):
    found = load_nwb(written(with_units(with_trials(new_file(), values=values)), tmp_path / "a.nwb"))
    assert (found.stimulus_names, found.stimuli.tolist()) == (names, shown)
    left = sum(value in ("",) or value != value for value in values)
    assert any(f"{left} presentations without a stimulus in trials.image_id are left out" in note for note in found.notes) == (
        left > 0
    )


def test_the_only_column_is_taken(tmp_path):
    assert load_nwb(written(with_units(with_trials(new_file(), column="angle")), tmp_path / "a.nwb")).stimulus_ids == (3, 5, 7, 9)


def test_intervals_that_touch_are_one(tmp_path):
    observed = [[[5.0, 50.0], [-5.0, 3.25], [3.25, 5.0]]] * 5
    assert len(load_nwb(written(with_units(with_trials(new_file()), observed), tmp_path / "a.nwb")).presentations) == 12
    observed = [[[-5.0, 3.25], [4.0, 20.0]]] * 5
    found = load_nwb(written(with_units(with_trials(new_file()), observed), tmp_path / "b.nwb"))
    assert len(found.presentations) == 11
    assert "1 presentations at which nothing was recorded are left out" in found.notes


def test_neighbours_that_overlap_are_told(tmp_path):
    path = written(with_units(with_trials(new_file())), tmp_path / "a.nwb")
    overlap = "times of neighbouring presentations overlap, so that they share responses, and their noise too"
    assert overlap in load_nwb(path, window="0,1.5").notes
    assert overlap not in load_nwb(path, window="0,1").notes
    with pytest.raises(
        DataError, match=r"begin 1 s apart, and a window from 50 to 250 s holds many. Give --recording_window in seconds"
    ):
        load_nwb(path, window="50,250")


def test_series_of_one_name_are_told_apart(tmp_path):
    data = np.random.default_rng(0).normal(size=(130, 4))
    file = with_fluorescence(with_trials(new_file()), data, name="plane0", rate=10.0)
    (series,) = file.processing["ophys"]["DfOverF"].roi_response_series.values()
    other = pynwb.ophys.RoiResponseSeries(name="plane0", data=data + 100, rois=series.rois, unit="1", rate=10.0, conversion=0.5)
    file.processing["ophys"].add(pynwb.ophys.Fluorescence(roi_response_series=[other]))
    path = written(file, tmp_path / "a.nwb")
    with pytest.raises(DataError, match="several responses may be meant; got DfOverF/plane0, Fluorescence/plane0"):
        load_nwb(path)
    one, two = (load_nwb(path, responses=f"{name}/plane0").presentations for name in ("DfOverF", "Fluorescence"))
    assert torch.allclose(two, (one + 100) / 2)


def test_fluorescence_that_ends_too_early(tmp_path):
    data = np.random.default_rng(0).normal(size=(63, 4))
    found = load_nwb(written(with_fluorescence(with_trials(new_file()), data, rate=10.0), tmp_path / "a.nwb"))
    assert len(found.presentations) == 6
    assert "6 presentations at which nothing was recorded are left out" in found.notes


@pytest.mark.parametrize(
    ("data", "times"),
    [
        (np.ones((4, 130)), {"rate": 10.0}),
        (np.ones((130, 4)), {"timestamps": np.r_[np.arange(126.0), [np.nan] * 4]}),
        (np.ones((130, 4)), {"timestamps": np.zeros(130)}),
    ],
)
def test_series_that_are_no_times_of_regions(tmp_path, data, times):
    file = with_fluorescence(with_trials(new_file()), np.ones((130, 4)), name="good", rate=10.0)
    (series,) = file.processing["ophys"]["DfOverF"].roi_response_series.values()
    with warnings.catch_warnings(action="ignore"):
        bad = pynwb.ophys.RoiResponseSeries(name="bad", data=data, rois=series.rois, unit="1", **times)
    file.processing["ophys"].add(pynwb.ophys.Fluorescence(roi_response_series=[bad]))
    path = written(file, tmp_path / "a.nwb")
    with pytest.raises(DataError, match=r"bad must (hold real numbers of shape \(times, regions\)|have one finite time)"):
        load_nwb(path, responses="bad")


@pytest.mark.parametrize(
    ("index", "times"),
    [([300, 200, 900, 1200, 1500], None), ([30, 60, 90, 120, 150], None), ([300, 600, 900, 1200, 9000], None), (None, np.nan)],
)
def test_a_damaged_index_of_spikes(tmp_path, index, times):
    path = written(with_units(with_trials(new_file())), tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        if index:
            file["units/spike_times_index"][:] = index
        else:
            file["units/spike_times"][3] = times
    with pytest.raises(DataError, match=r"a.nwb: spike_times(_index does not divide| must be finite)"):
        load_nwb(path)


def test_what_is_refused(tmp_path):
    file = with_units(with_trials(new_file(), column="choice"))
    file.add_trial_column(name="side", description="left or right", data=np.arange(12))
    with pytest.raises(
        DataError, match="several columns may say what was shown; got trials.choice, trials.side. Name one of these"
    ):
        load_nwb(written(file, tmp_path / "a.nwb"))
    with pytest.raises(DataError, match="there is no column 'picture'; got trials.choice, trials.side"):
        load_nwb(tmp_path / "a.nwb", stimuli="picture")
    path = written(with_units(new_file()), tmp_path / "b.nwb")
    with pytest.raises(DataError, match="there is no table of presentations, such as trials. Save responses as an array"):
        load_nwb(path)
    file = with_units(new_file())
    file.add_trial(start_time=0.0, stop_time=1.0)
    with pytest.raises(DataError, match="the table trials says when, but no column says what was shown"):
        load_nwb(written(file, tmp_path / "b.nwb"))
    path = written(with_trials(new_file()), tmp_path / "c.nwb")
    with pytest.raises(DataError, match="it has neither units with spikes nor a RoiResponseSeries"):
        load_nwb(path)
    path = written(with_units(with_trials(new_file(), lasting=0.0)), tmp_path / "d.nwb")
    with pytest.raises(DataError, match=r"presentation 0 of trials lasts from 0 to 0 s\. Give the time after its start"):
        load_nwb(path)
    assert load_nwb(path, window="0,1").presentations.shape == (12, 5)
    path = written(with_units(with_trials(new_file(), values=[1.0, np.inf, 2.0] * 4)), tmp_path / "e.nwb")
    with pytest.raises(DataError, match=r"trials.image_id must hold finite numbers; got infinite ones"):
        load_nwb(path)
    path = written(with_units(with_trials(new_file(), values=[np.nan] * 12)), tmp_path / "e.nwb")
    with pytest.raises(DataError, match=r"trials.image_id holds no stimulus at all"):
        load_nwb(path)


def test_files_and_windows_that_are_refused(tmp_path):
    path = written(with_units(with_trials(new_file())), tmp_path / "a.nwb")
    for window in ("0.3", "0.3,0.1", "a,b", "0,nan"):
        with pytest.raises(DataError, match="a window must be two times"):
            load_nwb(path, window=window)
    (tmp_path / "f.nwb").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"f.nwb cannot be read as an NWB file \(.*Write it again."):
        load_nwb(tmp_path / "f.nwb")
    with h5py.File(tmp_path / "g.nwb", "w") as file:
        file["array"] = np.ones(3)
    with pytest.raises(DataError, match=r"g.nwb cannot be read as an NWB file"):
        load_nwb(tmp_path / "g.nwb")
    for path in (tmp_path / "h.nwb", "a" * 300 + ".nwb"):
        with pytest.raises(DataError, match=r"does not exist|cannot be read as an NWB file"):
            load_nwb(path)
    with pytest.raises(DataError, match="must end in .nwb"):
        load_nwb(tmp_path / "h.mat")
    with pytest.raises(DataError, match="Use load_nwb"):
        load_recording(tmp_path / "a.nwb")


def test_lists_of_different_lengths_name_no_stimulus(tmp_path):
    file = with_units(with_trials(new_file(), column="choice"))
    file.add_trial_column(name="tagged", description="lists", data=[[1]] * 6 + [[1, 2]] * 6, index=True)
    with pytest.raises(DataError, match="trials.tagged must hold one number or text for each presentation"):
        load_nwb(written(file, tmp_path / "a.nwb"), stimuli="tagged")


def test_damaged_files_give_one_sentence(tmp_path):
    whole = written(with_units(with_trials(new_file())), tmp_path / "a.nwb").read_bytes()
    draws = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[draws.integers(0, len(whole), 5)] = draws.integers(0, 256, 5)
        (tmp_path / "b.nwb").write_bytes(damaged[: draws.integers(100, len(whole))] if draws.random() < 0.3 else damaged)
        with suppress(DataError):
            assert load_nwb(tmp_path / "b.nwb").presentations.ndim == 2


def test_a_file_that_refers_to_others_is_refused(tmp_path):
    path = written(with_units(with_trials(new_file())), tmp_path / "a.nwb")
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DataError, match="a.nwb refers to other files at elsewhere, which are not read"):
        load_nwb(path)


def test_signal_of_spikes(tmp_path):
    from eigencode import signal_spectrum

    generator = np.random.default_rng(0)
    drive = generator.gamma(2.0, 10.0, (40, 9))
    starts, images = np.arange(80.0), np.tile(np.arange(40), 2)
    file = new_file()
    file.add_trial_column(name="image_id", description="stimulus")
    for start, image in zip(starts, images, strict=True):
        file.add_trial(start_time=start, stop_time=start + 0.5, image_id=image)
    for unit in range(9):
        counts = generator.poisson(drive[images, unit] / 2)
        times = [start + generator.uniform(0, 0.5, count) for start, count in zip(starts, counts, strict=True)]
        file.add_unit(spike_times=np.sort(np.concatenate(times)))
    recording = load_nwb(written(file, tmp_path / "poisson.nwb"))
    found = signal_spectrum(recording.presentations, recording.stimuli)
    share = 200 / (200 + 2 * 20)  # variance of the drive, and of counts of mean 10 in half a second as rates: 4 * 10
    assert found.signal_fraction.low < share < found.signal_fraction.high
    assert torch.isfinite(recording.presentations).all()
