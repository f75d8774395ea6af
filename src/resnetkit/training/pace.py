"""The clock of this process: images a second and the share of time spent waiting for them."""

import time
from collections.abc import Iterator
from typing import final

from resnetkit.data.batching import Batch


@final
class Pace:
    """Counts images and seconds of training; validation and writing are left out."""

    def __init__(self) -> None:
        self._images = self._steps = 0
        self._seconds = self._epoch_seconds = self._epoch_waiting = 0.0
        self._mark = time.perf_counter()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """An epoch's batches, with the clock started and what was waited for them added up."""
        self._epoch_seconds = self._epoch_waiting = 0.0
        self._mark = time.perf_counter()
        for batch in batches:
            self._epoch_waiting += batch.waited
            yield batch

    def stepped(self, images: int) -> float:
        """Seconds since the step before, waiting for the batch included."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._images, self._steps, self._seconds = self._images + images, self._steps + 1, self._seconds + seconds
        self._epoch_seconds += seconds
        return seconds

    @property
    def images_per_second(self) -> float:
        """Over all steps so far."""
        return self._images / self._seconds if self._seconds else 0.0

    @property
    def seconds_a_step(self) -> float:
        """Their mean."""
        return self._seconds / self._steps if self._steps else 0.0

    @property
    def waited_share(self) -> float:
        """Share of the epoch's seconds so far in which a step waited for its images."""
        return self._epoch_waiting / self._epoch_seconds if self._epoch_seconds else 0.0
