"""Spectra of a network's layers while a user's own loop trains it: read from the forward passes that happen anyway."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Literal, Unpack

import pandas as pd
import torch
from torch import nn

from eigencode import _processes
from eigencode._arguments import checked, shown
from eigencode.errors import ActivationError, DataError, SpectrumError
from eigencode.measurement.logs import DEFAULT, CsvLog
from eigencode.measurement.overhearing import Overheard
from eigencode.measurement.result import Measurement
from eigencode.measurement.settings import MeasuringSettings, StatisticsKeywords, StatisticsOptions, check_tokens
from eigencode.measurement.summary import summary_row
from eigencode.spectra import Eigenspectrum
from eigencode.spectra.window import Ranks, Window

Log = Callable[..., Any]

LOGGED = (
    *("alpha", "alpha_population", "alpha_low", "alpha_high", "dimension", "dimension_population", "dimension_low"),
    *("dimension_high", "effective_rank", "effective_rank_singular"),
)
"""What is handed to a callable of each layer: columns of ``summary_row``."""


class Monitor:
    """Spectra of layers while a network trains, from the forward passes that happen anyway.

    Every ``every`` steps, the codes of ``batches`` forward passes are added up, and the numbers of each layer's spectrum are
    logged. Passes in between cost nothing. Numbers are those of the network as it runs: in training mode, with its dropout
    and, under autocast, in the precision of its activations. They do not depend on how images are cut into batches, and are
    those that ``measure`` gives for the same batches where the network does the same in evaluation mode.

    Under torch.distributed, all processes must make one, read as many passes, and get the numbers of all their images; the
    first logs them. A network that torch.compile has compiled runs uncompiled in the passes that are read, since compiled code
    calls no hooks.

    Args:
        model: The network, as it is called: what torch.compile or DistributedDataParallel returned.
        layers: As in ``measure``, found in the first pass that is read. "head" is found only where the last module with weights
            makes the scores, since the network is not run again.
        every: Steps between two readings. The first begins at once, in a training that goes on at the next multiple of it; and a
            step later where the network changes the numbers of a layer in place.
        batches: Forward passes that are added up for one reading, of one step or of several that follow one another.
        window: Window of the exponent.
        log: Called as ``log(values, step=step)`` with names such as "alpha/blocks.0" and numbers, as ``wandb.log``
            and ``trackio.log`` take them; or a CSV file, which must not exist unless ``start`` is given. Default:
            eigencode-monitor.csv in the working directory, with a number if it exists.
        optimizer: Count its steps, so that all passes of gradient accumulation are those of one step. Default: each forward pass
            in the mode ``when`` is a step.
        when: Passes that are read: those in training mode, or those in evaluation mode.
        start: Number of the first step, of a training that goes on.
        mask: Name of the network's argument that says which tokens count (1) and which are padding (0), shape (n, tokens).
        distributed: Read together with the other processes of torch.distributed; else this one alone.
        **statistics: units, tokens, channels, memory_limit, half_samples, seed as in ``measure``. Layers that do not fit into
            the limit together are refused.

    Attributes:
        step: Number of the step that comes next, from ``start`` on.
        measurement: The last Measurement, with the spectra themselves; None before.
        path: The CSV file, if there is one.

    Raises:
        EigencodeError: no such layer, a network whose layers cannot be read, or a limit that is too low; on the first pass.

    Example:
        >>> network = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> with Monitor(network, layers="1", every=2, window=(1, 10), log=lambda values, step: None) as monitor:
        ...     for _ in range(4):
        ...         network(torch.rand(64, 20)).square().mean().backward()
        ...         optimizer.step()
        >>> list(monitor.history.step)
        [0, 2]
    """

    @checked(ActivationError, options=StatisticsOptions)
    def __init__(
        self,
        model: nn.Module,
        *,
        layers: str | Sequence[str] = "blocks",
        every: int = 100,
        batches: int = 1,
        window: Ranks = "gerum",
        log: Log | str | Path | None = None,
        optimizer: Any = None,
        when: Literal["training", "evaluation"] = "training",
        start: int = 0,
        mask: str = "attention_mask",
        distributed: bool = True,
        **statistics: Unpack[StatisticsKeywords],
    ) -> None:
        if isinstance(model, nn.DataParallel):
            raise ActivationError(
                "Monitor: DataParallel runs copies of the network, whose layers cannot be read together. Use "
                "DistributedDataParallel, or monitor the network on one device."
            )
        steps_of = _counted(optimizer)
        settings = MeasuringSettings(layers=layers, **statistics)
        check_tokens("Monitor", settings)
        try:
            self.window = Window.of(window)
        except SpectrumError as error:
            raise ActivationError(f"Monitor: {str(error).replace('`ranks`', '`window`')}") from None
        self.every, self.step = every, start
        self.measurement: Measurement | None = None
        self._rows: list[dict[str, Any]] = []
        if settings.half_samples == 1:
            raise ActivationError("Monitor: `half_samples` must be 0 or at least 2; got 1. Pass for example 20.")
        self._distributed = distributed
        if distributed:
            _processes.meet("Monitor")
        self._overheard = Overheard(model, settings, batches, mask, together=distributed)
        self._log = self._logger(log, go_on=start > 0)
        self._counts_passes, self._when = optimizer is None, when
        self._read_at = start - 1 if start else None  # the step at which the last reading began
        self._earliest = start  # no reading begins before this step
        self._n_passes = self._n_readings = 0
        self._has_failed = False  # the last pass, whose hooks stay until the next one
        self._closing = ExitStack()
        self._attach(model, steps_of)

    def __enter__(self) -> Monitor:
        """Itself, which reads until the block is left."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes it."""
        self._close(told=kind is not None)

    @property
    def path(self) -> Path | None:
        """The CSV file, if there is one."""
        return self._log.path if isinstance(self._log, CsvLog) else None

    @property
    def history(self) -> pd.DataFrame:
        """A row for each reading and layer: step, and the columns of ``summary_row``."""
        return pd.DataFrame(self._rows, columns=_columns())

    def close(self) -> None:
        """Leaves the network as it was; a reading that is not complete is dropped."""
        self._close(told=False)

    def _close(self, *, told: bool) -> None:
        """Closes it, with a warning if it has read nothing, unless the user has been told of another error."""
        self._overheard.stop()
        self._closing.close()
        if self._n_readings or told:
            return
        self._n_readings = 1  # once is enough
        what = f"no reading was complete after {self._n_passes} passes. Run more of them, or ask for fewer `batches`."
        if not self._n_passes:
            what = (
                f"the network made no forward pass in {self._when} mode while it was monitored. Pass the network that the loop "
                "calls, as torch.compile or DistributedDataParallel returned it, and choose `when`."
            )
        warnings.warn(f"Monitor: {what}", stacklevel=3)

    def _logger(self, log: Log | str | Path | None, *, go_on: bool) -> Log | CsvLog | None:
        """Where numbers go; None in processes that do not log. What one process cannot do, none does."""
        if callable(log):
            return None if self._distributed and _processes.rank() else log
        path, found, refused = None if log is None else Path(log).expanduser(), None, ""
        if not self._distributed and _processes.rank():
            path = path or DEFAULT
            path = path.with_stem(f"{path.stem}-process-{_processes.rank()}")
        try:
            if not self._distributed or not _processes.rank():
                found = CsvLog(path, _columns(), go_on=go_on)
        except DataError as error:
            refused = str(error)
        if self._distributed:
            refused = next(filter(None, _processes.from_each(refused)), "")
        if refused:
            raise ActivationError(refused)
        return found

    def _attach(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        before, after, end = (_Hook(torch.compiler.disable(each)) for each in (self._before, self._after, self._end))
        self._closing.callback(model.register_forward_pre_hook(before, with_kwargs=True).remove)
        self._closing.callback(model.register_forward_hook(after).remove)
        self._closing.callback(model.register_forward_hook(end, always_call=True).remove)
        if optimizer is not None:
            self._closing.callback(optimizer.register_step_post_hook(_Hook(self._stepped)).remove)

    def _before(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._has_failed:
            self._overheard.stop()
            self._has_failed = False
        if model.training != (self._when == "training"):
            return
        is_due = self._read_at is None or self.step // self.every != self._read_at // self.every
        if not self._overheard.is_reading:
            if not is_due or self.step < self._earliest:
                return
            self._read_at = self.step
        self._overheard.begin_pass(args, kwargs)

    def _after(self, model: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if model.training != (self._when == "training"):
            return
        step, was_reading = self.step, self._overheard.is_reading
        self._n_passes += 1
        self.step += self._counts_passes
        if self._overheard.end_pass(output):
            self._n_readings += 1
            self.measurement = self._overheard.measurement()
            self._tell(self.measurement, step)
        elif was_reading and not self._overheard.is_reading:  # layers were found, and had been changed in place
            self._read_at, self._earliest = None, step + 1

    def _end(self, *_: object) -> None:
        if self._overheard.end_failed_pass():
            self._has_failed = True
            self._read_at, self._earliest = None, self.step + (not self._counts_passes)

    def _stepped(self, *_: object) -> None:
        self.step += 1

    def _tell(self, measurement: Measurement, step: int) -> None:
        rows = []
        for name, spectrum in measurement.items():
            row = {"step": step} | summary_row(spectrum, self.window)
            rows.append(row | {"note": ". ".join(filter(None, (measurement.notes.get(name, ""), row["note"])))})
        empty: dict[str, Any] = dict.fromkeys(_columns())
        rows += [empty | {"step": step, "layer": name, "note": why} for name, why in measurement.skipped.items()]
        self._rows += rows
        if isinstance(self._log, CsvLog):
            self._log.write(rows)
        elif self._log is not None:
            named = {f"{name}/{row['layer']}": row[name] for name in LOGGED for row in rows}
            if found := {key: value for key, value in named.items() if value is not None and not math.isnan(value)}:
                self._log(found, step=step)


@cache
def _columns() -> list[str]:
    """Columns of the history, also where no layer could be measured."""
    least = Eigenspectrum.from_activations(torch.eye(3))
    return ["step", *summary_row(least)]


def _counted(optimizer: Any) -> torch.optim.Optimizer | None:
    """The optimizer whose steps are counted, without what accelerate wraps it in; None if none is."""
    if not hasattr(optimizer, "_optimizer_step_post_hooks"):
        optimizer = getattr(optimizer, "optimizer", optimizer)
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise ActivationError(
            f"Monitor: `optimizer` must be one of torch.optim; got {shown(optimizer)}. Leave it out to count forward passes."
        )
    return optimizer


class _Hook:
    """A hook of a network that its copies and files do not have: an average of weights is not monitored."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        """Calls the function."""
        self.function(*args)

    def __deepcopy__(self, memo: object) -> _Hook:
        return _Hook(_nothing)

    def __reduce__(self) -> tuple[type[_Hook], tuple[Callable[..., None]]]:
        return _Hook, (_nothing,)


def _nothing(*_: object) -> None:
    """What a copy's hook does."""
