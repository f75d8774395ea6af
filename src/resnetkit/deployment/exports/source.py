"""The model file that an export was made of, and networks asked in a process of their own.

Checking an exported file needs no torch, and the process that checks never imports it; the network beside which the
file is checked does. So the network answers from a second process, over a pipe.
"""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Pixels
from resnetkit.deployment.exports.card import ExportCard
from resnetkit.deployment.exports.opened import ExportedModel, prepared
from resnetkit.errors import CheckpointError, ResnetkitError
from resnetkit.tasks.contract import Meaning

if TYPE_CHECKING:
    from resnetkit.deployment.opening import OpenedModel


def source_of(model: ExportedModel) -> Path | None:
    """The model file that it was made of, if that stands where it stood and holds what it held."""
    if model.card.source is None:
        return None
    path = Path(os.path.normpath(model.path.parent / model.card.source))
    with suppress(OSError):
        return path if sha256_of(path) == model.card.source_sha256 else None
    return None


def network_of(source: Path, made: ExportCard) -> "OpenedModel":
    """The network of the model file that an export was made of: what was stated when exporting holds."""
    from resnetkit.deployment.opening import open_model  # it needs torch
    from resnetkit.deployment.stated import Stated

    opened = open_model(source, Stated(class_names=made.class_names, architecture=made.row))
    return replace(opened, card=replace(opened.card, preprocess=made.preprocess, temperature=made.temperature))


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@final
class NetworkElsewhere:
    """The network of a MODEL, asked as an `ExportedModel` is. A context manager: the process ends with it.

    `made`, where given, is the card of the export that was made of it: what was stated when exporting holds.
    CheckpointError says why the MODEL cannot be opened.
    """

    def __init__(self, spec: str | Path, made: ExportCard | None = None) -> None:
        words = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.meaning: Meaning
        try:
            self.meaning = self._asked((os.fspath(spec), made))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "NetworkElsewhere":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.kill()
        self._process.wait()

    def answer(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """Probabilities `N,classes` of uint8 pictures `H,W,C` of any size."""
        rows: NDArray[np.float32] = self._asked(list(pictures))
        return rows

    def _asked(self, question: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            pickle.dump(question, stdin)
            stdin.flush()
            answer = pickle.load(stdout)  # our own process's: nobody else writes into this pipe
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError("the process that was to answer for the network ended without an answer") from error
        if isinstance(answer, str):
            raise CheckpointError(answer)
        return answer


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The other process: opens the MODEL that the first question names, then answers pictures until there are none."""

    def say(answer: object) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    spec, made = pickle.load(questions)
    try:
        from resnetkit.deployment.opening import open_model

        opened = network_of(Path(spec), made) if made else open_model(spec)
        classifier = opened.classifier()
    except ResnetkitError as error:
        say(str(error))
        return
    except ImportError as error:
        say(f"a network needs {error.name or error}, which is not installed")
        return
    row = opened.preprocess
    say(Meaning(name=opened.name, num_classes=opened.card.num_classes, class_names=opened.card.class_names,
                preprocess=row))  # fmt: skip
    with suppress(EOFError):
        while True:
            say(classifier(prepared(pickle.load(questions), row)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks is interrupted, and then ends this
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    serve(sys.stdin.buffer, own)
