"""How far a long count has come: a bar on a terminal, a plain line now and then in a pipe."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnetkit.cli.console import remarks

_SILENCE = 30.0  # seconds after which a pipe gets a line


class Counting:
    """Called with the number done and the number in all. Use it as a context manager, so that the bar is taken down."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "Counting":
        if sys.stderr.isatty():
            columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=remarks, transient=True)
            self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show it."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._last_line > _SILENCE:
            remarks.print(f"{self._what}: {done} of {total}")
            self._last_line = time.monotonic()
