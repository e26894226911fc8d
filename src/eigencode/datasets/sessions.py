"""Neurons of several sessions in which the same stimuli were shown, taken together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode.datasets.recordings import Recording
from eigencode.errors import DataError


@checked(DataError)
def join_sessions(recordings: Sequence[Recording]) -> Recording:
    """One recording of the neurons of all sessions, as if they had been recorded together.

    The first presentation of a stimulus in one session goes with its first in every other, and so on; presentations that only
    some sessions have are left out. Noise that neurons of different sessions would share is lost, which changes nothing for the
    signal.

    Args:
        recordings: Of different neurons; stimuli are the same where the files give them the same number.

    Returns:
        Recording.

    Raises:
        DataError: no recording, no stimulus that all of them share, or different numbers of stimuli that the files do not name.
    """
    if not recordings:
        raise DataError("join_sessions: there must be at least one recording; got none. Pass some.")
    if len(recordings) == 1:
        return recordings[0]
    _check_named(recordings)
    shared = sorted(set.intersection(*(set(each.stimulus_ids) for each in recordings)))
    name = " + ".join(each.name for each in recordings)
    if not shared:
        raise DataError(f"{name}: no stimulus was shown in all sessions. Check the numbers of the stimuli.")
    places = [torch.tensor([each.stimulus_ids.index(number) for number in shared]) for each in recordings]
    counts = torch.stack([each.counts[place] for each, place in zip(recordings, places, strict=True)]).amin(0)
    chosen = [_presentations(each, place, counts) for each, place in zip(recordings, places, strict=True)]
    presentations = torch.cat([each.presentations[of] for each, of in zip(recordings, chosen, strict=True)], dim=1)
    return Recording(
        presentations=presentations,
        stimuli=torch.arange(len(shared)).repeat_interleave(counts),
        stimulus_ids=tuple(shared),
        axes=("presentations", "neurons"),
        name=name,
        notes=tuple(_notes(recordings, shared, counts, presentations.shape[1])),
        neurons=tuple(range(presentations.shape[1])),
        n_recorded=presentations.shape[1],
        removed=sum(each.removed for each in recordings),
    )


def _check_named(recordings: Sequence[Recording]) -> None:
    """Refuses sessions whose stimuli are known by their place alone, and which have not equally many."""
    by_place = [each for each in recordings if "presentations" not in each.axes]
    sizes = {len(each.stimulus_ids) for each in recordings}
    if by_place and len(sizes) > 1:
        raise DataError(
            f"{by_place[0].name}: its stimuli have no numbers, and the sessions have {', '.join(map(str, sorted(sizes)))} of "
            "them, so that nothing says which are the same. Give each session's presentations a vector of stimuli."
        )


def _presentations(recording: Recording, places: Tensor, counts: Tensor) -> Tensor:
    """The first presentations of each shared stimulus, in the order of the stimuli."""
    order = recording.stimuli.argsort(stable=True)
    starts = recording.counts.cumsum(0) - recording.counts
    within = torch.cat([torch.arange(count) for count in counts.tolist()])
    return order[starts[places].repeat_interleave(counts) + within]


def _notes(recordings: Sequence[Recording], shared: list[int], counts: Tensor, n_neurons: int) -> list[str]:
    notes = [f"{each.name}: {note}" for each in recordings for note in each.notes]
    least, most = int(counts.min()), int(counts.max())
    times = "once" if most == 1 else f"{most} times" if least == most else f"{least} to {most} times"
    notes.append(f"{len(recordings)} sessions together: {n_neurons} neurons, {len(shared)} stimuli, each shown {times}")
    if left := max(len(each.stimulus_ids) for each in recordings) - len(shared):
        notes.append(f"{left} stimuli that were not shown in all sessions are left out")
    return notes
