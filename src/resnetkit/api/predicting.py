"""Say what is on pictures."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.decode import IMAGE_SUFFIXES
from resnetkit.deployment.choosing import Work
from resnetkit.deployment.predictor import Failure, Prediction, Predictor, pixels_for
from resnetkit.deployment.stated import Stated
from resnetkit.errors import DataError
from resnetkit.tasks.contract import Pixels
from resnetkit.tasks.views import Augmentation

_LOOK_AHEAD = 4096


def predict(
    model: str | Path,
    sources: Iterable[str | Path],
    *,
    stated: Stated | None = None,
    batch_size: int = 16,
    backend: str = "auto",
    precision: str = "float32",
    device: str | None = None,
    tta: Augmentation = "none",
    remark: Callable[[str], None] | None = None,
) -> Iterator[Prediction | Failure]:
    """A Prediction for each picture (a folder stands for all pictures below it), or a Failure that says why not.

    The model is opened, and whatever is wrong with it raised, before this returns; pictures are read as one iterates.
    Where there are many, each core computes a batch of its own, and what is quickest here may be found out first. With
    `tta` "flip" each is also asked for its mirror image, and the mean of both is the answer; with "shifts" both also
    moved to either side. `remark` gets what the person should know: of the model, and what shows at work, such as
    memory too little for a batch, which is then computed in pieces.
    """
    first, pictures = _looked_ahead(sources)
    many = len(first) > batch_size
    predictor = Predictor(
        model, stated=stated, batch_size=batch_size, backend=backend, precision=precision, device=device,
        mode="throughput" if many else "latency",
        work=Work(len(first), partial(_sample, first, batch_size)) if many else None, tta=tta,
        say=remark or (lambda text: None),
    )  # fmt: skip
    if remark:
        for note in predictor.notes:
            remark(note)
    return predictor.stream(pictures)


def count(sources: Iterable[str | Path]) -> int:
    """How many pictures `predict` would be asked about."""
    return sum(1 for _ in _pictures(sources))


def _looked_ahead(sources: Iterable[str | Path]) -> tuple[list[str], Iterator[str]]:
    """The first thousands of pictures where they are known beforehand (a list or tuple), and all of them."""
    pictures = _pictures(sources)
    first = list(islice(pictures, _LOOK_AHEAD)) if isinstance(sources, list | tuple) else []
    return first, chain(first, pictures)


def _sample(pictures: list[str], count: int, preprocess: Preprocess) -> Pixels | None:
    """The first of them that can be read, as a batch; repeated where there are too few, None where there is none."""
    images: list[Pixels] = []
    for picture in pictures[: 4 * count]:
        with suppress(DataError):
            images.append(pixels_for(preprocess, picture))
        if len(images) == count:
            break
    if not images:
        return None
    return np.stack([images[index % len(images)] for index in range(count)])


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
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(place, name)
