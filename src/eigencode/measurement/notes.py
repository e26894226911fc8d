"""What a reader of the numbers should know of where they were read."""

from __future__ import annotations

from collections.abc import Sequence

from eigencode._codes import CodeOptions
from eigencode.activations import Site, Trace


def notes_of(traced: Trace, chosen: Sequence[Site], options: CodeOptions, unnamed: str) -> dict[str, str]:
    """What a reader of the numbers should know of where they were read.

    Args:
        traced: What the network calls.
        chosen: Where it was read.
        options: How codes were read.
        unnamed: What looks like the mask of the inputs and was not named as it; empty if nothing does.
    """
    found = {}
    if traced.head and traced.head in chosen and traced.note:
        found[traced.head.name] = traced.note
    if options.units != "all" and options.channels == "auto":
        for site in chosen:
            if not site.is_channel_known:
                where = "first" if site.channel_axis == 1 else "last"
                found[site.name] = (
                    f"`{site.name}` does not say where its channels are: the {where} axis after that of inputs was taken"
                )
    if options.units != "all" or options.tokens != "all":
        for site in chosen:
            if site.n_states > 1:
                found[site.name] = (
                    f"`{site.name}` has the states of {site.n_states} layers and directions, taken for as many tokens"
                )
            elif unnamed and len(site.shape) > 2:
                found[site.name] = f"every token counts: name `{unnamed}` if it is their mask"
    return found
