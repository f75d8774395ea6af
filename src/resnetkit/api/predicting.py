"""Say what is on pictures."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from resnetkit.api.devices import best_device
from resnetkit.deployment.opening import Stated
from resnetkit.deployment.predictor import Failure, Prediction, Predictor

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".ppm", ".pgm")


def predict(
    model: str | Path,
    sources: Iterable[str | Path],
    *,
    stated: Stated | None = None,
    batch_size: int = 16,
    precision: str = "float32",
    device: str | None = None,
    remark: Callable[[str], None] | None = None,
) -> Iterator[Prediction | Failure]:
    """A Prediction for each picture (a folder stands for all pictures below it), or a Failure that says why not.

    The model is opened, and whatever is wrong with it raised, before this returns; pictures are read as one iterates.
    """
    predictor = Predictor(model, stated=stated, batch_size=batch_size, precision=precision, device=best_device(device))
    if remark:
        for note in predictor.notes:
            remark(note)
    return predictor.stream(_pictures(sources))


def _pictures(sources: Iterable[str | Path]) -> Iterator[str]:
    for source in sources:
        if os.path.isdir(source):
            yield from _below(os.fspath(source))
        else:
            yield os.fspath(source)


def _below(folder: str) -> Iterator[str]:
    """Pictures in this folder and in those below it, in a stable order; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(PICTURES):
                yield os.path.join(place, name)
