"""Ctrl-C and SIGTERM during training: noted, the step is finished, the checkpoint written, then the run stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from resnetkit.errors import RunError
from resnetkit.training.processes import Processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    """Within this block the first SIGINT or SIGTERM is only noted; a second one acts as it always does.

    Outside of the main thread signals cannot be caught, so there nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        interruption.received = signal.Signals(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in before:
        signal.signal(each, note)
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
