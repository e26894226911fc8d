"""Codes of a network's layers in forward passes that somebody else runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eigencode import _processes
from eigencode._arithmetic import full_float32
from eigencode._inputs import Arguments, Inputs
from eigencode.activations import (
    Followed,
    Site,
    TokenAxis,
    Trace,
    captured,
    coded,
    model_device,
    options_at,
    select_sites,
    tensors_in,
    unreadable,
    unwrapped,
)
from eigencode.errors import ActivationError, DataError, EigencodeError, SpectrumError
from eigencode.measurement.batches import Reading, masks_in, unnamed_mask
from eigencode.measurement.filling import Filling
from eigencode.measurement.gathering import Gathered, unlike
from eigencode.measurement.memory import Pass, passes_of
from eigencode.measurement.notes import notes_of
from eigencode.measurement.reader import CONSTANT
from eigencode.measurement.result import Measurement
from eigencode.measurement.settings import MeasuringSettings


class Overheard:
    """Layers whose codes are added up over some passes; the first pass tells where they are.

    Args:
        model: Network, as it is called.
        settings: How layers are read.
        passes: Passes of one reading.
        mask: Name of the argument that says which tokens count.
        together: Add up with the other processes of torch.distributed.

    Attributes:
        is_reading: Whether a reading has begun and is not complete.
    """

    def __init__(self, model: nn.Module, settings: MeasuringSettings, passes: int, mask: str, *, together: bool) -> None:
        self.model, self.settings, self.passes, self.mask = unwrapped(model), settings, passes, mask
        self.together = together and _processes.together()
        self.is_reading = False
        self._takes = Arguments.of(self.model)
        self._sites: dict[str, Site] = {}
        self._plan: Pass | None = None
        self._unreadable: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._listening = ExitStack()
        self._followed: Followed | None = None
        self._is_within = False  # whether a pass has begun and not ended
        self._filling, self._n_read = Filling[Gathered]({}), 0
        self._unreadable_now = ""  # why this pass has no codes
        self._count, self._masks, self._unnamed = 0, dict[str, Tensor](), ""

    def begin_pass(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Listens to the pass that begins, the first of a reading if none has begun.

        Args:
            args: What the network is called with, by position.
            kwargs: By name.
        """
        if self._is_within or not self.is_reading:  # a pass may have been interrupted, with some of its layers read
            self.stop()
            self._filling, self._n_read = self._empty(), 0
        self.is_reading = self._is_within = True
        self._unreadable_now = ""
        try:
            with self._apart():
                self._look_at(args, kwargs)
        except DataError as error:
            self._unreadable_now = str(error).removeprefix("measure: ")
            if not self._sites:
                raise ActivationError(f"Monitor: {self._unreadable_now}") from None
        if not self._sites:
            self._followed = Followed(self.model)
            self._listening.enter_context(self._followed.calls())
        else:
            self._listening.enter_context(captured(self.model, list(self._sites.values()), self._hear))

    def end_pass(self, outputs: Any) -> bool:
        """Stops listening.

        Args:
            outputs: What the network gave.

        Returns:
            Whether the reading has all its passes.
        """
        if not self._is_within:
            return False
        self._listening.close()
        with self._apart():
            if not self._followed:
                self._filling.end_batch()
            elif not self._find(self._followed.trace(self._count, outputs), self._followed):
                self.stop()
                return False
        self._n_read += 1
        self._followed, self._is_within = None, False
        return self._n_read == self.passes

    def end_failed_pass(self) -> bool:
        """Drops the reading if a pass has begun and not ended, since it ended with an error; whether it did so."""
        failed = self._is_within
        if failed:
            self._drop()
        return failed

    def stop(self) -> None:
        """Stops listening, and drops the reading."""
        self._listening.close()
        self._drop()

    def _drop(self) -> None:
        """Drops the reading alone: hooks cannot be removed where torch goes through them after an error."""
        self._followed, self._filling = None, Filling({})
        self.is_reading = self._is_within = False

    def measurement(self) -> Measurement:
        """What has been read, which ends the reading; collective."""
        with self._apart():
            filling, result = self._filling, Measurement()
            for gathered in filling.metrics.values():
                gathered.complete()
            filling.lose({name: gathered.failure for name, gathered in filling.metrics.items() if gathered.failure})
            if self.together:
                self._agree(filling)
            result.skipped = self._unreadable | filling.lost
            result.notes, result.n_passes = dict(self._notes), self._n_read
            for name in list(filling.metrics):
                metric = filling.metrics.pop(name).metric
                try:
                    if self.together:
                        metric.reduce()
                    spectrum = metric.compute()
                except SpectrumError as error:
                    result.skipped[name] = str(error)
                    continue
                if spectrum.total_variance > 0:
                    result[name] = spectrum
                else:
                    result.skipped[name] = CONSTANT
        self.is_reading = False
        return result

    def _agree(self, filling: Filling[Gathered]) -> None:
        """Leaves out what another process has lost, and layers that are not alike in all processes; collective."""
        filling.agree()
        outlines = _processes.from_each({name: gathered.outline for name, gathered in filling.metrics.items()})
        for name in list(filling.metrics):
            others = [each[name] for each in outlines if each[name] != outlines[0][name]]
            if others:
                filling.lose({name: unlike(outlines[0][name], others[0])})

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Inside, nothing of how the network runs holds: gradients, autocast, reduced precision."""
        kind = model_device(self.model).type
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(kind, enabled=False), full_float32():
            yield

    def _look_at(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Number of inputs, and the masks among them."""
        if len(args) == 1 and isinstance(args[0], Mapping):
            args, kwargs = tuple[Any, ...](), {**args[0], **kwargs}
        rows = next((tensor for _, tensor in tensors_in((args, dict(kwargs))) if tensor.ndim), None)
        try:
            rows = Inputs(args, kwargs).main
        except DataError:
            if rows is None:
                raise DataError(
                    "the network is called without a tensor that has a row for each input. Monitor a part of it that is."
                ) from None
        self._count = len(rows)
        named: dict[str, Any] = dict(zip(self._takes.order, args, strict=False)) | dict(kwargs)
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor) and value.ndim == 2}
        if self.mask != Reading.mask and self.mask not in tensors:
            raise DataError(
                f"the network is called without a tensor `{self.mask}` of shape (n, tokens), which is to be the mask. "
                "Check the name."
            )
        self._masks = masks_in(tensors, self._count, self.mask)
        self._unnamed = unnamed_mask(tensors, tuple(rows.shape[:2]), self._masks)

    def _find(self, traced: Trace, followed: Followed) -> bool:
        """Finds the layers in the first pass, and reads them there unless the network has changed their numbers in place."""
        chosen = select_sites(traced, self.settings.layers)
        reasons = {site: unreadable(site, self._count) for site in chosen}
        self._unreadable = {site.name: reason for site, reason in reasons.items() if reason}
        sites = [site for site in chosen if not reasons[site]]
        if not sites:
            told = "; ".join(f"{name}: {reason}" for name, reason in self._unreadable.items())
            raise ActivationError(f"Monitor: no layer can be read. {told}. Name other layers.")
        planned = passes_of(sites, self._rows_at, self.settings)
        if len(planned) > 1:
            raise ActivationError(
                f"Monitor: the statistics of {len(sites)} layers do not fit into `memory_limit` = {self.settings.memory_limit} "
                "at once. Raise it, or name fewer layers."
            )
        self._notes = notes_of(traced, sites, self.settings, self._unnamed)
        self._plan, self._sites = planned[0], {site.name: site for site in sites}
        self._filling = self._empty()
        tensors = [followed.tensor(site) for site in sites]
        is_there = all(tensor is not None for tensor in tensors)
        if self.together:
            is_there = all(_processes.from_each(is_there))
        if not is_there:
            return False
        for site, tensor in zip(sites, tensors, strict=True):
            if tensor is not None:
                self._hear(site.name, tensor)
        self._filling.end_batch()
        return True

    def _empty(self) -> Filling[Gathered]:
        """Accumulators for a reading."""
        metrics = self._plan.accumulators(self._rows_at, self.settings) if self._plan else {}
        return Filling({name: Gathered(metric) for name, metric in metrics.items()})

    def _rows_at(self, site: Site) -> tuple[int | None, bool]:
        """Rows to come of a site's code, which are not known; and whether these are samples, not inputs."""
        return None, self.settings.units == "channels" and self._axis_of(site.shape) is not None

    def _axis_of(self, shape: tuple[int, ...]) -> TokenAxis | None:
        """Which mask says which tokens of a tensor count; None if it has no axis of tokens, or there are no masks."""
        if len(shape) < 3 or not self._masks:
            return None
        alike = tuple(name for name, mask in self._masks.items() if tuple(mask.shape) == tuple(shape[:2]))
        if alike and all(torch.equal(self._masks[name], self._masks[alike[0]]) for name in alike):
            return TokenAxis(alike[:1], True)
        return TokenAxis(tuple(self._masks), False, "its second axis is not that of the tokens of one mask")

    def _hear(self, name: str, tensor: Tensor) -> None:
        """Takes the numbers at a site, while the network runs."""
        if not self._is_within:  # of a pass that has failed
            return
        with self._apart():
            axis = self._axis_of(tuple(tensor.shape))
            masks = [self._masks[each] for each in axis.masks] if axis else []
            if self._unreadable_now:
                self._filling.fail(name, self._unreadable_now)
                return
            try:
                code = coded(tensor.detach(), options_at(self._sites[name], self.settings), axis, masks)
                self._filling.take(name, code, None, count=self._count)
            except EigencodeError as error:
                self._filling.fail(name, str(error))
