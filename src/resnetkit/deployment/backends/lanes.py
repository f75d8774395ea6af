"""How the cores are shared out: all of them on one batch, or a few on each of several batches."""

import os
from dataclasses import dataclass
from typing import Literal

Mode = Literal["latency", "throughput"]


@dataclass(frozen=True)
class Lanes:
    """`streams` batches under way at once, each computed by `threads` threads."""

    streams: int
    threads: int

    @classmethod
    def of(cls, mode: Mode, cores: int | None = None) -> "Lanes":
        """One batch on all cores, which answers soonest; or a core for each batch, where none waits for another.

        >>> Lanes.of("latency", cores=8), Lanes.of("throughput", cores=8)
        (Lanes(streams=1, threads=8), Lanes(streams=8, threads=1))
        """
        cores = cores or usable_cores()
        return cls(1, cores) if mode == "latency" else cls(cores, 1)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
