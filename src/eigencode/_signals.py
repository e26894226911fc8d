"""Ctrl-C, SIGTERM and SIGHUP end a command in the same way: with a line that says what is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_received: list[int] = []


def listen() -> None:
    """Turns the first of these signals into KeyboardInterrupt; another one ends the process at once.

    A signal that the caller has had ignored, as nohup does, stays so.
    """
    _received.clear()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def give_up() -> None:
    """Lets each of these signals end the process at once, without a word, where ``listen`` has been called."""
    for number in _ENDING:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def exit_status() -> int:
    """What the shell expects of a process that such a signal ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (_received[0] if _received else signal.SIGINT)


@contextmanager
def kept() -> Iterator[None]:
    """Puts back how signals are handled, which Ray changes when it starts."""
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is _interrupt and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    give_up()
    raise KeyboardInterrupt
