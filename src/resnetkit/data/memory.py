"""Keep freed memory for the next image instead of handing it back to the system each time."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEEP = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to reuse blocks up to 1 GiB; for the whole process, so the verbs call it. False on other systems.

    By default a block of an image's or an activation's size is mapped anew each time, and the kernel zeroes every page
    of it at first touch: a third of the time of decoding a 500×375 JPEG. The price is that the process keeps its peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEEP) and mallopt(_TRIM_THRESHOLD, _KEEP))
