"""The exceptions a user may meet. Each message is one line: what is wrong, where, and what to do.

The command prints the message and exits with 1; Python code catches `ResnetkitError` or one of its children.
"""

import difflib
from collections.abc import Iterable


def printable(text: str) -> str:
    r"""Text of a stranger's file, with everything escaped that is no letter to be seen.

    >>> print(printable(f"bn{chr(27)}[2J.weight"))
    bn\x1b[2J.weight
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class ResnetkitError(Exception):
    """Whatever resnetkit refuses or cannot do; the message is meant for the person, not for a log."""

    exit_code = 1
    """what the command returns to the shell"""


class UnknownName(ResnetkitError):
    """A name that no catalogue holds; the message offers the nearest real ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        offer = f"; did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"no {kind} is called {name!r}{offer}{' ' + hint if hint else ''}")
        self.nearest = tuple(near)


class InvalidArgument(ResnetkitError):
    """An argument whose value cannot be used, or that contradicts another."""


class InvalidInputSize(ResnetkitError):
    """An image size that a network cannot take."""


class DataError(ResnetkitError):
    """A data set that is missing, empty, unreadable or that contradicts itself."""


class UndecodableImage(DataError):
    """One image file that cannot be decoded."""


class BrokenFiles(DataError):
    """Image files that cannot be decoded; `.files` maps each name to its reason."""

    def __init__(self, message: str, files: dict[str, str]) -> None:
        super().__init__(message)
        self.files = files


class LabelMismatch(DataError):
    """Class names of a model and a data set (or of two parts of one) that do not agree."""


class DownloadFailed(ResnetkitError):
    """A file that could not be fetched; `.code` is the server's answer where that was why."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class CheckpointError(ResnetkitError):
    """A weights file that is damaged, foreign beyond recognition, or does not fit the network.

    The message may hold names out of the file: it stays one line and tells a terminal nothing else.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class UnsafeFile(CheckpointError):
    """A file that would run code when loaded; it was not run."""


class WriteFailed(ResnetkitError):
    """A file could not be written; what stood there before is intact."""


class RunError(ResnetkitError):
    """A training run that cannot start, continue or be found."""


class MissingExtra(ResnetkitError):
    """An optional package that this verb needs; the message names the extra to install."""


class ExportFailed(ResnetkitError):
    """An export that would not say what the network says; nothing was written."""
