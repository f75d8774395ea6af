"""The processes of one training job: `torchrun` starts them, and each computes its share of every batch.

The loop is written for many; one process is a job of one, for which every method here is nothing at all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from resnetkit.data.sources import Source
from resnetkit.errors import DataError, InvalidArgument, RunError

Value = TypeVar("Value")

_PATIENCE = timedelta(minutes=10)  # with a process that neither answers nor ends; one that ends is noticed at once


class PeerLost(RunError):
    """Another process of the job has ended, so that this one cannot go on."""

    def __init__(self, rank: int) -> None:
        super().__init__(
            f"process {rank} stops, as another process of this job has ended: what that one said is the reason; "
            "the run can be continued from its checkpoint with --resume"
        )


@final
class Processes:
    """`count` processes, of which this is number `rank` (from 0); the first alone writes and speaks."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of `n` things in a row are this process's; the shares differ by one at most.

        >>> [Processes(rank, 3).share(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def part_of(self, source: Source) -> Source:
        """The share that this process has of images that are scored, each by one process."""
        if len(source) < self.count:
            raise DataError(
                f"{len(source)} held-out image(s) cannot be shared out to {self.count} processes: use fewer processes, "
                "or hold out more with --val-share"
            )
        return source if self.count == 1 else source.subset(np.arange(len(source))[self.share(len(source))])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type and device by their sums over all processes, the same bits in each."""
        if self.count == 1 or not tensors:
            return
        # One message for all: hundreds of small ones would cost more than the copy.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        sum_over_processes(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, part in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def totals(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all processes."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        sum_over_processes(tensor)
        return tuple(tensor.tolist())

    def in_order(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes one after the other, `N1+N2+…,…`; they may differ in their first side only."""
        if self.count == 1:
            return tensor
        parts: list[Tensor | None] = [None] * self.count
        with _peers():
            dist.all_gather_object(parts, tensor)
        return torch.cat([part for part in parts if part is not None])

    def told_by_first(self, value: Value) -> Value:
        """What the first process holds; a plain value of Python."""
        if self.count == 1:
            return value
        box = [value]
        with _peers():
            dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Processes()
"""a job of one process"""


def sum_over_processes(tensor: Tensor) -> None:
    """Replace a contiguous tensor by its sum over all processes of a job of several."""
    with _peers():
        dist.all_reduce(tensor)


@contextmanager
def _peers() -> Iterator[None]:
    """Turns the many ways of saying that a peer is gone into one."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        raise PeerLost(int(os.environ["RANK"])) from error


@contextmanager
def joined() -> Iterator[Processes]:
    """The place of this process in its job, as `torchrun` says in the environment; without it the process is alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    if not dist.is_available():
        raise InvalidArgument("this torch was built without torch.distributed: train in one process")
    # Plain values and sums of the counters go over the CPU, gradients over what the device has.
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    rank = int(os.environ["RANK"])
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(rank, count)
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one of its job that speaks."""
    return os.environ.get("RANK", "0") == "0"


def local_device(device: str) -> str:
    """The device of this process where each has one of its own: cuda is cuda:0, cuda:1, … by its place on this host.

    >>> local_device("cpu")
    'cpu'
    """
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
