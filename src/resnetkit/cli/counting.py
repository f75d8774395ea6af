"""How far a long count has come: a bar on a terminal, a plain line now and then in a pipe."""

import sys
import time

from rich.progress import BarColumn, Progress, TextColumn

from resnetkit.cli.console import remarks

_SILENCE = 30.0  # seconds after which a pipe gets a line


class Counting:
    """Called with what is being done, how much of it is done and how much there is (`data.known.Progress`).

    Use it as a context manager, or `stop` it, so that the bar is taken down before anything else is shown.
    """

    def __init__(self) -> None:
        self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, doing: str, done: int, total: int) -> None:
        """Show it."""
        facts = f"{done} of {total}"
        if self._bar is None and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, console=remarks, transient=True)
            self._bar.add_task("", total=total, facts="")
            self._bar.start()
        if self._bar:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=done, total=total, description=doing, facts=facts)
        elif time.monotonic() - self._last_line > _SILENCE:
            remarks.print(f"{doing}: {facts}")
            self._last_line = time.monotonic()

    def stop(self) -> None:
        """Take the bar down; another count brings it back."""
        if self._bar:
            self._bar.stop()
            self._bar = None
