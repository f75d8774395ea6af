"""Work done ahead by threads, handed over in order."""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from resnetkit.errors import InvalidArgument

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[Result, None, None]:
    """`map(function, items)` with up to `ahead` results prepared by `workers` threads before they are asked for.

    Without workers it is `map`. An exception of the function arrives at its item's turn. When the iterator ends, is
    closed or is interrupted, what has not begun is dropped and no thread is left behind.
    """
    if workers < 0:
        raise InvalidArgument(f"{workers} workers: use 0 for none, or a positive number of threads")
    if not workers:
        yield from map(function, items)
        return
    # Each worker computes alone, or W workers of T compute threads each would fight over the cores. The setting counts
    # for the worker, but torch also gives it to threads born later: hence the way back at the end. Where nobody has
    # imported torch there is nothing to set.
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)} if torch else {}
    pool = ThreadPoolExecutor(workers, "resnetkit-data", **alone)
    futures: deque[Future[Result]] = deque()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if torch:
            torch.set_num_threads(threads)
