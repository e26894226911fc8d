"""Which tensors of a network have the tokens of a mask on their second axis: their size follows the number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigencode._inputs import Arguments, Inputs, run
from eigencode.activations.codes import TokenAxis
from eigencode.activations.hooks import measuring, state_put_back
from eigencode.activations.reading import captured
from eigencode.activations.tracing import Site, trace
from eigencode.errors import ActivationError

_DIMENSIONS = 3
"""Of (n, tokens, features)."""

_WITHIN = "its tokens are not on its second axis alone"
_UNKNOWN = "the network does not run with another number of tokens, which would show where they are"
_WHOSE = "it is not known whether the mask is that of its tokens"

_CLOSE = 1e-4
"""Numbers that differ by less, relative to the largest, differ by rounding."""

Shapes = Mapping[str, tuple[int, ...]]


def token_axes(model: nn.Module, inputs: Inputs, sites: Iterable[Site], masks: Mapping[str, Tensor]) -> dict[str, TokenAxis]:
    """Token axes of sites, found by forward passes with one token less for each mask, with half of them, and with one alone.

    Where a site is as long with all of these, a pass with more tokens than it has tells whether the network pads its inputs.
    Where the network runs with no other number of tokens, what does not change with the texts does not depend on them.

    Args:
        model: Network.
        inputs: The inputs with which the sites were traced.
        sites: Sites.
        masks: Name -> which tokens count, shape (n, tokens).

    Returns:
        Name of a site -> its axis, of those whose shape depends on the number of tokens, or may.
    """
    found: dict[str, TokenAxis] = {}
    long = [site for site in sites if len(site.shape) > 1]
    for name, mask in masks.items() if long else ():
        for site, axis in _Sequences(model, inputs, name, mask).axes(long):
            found[site.name] = TokenAxis((*found[site.name].masks, name), False, _WITHIN) if site.name in found else axis
    return found


@dataclass(frozen=True)
class _Place:
    """An axis of one of the arguments that may be that of tokens."""

    key: int | str
    axis: int


class _Sequences:
    """The arguments that may have the tokens of one mask, and what the network makes of other numbers of these."""

    def __init__(self, model: nn.Module, inputs: Inputs, name: str, mask: Tensor) -> None:
        self.model, self.inputs, self.name = model, inputs, name
        self.count = mask.shape[1]
        given: list[tuple[int | str, object]] = [*enumerate(inputs.args), *inputs.kwargs.items()]
        order = Arguments.of(model).order
        self.own: int | str | None = name if name in inputs.kwargs else None
        if self.own is None and name in order[: len(inputs.args)]:
            self.own = order.index(name)
        self.places = [
            _Place(key, axis)
            for key, value in given
            if isinstance(value, Tensor) and key != self.own
            for axis in range(1, value.ndim)
            if value.shape[axis] == self.count
        ]

    def axes(self, sites: Sequence[Site]) -> Iterator[tuple[Site, TokenAxis]]:
        """Those of sites that depend on the tokens, or may."""
        belonging, rivals = self._belonging()
        others = self._shapes(belonging, [length for length in (self.count - 1, self.count // 2, 1) if 0 < length < self.count])
        if not any(2 * length <= self.count for length in others):
            others |= self._shapes(belonging, [2 * self.count])
        is_shown = any(2 * length <= self.count or length >= 2 * self.count for length in others)
        same = [site for site in sites if _is_usual(site) and site.shape[1] >= self.count and _is_same(site, others)]
        others |= self._shapes(belonging, [site.shape[1] + 1 for site in same] if is_shown else [])
        contested = [shapes for place in rivals for shapes in self._shapes((place,), [max(1, self.count // 2)]).values()]
        free = self._independent(sites) if not is_shown else ()
        for site in sites:
            if not is_shown and site.name not in free and (len(site.shape) > 2 or self.count in site.shape[1:]):
                yield site, TokenAxis((self.name,), False, _UNKNOWN)
            elif is_shown and not _is_same(site, others):
                yield site, self._axis_of(site, others)
            elif any(shapes.get(site.name, site.shape) != site.shape for shapes in contested):
                yield site, TokenAxis((self.name,), False, _WHOSE)

    def _axis_of(self, site: Site, others: Mapping[int, Shapes]) -> TokenAxis:
        """Of a site whose shape changes; ``others`` holds the shapes of all sites for other numbers of tokens."""
        if not _is_usual(site):
            return TokenAxis((self.name,), False, _WITHIN)
        shapes = {length: found[site.name] for length, found in others.items() if site.name in found}
        multiple = min(shape[1] for shape in shapes.values()) if 1 in shapes or site.shape[1] > self.count else 1
        is_second = all(
            shape == (site.shape[0], -(-length // multiple) * multiple, site.shape[2])
            for length, shape in {**shapes, self.count: site.shape}.items()
        )
        return TokenAxis((self.name,), is_second, "" if is_second else _WITHIN, multiple if is_second else 1)

    def _belonging(self) -> tuple[tuple[_Place, ...], tuple[_Place, ...]]:
        """The axes that must change with the mask for the network to run; and others of which this is as true.

        One argument, if one is enough; else all of them without those that need not change.
        """
        everything = tuple(self.places)
        for length in dict.fromkeys((self.count // 2, self.count - 1, 2 * self.count)):
            if length < 1 or (length < 2 and self.count > 2):  # of one, everything may be made of it
                continue
            alone = [place for place in everything if "mask" not in str(place.key) and self._runs((place,), length)]
            if alone:
                first = max(alone, key=lambda place: self._likeness(place.key))
                return (first,), tuple(place for place in alone if place.key != first.key)
            if self._runs(everything, length):
                needed = everything
                for place in everything:
                    fewer = tuple(each for each in needed if each != place)
                    needed = fewer if fewer and self._runs(fewer, length) else needed
                return needed, ()
        return everything, ()

    def _likeness(self, key: int | str) -> tuple[int, bool]:
        """Words that the name of an argument has in common with that of the mask; and whether it is the inputs."""
        value = self.inputs.args[key] if isinstance(key, int) else self.inputs.kwargs[key]
        return len(set(str(key).split("_")) & set(self.name.split("_"))), value is self.inputs.main

    def _runs(self, places: Iterable[_Place], length: int) -> bool:
        return bool(self._shapes(places, [length]))

    def _shapes(self, places: Iterable[_Place], lengths: Iterable[int]) -> dict[int, Shapes]:
        """Other number of tokens -> site -> its shape; without those with which the network does not run."""
        found: dict[int, Shapes] = {}
        axes = {place.key: place.axis for place in places}
        for length in dict.fromkeys(lengths) if axes else ():
            with suppress(ActivationError):
                traced = trace(self.model, self._with_tokens(axes, length), head=False)
                found[length] = {name: site.shape for name, site in traced.sites.items()}
        return found

    def _with_tokens(self, axes: Mapping[int | str, int], length: int) -> Inputs:
        """Inputs with another number of tokens: the first ones, over again if these are more."""
        chosen = torch.arange(length) % self.count

        def cut(key: int | str, value: object) -> object:
            axis = 1 if key == self.own else axes.get(key)
            return value.index_select(axis, chosen.to(value.device)) if axis and isinstance(value, Tensor) else value

        return self._changed(cut)

    def with_other_padding(self, mask: Tensor) -> Inputs:
        """The inputs with the first token that counts in place of all that are padding."""
        places = {place.key for place in self._belonging()[0] if place.axis == 1}

        def filled(key: int | str, value: object) -> object:
            if key not in places or not isinstance(value, Tensor):
                return value
            first = value[torch.arange(len(value), device=value.device), mask.to(torch.uint8).argmax(1)]
            return value.where(mask.view(*mask.shape, *(1,) * (value.ndim - 2)), first.unsqueeze(1))

        return self._changed(filled)

    def _changed(self, change: Callable[[int | str, object], object]) -> Inputs:
        args = tuple(change(number, value) for number, value in enumerate(self.inputs.args))
        return Inputs(args, {name: change(name, value) for name, value in self.inputs.kwargs.items()})

    def _independent(self, sites: Sequence[Site]) -> frozenset[str]:
        """Names of sites that are the same when each input has the tokens of another one."""
        keys = {place.key for place in self.places}

        def rolled(key: int | str, value: object) -> object:
            is_sequence = not keys or key in keys or key == self.own
            return value.roll(1, 0) if is_sequence and isinstance(value, Tensor) and value.ndim else value

        before, after = (_tensors(self.model, each, sites) for each in (self.inputs, self._changed(rolled)))
        return frozenset(name for name in before.keys() & after.keys() if _is_close(before[name], after[name]))


def touched_by_padding(
    model: nn.Module, inputs: Inputs, sites: Iterable[Site], axes: Mapping[str, TokenAxis], masks: Mapping[str, Tensor]
) -> frozenset[str]:
    """Names of sites whose tokens that count are others when those that are padding are.

    Such a network lets padding reach other tokens, or has its tokens or inputs in another order inside.

    Args:
        model: Network.
        inputs: A few inputs.
        sites: Sites.
        axes: Token axes of sites, of these inputs.
        masks: Name -> which tokens count, shape (n, tokens).
    """
    found: set[str] = set()
    for name, mask in masks.items():
        own = [site for site in sites if (axis := axes.get(site.name)) and axis.is_second and axis.masks == (name,)]
        if not own or bool(mask.all()):
            continue
        others = _Sequences(model, inputs, name, mask).with_other_padding(mask)
        before, after = (_tensors(model, each, own) for each in (inputs, others))
        for site in before.keys() & after.keys():
            if before[site].shape[:2] == mask.shape and not _is_close(before[site][mask], after[site][mask]):
                found.add(site)
    return frozenset(found)


def _tensors(model: nn.Module, inputs: Inputs, sites: Sequence[Site]) -> dict[str, Tensor]:
    """What a network has at sites; nothing if it does not run."""
    found: dict[str, Tensor] = {}
    with suppress(Exception), measuring(model), state_put_back(model):  # networks refuse inputs in any way they like
        with captured(model, sites, lambda name, tensor: found.update({name: tensor.clone()})):
            torch.manual_seed(0)
            run(model, inputs)
        return found
    return {}


def _is_close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    difference = torch.linalg.vector_norm((one - other).double())
    return not bool(difference > _CLOSE * torch.linalg.vector_norm(one.double()))


def _is_usual(site: Site) -> bool:
    """Whether it is (n, tokens, features)."""
    return len(site.shape) == _DIMENSIONS and site.channel_axis == -1


def _is_same(site: Site, others: Mapping[int, Shapes]) -> bool:
    """Whether it has one shape for all numbers of tokens."""
    return all(found.get(site.name, site.shape) == site.shape for found in others.values())
