"""Neural recordings as tensors: which axis is which, and which presentations are of the same stimulus."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode._readers.arrays import names_in_npz, read_arrays
from eigencode.datasets.nwb import read_nwb, window_in
from eigencode.datasets.recording_axes import axes_in, check_unread, choose_array, named_array, recognised_axes, stimuli_beside
from eigencode.errors import DataError, FileError

_FORMATS = (".npy", ".npz", ".mat", ".h5", ".hdf5")

Missing = Literal["refuse", "presentations", "neurons"]

KnownBy = Literal["place", "number", "name"]

COMPONENTS = 32
"""Of spontaneous activity, taken away by Stringer et al. 2019."""

_OFTEN = 4
"""A stimulus shown more often than this many times the median is likely to be a blank."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Responses of neurons to presentations of stimuli.

    Attributes:
        presentations: Responses, shape (n_presentations, n_neurons), float64, in the units of the file.
        stimuli: Stimulus of each presentation, shape (n_presentations,), int64, counted from 0.
        stimulus_ids: What the file calls each stimulus, n_stimuli whole numbers in rising order; 0, 1, ... if it gives no names.
        axes: What each axis of the array was taken for.
        name: File name.
        notes: What to know of how the file was read.
        neurons: Place of each neuron in the file, counted from 0, shape (n_neurons,).
        n_recorded: Neurons in the file.
        removed: Directions that ``without_components`` took away.
        known_by: Whether the file knows a stimulus by its place, by a number or by a name.
        stimulus_names: What the file calls each stimulus, if by a name.
        n_places: Stimuli in the file, if known by their place.
    """

    presentations: Tensor
    stimuli: Tensor
    stimulus_ids: tuple[int, ...]
    axes: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()
    neurons: tuple[int, ...] = ()
    n_recorded: int = 0
    removed: int = 0
    known_by: KnownBy = "place"
    stimulus_names: tuple[str, ...] = ()
    n_places: int = 0

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, DataError, choices_only=True)

    @property
    def counts(self) -> Tensor:
        """How often each stimulus was shown, shape (n_stimuli,)."""
        return torch.bincount(self.stimuli, minlength=len(self.stimulus_ids))

    @property
    def responses(self) -> Tensor:
        """Responses, shape (n_repeats, n_stimuli, n_neurons); NaN where a stimulus was shown less often than others."""
        return self._arranged(int(self.counts.max()))

    @checked(DataError)
    def repeats(self, count: int) -> Tensor:
        """The first presentations of the stimuli that were shown at least ``count`` times.

        Args:
            count: Presentations of each stimulus.

        Returns:
            Shape (count, n_stimuli_shown_so_often, n_neurons).

        Raises:
            DataError: count is below 1, or no stimulus was shown so often.
        """
        if count < 1:
            raise DataError(f"{self.name}: presentations must be at least 1; got {count}. Ask for more.")
        if count > int(self.counts.max()):
            raise DataError(
                f"{self.name}: no stimulus was shown {count} times; the most is {int(self.counts.max())}. Ask for fewer."
            )
        return self._arranged(count)[:, self.counts >= count]

    @checked(DataError)
    def without_components(self, spontaneous: Tensor, count: int = COMPONENTS) -> Recording:
        """The recording without what varies along the leading principal components of spontaneous activity.

        Such activity is in single presentations too, whatever the stimulus, and neighbouring ones share it. What the signal has
        along these directions is lost with it.

        Args:
            spontaneous: Activity without stimuli, shape (n_times, n_neurons) or (n_neurons, n_times).
            count: Components that are taken away; 32 as in Stringer et al. 2019.

        Raises:
            DataError: another shape, values that are not finite, or more components than there are.

        Source: Stringer et al. 2019, Methods.
        """
        activity = self._by_neuron(spontaneous)
        activity = activity - activity.mean(0)
        _, sizes, directions = torch.linalg.svd(activity, full_matrices=False)
        found = int((sizes > sizes.max() * max(activity.shape) * torch.finfo(torch.float64).eps).sum())
        most = min(found, activity.shape[1] - 1)
        if not 1 <= count <= most:
            raise DataError(
                f"{self.name}: spontaneous activity of shape {tuple(spontaneous.shape)} has {most} components to take away; "
                f"{count} are asked for. Take away fewer, or none."
            )
        directions = directions[:count]
        left = self.presentations - (self.presentations @ directions.T) @ directions
        note = f"{count} principal components of spontaneous activity are taken away"
        return replace(self, presentations=left, notes=(*self.notes, note), removed=count)

    def _by_neuron(self, spontaneous: Tensor) -> Tensor:
        """Spontaneous activity, shape (n_times, n_neurons)."""
        activity, neurons = spontaneous.to(torch.float64), self.presentations.shape[1]
        if activity.ndim == 2 and neurons not in activity.shape and self.n_recorded in activity.shape:
            activity = activity.index_select(activity.shape.index(self.n_recorded), torch.tensor(self.neurons))
        if activity.ndim != 2 or (activity.shape[0] == neurons) == (activity.shape[1] == neurons):
            raise DataError(
                f"{self.name}: spontaneous activity must have one axis of {neurons} neurons and one of other length; got shape "
                f"{tuple(activity.shape)}. Pass it so."
            )
        if not bool(activity.isfinite().all()):
            raise DataError(
                f"{self.name}: spontaneous activity must be finite; got NaN or infinite values. Leave out those times."
            )
        return activity.T if activity.shape[0] == neurons else activity

    def _arranged(self, n_repeats: int) -> Tensor:
        order = self.stimuli.argsort(stable=True)
        counts = self.counts
        repeat = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        kept = repeat < n_repeats
        arranged = torch.full((n_repeats, len(counts), self.presentations.shape[1]), torch.nan, dtype=torch.float64)
        arranged[repeat[kept], self.stimuli[order][kept]] = self.presentations[order[kept]]
        return arranged


@checked(DataError)
def load_recording(
    path: str | Path,
    *,
    variable: str | None = None,
    axes: str | Sequence[str] | None = None,
    stimuli: str | None = None,
    leave_out: Sequence[int] = (),
    missing: Missing = "refuse",
) -> Recording:
    """A recording from a file.

    Args:
        path: .npy, .npz, .mat, .h5 or .hdf5 file; HDF5, and so .mat of version 7.3, with h5py (extra `recordings`).
        variable: Name of the array; default: the only numeric array that fits. Fields of structures are named with a dot.
        axes: What each axis of the array is: "neurons,stimuli,repeats", "presentations,neurons" ...; several axes called
            stimuli (frames and films, say) are taken together. Default: neurons, stimuli of a matrix, or presentations and
            neurons if the file says which stimulus was shown when; repeats, neurons, stimuli if the first axis has one or two
            places; and what missing presentations (NaN in every neuron) show. Anything else must be named.
        stimuli: Name of the vector of whole numbers that says which stimulus each presentation was. Default: istim, stimuli or
            stimulus_ids beside the array, if its length is that of an axis.
        leave_out: Stimuli that are left out, as the file numbers them, such as blanks; counted from 0 if it does not.
        missing: What is left out where some neurons have no response (NaN) to a presentation: those "presentations", those
            "neurons", or nothing ("refuse").

    Returns:
        Recording. A presentation whose responses are all NaN is taken for missing. NWB files are for ``load_nwb``.

    Raises:
        DataError: no such file or array, several that could be meant, axes that cannot be known, or values that are not finite.
    """
    path = Path(path)
    arrays = _read(path)
    named = axes_in(axes)
    variable = variable or choose_array(arrays, axes=named, stimuli=stimuli, name=path.name)
    array = named_array(arrays, variable, name=path.name).to(torch.float64)
    ids = stimuli_beside(arrays, variable, stimuli=stimuli, axes=named, name=path.name)
    if ids is None and not named and path.suffix.lower() == ".npz":
        check_unread(names_in_npz(path), variable, name=path.name)
    taken = recognised_axes(array, ids, axes=named, variable=variable, name=path.name)
    by_neuron, ids = _by_presentation(array, taken, ids)
    kept = _kept(ids, frozenset(int(number) for number in leave_out), path.name)
    recording = _recording(by_neuron[kept], ids[kept], axes=taken, missing=missing, name=path.name)
    if "presentations" in taken:
        return replace(recording, known_by="number")
    return replace(recording, n_places=int(ids.max()) + 1)


@checked(DataError)
def load_nwb(
    path: str | Path,
    *,
    responses: str | None = None,
    stimuli: str | None = None,
    window: str | Sequence[float] | None = None,
    leave_out: Sequence[int] = (),
    missing: Missing = "refuse",
) -> Recording:
    """A recording from an NWB file (Neurodata Without Borders 2): spikes of units, or fluorescence of regions of interest.

    Args:
        path: .nwb file, with pynwb (extra `recordings`).
        responses: "units", for spikes per second; or the name of a RoiResponseSeries, for its mean over the time of each
            presentation, such as "DfOverF/plane0" where several have one name. Default: the only one of them that the file has.
        stimuli: Column that says which stimulus was shown, such as "trials.stimulus_id"; the table's name may be left out where
            one table has such a column. Whole numbers, or texts and other numbers, which are numbered in alphabetical or rising
            order; presentations where it is NaN or empty are left out. Default: the only column that there is, or that is
            called stimulus_id, image_id, stimulus_name, frame ...
        window: Seconds after the start of each presentation in which responses are counted, as "0.05,0.25" or two numbers;
            default: to its end.
        leave_out: As in ``load_recording``.
        missing: As in ``load_recording``; a unit has no response while it was not observed (obs_intervals).

    Returns:
        Recording.

    Raises:
        DataError: a file that cannot be read, several columns or series that could be meant, or presentations without end.
    """
    path = Path(path)
    if path.suffix.lower() != ".nwb":
        raise DataError(f"{path.name}: an NWB file must end in .nwb. Use load_recording, or change the ending.")
    read = read_nwb(path, responses, stimuli, window_in(window))
    kept = _kept(read.stimuli, frozenset(int(number) for number in leave_out), path.name)
    axes = ("presentations", "neurons")
    recording = _recording(read.responses[kept], read.stimuli[kept], axes=axes, missing=missing, name=path.name)
    names = tuple(read.names[number] for number in recording.stimulus_ids) if read.names else ()
    known_by: KnownBy = "name" if read.names else "number"
    return replace(recording, known_by=known_by, stimulus_names=names, notes=(*recording.notes, *read.notes))


@checked(DataError)
def load_spontaneous(path: str | Path, variable: str) -> Tensor:
    """Activity without stimuli, for ``Recording.without_components``.

    Args:
        path: File of a recording.
        variable: Name of the array.

    Returns:
        As it is in the file.

    Raises:
        DataError: no such file or array.
    """
    return named_array(_read(Path(path)), variable, name=Path(path).name)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix.lower() == ".nwb":
        raise DataError(f"{path.name}: arrays of an NWB file are not read by name. Use load_nwb.")
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f"{path.name}: a recording must be a {', '.join(_FORMATS)} or .nwb file. Convert it.")
    try:
        return read_arrays(path)
    except FileError as error:
        raise DataError(str(error)) from None


def _by_presentation(array: Tensor, axes: tuple[str, ...], ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Responses, shape (n_presentations, n_neurons), and the stimulus of each; all first repeats come first."""
    order = sorted(range(len(axes)), key=lambda axis: ("repeats", "presentations", "stimuli", "neurons").index(axes[axis]))
    by_neuron = array.permute(order).reshape(-1, array.shape[axes.index("neurons")])
    if ids is None:
        n_stimuli = math.prod(array.shape[axis] for axis, what in enumerate(axes) if what == "stimuli")
        ids = torch.arange(n_stimuli).repeat(len(by_neuron) // n_stimuli)
    return by_neuron, ids


def _kept(ids: Tensor, leave_out: frozenset[int], name: str) -> Tensor:
    if unknown := leave_out - set(ids.tolist()):
        raise DataError(
            f"{name}: there is no stimulus {min(unknown)}; they are numbered {int(ids.min())} to {int(ids.max())}. "
            "Leave out some of these."
        )
    return ~torch.isin(ids, torch.tensor(sorted(leave_out), dtype=torch.int64))


def _recording(responses: Tensor, ids: Tensor, *, axes: tuple[str, ...], missing: Missing, name: str) -> Recording:
    """The presentations that there are, of the neurons that are kept."""
    notes, absent = [], responses.isnan()
    there = ~absent.all(dim=1)
    _check_finite(responses, ids, responses.isinf(), "Remove these neurons or stimuli.", name)
    if missing == "refuse":
        remedy = "Leave them out with --recording_missing neurons or presentations."
        _check_finite(responses, ids, absent & there[:, None], remedy, name)
    if missing == "presentations":
        there &= ~absent.any(dim=1)
        partly = int((absent.any(dim=1) & ~absent.all(dim=1)).sum())
        notes.append(f"{partly} presentations without the response of some neuron are left out")
    neurons: tuple[int, ...] | None = None
    if missing == "neurons":
        complete = ~absent[there].any(dim=0)
        neurons = tuple(complete.nonzero().flatten().tolist())
        responses = responses[:, complete]
        notes.append(f"{int((~complete).sum())} neurons without a response to some presentation are left out")
    shown, stimuli = ids[there].unique(return_inverse=True)
    if never := len(ids.unique()) - len(shown):
        notes.append(f"{never} stimuli without any response are left out")
    presentations = responses[there]
    if not presentations.numel():
        raise DataError(
            f"{name}: there is no presentation of a stimulus with responses. Leave out less, or name another array or other axes."
        )
    if len(presentations) > 1 and bool((presentations == presentations[:1]).all()):
        raise DataError(f"{name}: every neuron gives the same response to all stimuli, so there is no variance to measure.")
    return Recording(
        presentations=presentations,
        stimuli=stimuli,
        stimulus_ids=tuple(shown.tolist()),
        axes=axes,
        name=name,
        notes=(*_shown(axes, stimuli, shown, presentations.shape[1]), *notes),
        neurons=tuple(range(absent.shape[1])) if neurons is None else neurons,
        n_recorded=absent.shape[1],
    )


def _check_finite(responses: Tensor, ids: Tensor, bad: Tensor, remedy: str, name: str) -> None:
    if count := int(bad.sum()):
        presentation, neuron = bad.nonzero()[0].tolist()
        raise DataError(
            f"{name}: responses must be finite, or NaN in every neuron where nothing was shown; got {count} NaN or infinite "
            f"values, the first of neuron {neuron}, counted from 0, at stimulus {int(ids[presentation])}. {remedy}"
        )


def _shown(axes: tuple[str, ...], stimuli: Tensor, shown: Tensor, n_neurons: int) -> Iterator[str]:
    counts = torch.bincount(stimuli)
    least, most, usual = int(counts.min()), int(counts.max()), float(counts.double().quantile(0.5))
    times = "once" if most == 1 else f"{most} times" if least == most else f"{least} to {most} times"
    yield f"axes read as {','.join(axes)}: {n_neurons} neurons, {len(counts)} stimuli, each shown {times}"
    if axes.count("stimuli") > 1:
        yield (
            "stimuli along several axes are taken for independent of each other; where they are not, such as frames of one film, "
            "intervals are too narrow"
        )
    if most > _OFTEN * usual:
        often = int(shown[counts.argmax()])
        yield (
            f"stimulus {often} was shown {most} times, others {usual:g} times (the median); if it is a blank, leave it out with "
            f"--recording_leave_out {often}"
        )
