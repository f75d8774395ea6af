"""How the cores are shared out: all of them on one batch, or a few on each of several batches."""

from dataclasses import dataclass
from typing import Literal

from resnetkit.cores import usable_cores

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
