"""How many cores there are to work on."""

import os


def usable_cores() -> int:
    """Cores that this process may use; on systems without affinity (macOS, Windows), all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
