"""Memory that a step frees is kept for the next step, not given back to the system and asked for again."""

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tell this process's allocator so; True where it is one that can be told (the GNU C library's).

    By default an array of more than a few megabytes is mapped anew each time, and the system clears every page of it:
    in training, several gigabytes a step. See docs/decisions/0006 for what it costs.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, _NEVER) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
