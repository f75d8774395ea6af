"""How many cores there are to work on."""

import os


def usable_cores() -> int:
    """Cores that this process may use; on systems without affinity (macOS, Windows), all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def preparing_threads() -> int:
    """Threads that decode and prepare images beside the computing: one a core, at most 8."""
    return min(8, usable_cores())
