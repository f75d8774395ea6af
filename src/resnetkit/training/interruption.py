"""Ctrl-C and SIGTERM during training: noted, the step is finished, the checkpoint written, then the run stops."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from resnetkit.errors import RunError
from resnetkit.training.processes import Processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = 2.0  # seconds in which signals are one request to stop


class Interrupted(RunError):
    """A run was asked to stop and can be continued; `.exit_code` is what a shell expects (130 or 143)."""

    def __init__(self, run: str, received: signal.Signals, refusal: Exception | None = None) -> None:
        unsaved = f" (from the checkpoint before this moment: {refusal})" if refusal else ""
        super().__init__(f"stopped by {received.name}; continue with: resnetkit train --resume {run}{unsaved}")
        self.exit_code = 128 + received.value


class Interruption:
    """Set when a signal asked the run to stop."""

    received: signal.Signals | None = None

    def agreed(self, processes: Processes) -> signal.Signals | None:
        """The signal that any process of the job has received, so that all stop after the same step."""
        received = self.received
        counts = processes.totals(*(received is each for each in _SIGNALS))
        return next((each for each, count in zip(_SIGNALS, counts, strict=True) if count), None)


@contextmanager
def noted_interruption() -> Iterator[Interruption]:
    """Within this block SIGINT and SIGTERM are only noted; one that comes 2 seconds after the first acts as always.

    A job manager signals every process of a job, and `torchrun` hands on what it gets, so that one request to stop may
    arrive twice within milliseconds. A person who presses Ctrl-C again after a moment means to stop at once.

    Outside of the main thread signals cannot be caught, so there nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    noted_at = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted_at
        if interruption.received is None:
            interruption.received, noted_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - noted_at > _AT_ONCE:
            put_back()
            signal.raise_signal(number)

    def put_back() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in before:
        signal.signal(each, note)
    try:
        yield interruption
    finally:
        put_back()
