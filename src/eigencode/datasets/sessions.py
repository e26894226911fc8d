"""Neurons of several sessions in which the same stimuli were shown, taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode.datasets.recordings import Recording
from eigencode.errors import DataError


@checked(DataError)
def join_sessions(recordings: Iterable[Recording]) -> Recording:
    """One recording of the neurons of all sessions, as if they had been recorded together.

    The first presentation of a stimulus in one session goes with its first in every other, and so on; presentations that only
    some sessions have are left out. Noise that neurons of different sessions would share is lost, which changes nothing for the
    signal.

    Args:
        recordings: Of different neurons. Stimuli are the same where the files give them the same number or name, or have them at
            the same place; that numbers mean the same in all files cannot be checked.

    Returns:
        Recording.

    Raises:
        DataError: no recording; the same neurons twice; no stimulus that all share; stimuli that are known by their place in one
            file and by numbers or names in another, or by their place in files with different numbers of them.

    Example:
        >>> join_sessions([load_recording("monday.npz"), load_recording("tuesday.npz")])  # doctest: +SKIP
    """
    recordings = list(recordings)
    if not recordings:
        raise DataError("join_sessions: there must be at least one recording; got none. Pass some.")
    if len(recordings) == 1:
        return recordings[0]
    _check_alike(recordings)
    keys = [each.stimulus_names or each.stimulus_ids for each in recordings]
    everything = set[int | str]().union(*keys)
    shared = sorted(set.intersection(*map(set[int | str], keys)), key=lambda key: keys[0].index(key))
    name = " + ".join(each.name for each in recordings)
    if not shared:
        raise DataError(f"{name}: no stimulus was shown in all sessions. Check the numbers of the stimuli.")
    places = [torch.tensor([key.index(each) for each in shared]) for key in keys]
    counts = torch.stack([each.counts[place] for each, place in zip(recordings, places, strict=True)]).amin(0)
    chosen = [_presentations(each, place, counts) for each, place in zip(recordings, places, strict=True)]
    parts = [each.presentations[of] for each, of in zip(recordings, chosen, strict=True)]
    _check_different(parts, name)
    presentations = torch.cat(parts, dim=1)
    first = recordings[0]
    return replace(
        first,
        presentations=presentations,
        stimuli=torch.arange(len(shared)).repeat_interleave(counts),
        stimulus_ids=tuple(first.stimulus_ids[place] for place in places[0].tolist()),
        stimulus_names=tuple(first.stimulus_names[place] for place in places[0].tolist()) if first.stimulus_names else (),
        name=name,
        notes=tuple(_notes(recordings, counts, presentations.shape[1], len(everything) - len(shared))),
        neurons=tuple(range(presentations.shape[1])),
        n_recorded=presentations.shape[1],
        removed=sum(each.removed for each in recordings),
    )


def _check_alike(recordings: Sequence[Recording]) -> None:
    """Refuses sessions whose stimuli are not known by the same thing."""
    kinds = {each.known_by: each.name for each in recordings}
    if len(kinds) > 1:
        listed = " and ".join(f"by {kind} in {name}" for kind, name in kinds.items())
        raise DataError(
            f"sessions must know their stimuli by the same thing; they are known {listed}. Give each session's presentations a "
            "vector of stimuli with the same numbers."
        )
    sizes = sorted({each.n_places for each in recordings})
    if len(sizes) > 1:
        raise DataError(
            f"{recordings[0].name}: stimuli are known by their place alone, and the sessions have {', '.join(map(str, sizes))} "
            "of them, so that nothing says which are the same. Give each session's presentations a vector of stimuli."
        )


def _check_different(parts: Sequence[Tensor], name: str) -> None:
    """Refuses sessions most of whose neurons have the very same responses as those of another."""
    columns = [{column.numpy().tobytes() for column in part.T if bool((column != column[0]).any())} for part in parts]
    for first, second in combinations(columns, 2):
        if 2 * len(first & second) > min(len(first), len(second)):
            raise DataError(f"{name}: neurons of two sessions have the very same responses. Pass each session once.")


def _presentations(recording: Recording, places: Tensor, counts: Tensor) -> Tensor:
    """The first presentations of each shared stimulus, in the order of the stimuli."""
    order = recording.stimuli.argsort(stable=True)
    starts = recording.counts.cumsum(0) - recording.counts
    within = torch.cat([torch.arange(count) for count in counts.tolist()])
    return order[starts[places].repeat_interleave(counts) + within]


def _notes(recordings: Sequence[Recording], counts: Tensor, n_neurons: int, left: int) -> list[str]:
    notes = [f"{each.name}: {note}" for each in recordings for note in each.notes]
    least, most = int(counts.min()), int(counts.max())
    times = "once" if most == 1 else f"{most} times" if least == most else f"{least} to {most} times"
    notes.append(
        f"{len(recordings)} sessions together: {n_neurons} neurons, {len(counts)} stimuli, each shown {times} in all of them"
    )
    if left:
        notes.append(f"{left} stimuli that were not shown in all sessions are left out")
    return notes
