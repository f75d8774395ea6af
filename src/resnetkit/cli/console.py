"""Where words go: results to stdout, remarks and progress to stderr; colours and bars on a terminal only."""

import json
import sys
from typing import Any

from rich.console import Console


class _Console(Console):
    """Where nobody reads any more it raises BrokenPipeError, as print does; rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


remarks = _Console(stderr=True, highlight=False, soft_wrap=True)
results = _Console(highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON value on stdout. Names that are not valid text are escaped, so that the output always is."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def percent(share: float) -> str:
    """A share of 1 as people read it.

    >>> percent(0.98333)
    '98.33 %'
    """
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> duration(4.2), duration(75), duration(7384)
    ('4 s', '1 min 15 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
