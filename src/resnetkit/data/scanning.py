"""Decode every image once before training, so that a broken file stops it at the start and not at epoch 40."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from resnetkit.data.ahead import map_ahead
from resnetkit.data.decode import Pixels
from resnetkit.data.loader import default_workers
from resnetkit.data.sources import Source
from resnetkit.errors import BrokenFiles, UndecodableImage

_SHOWN = 20


@final
@dataclass(frozen=True)
class Scan:
    """What decoding every image found. Sizes are medians over the images that could be decoded, in pixels."""

    n: int
    broken: Mapping[str, str]
    """name → reason"""
    height: int
    width: int
    grey: int
    """images without colour"""

    def refuse_broken(self) -> None:
        """Raise `BrokenFiles` if there are any: `.files` holds all of them, the message the first 20."""
        if not self.broken:
            return
        lines = [f"  {name}: {reason}" for name, reason in list(self.broken.items())[:_SHOWN]]
        if len(self.broken) > _SHOWN:
            lines.append(f"  … and {len(self.broken) - _SHOWN} more")
        summary = (
            f"{len(self.broken)} of {self.n} images cannot be decoded: mend or remove them, "
            "or leave them out with --skip-broken"
        )
        raise BrokenFiles("\n".join([summary, *lines]), dict(self.broken))


def scan(*sources: Source, workers: int | None = None, progress: Callable[[int], None] | None = None) -> Scan:
    """Decode all images of the sources, on `workers` threads; `progress` is called with the number done so far.

    >>> from resnetkit.data.opening import open_data
    >>> scan(open_data("digits").split("test"))
    Scan(n=360, broken={}, height=8, width=8, grey=360)
    """
    sizes: list[tuple[int, int]] = []
    broken: dict[str, str] = {}
    grey = done = 0
    for source in sources:
        threads = default_workers(source) if workers is None else workers
        looks = map_ahead(partial(_look, source), range(len(source)), workers=threads, ahead=64)
        for index, found in enumerate(looks):
            if isinstance(found, str):
                broken[source.name(index)] = found
            else:
                height, width, is_grey = found
                sizes.append((height, width))
                grey += is_grey
            done += 1
            if progress:
                progress(done)
    height, width = np.median(sizes, axis=0).astype(int).tolist() if sizes else (0, 0)
    return Scan(done, broken, height, width, grey)


def _look(source: Source, index: int) -> tuple[int, int, bool] | str:
    """Height, width and whether it is grey; or why it cannot be decoded."""
    try:
        pixels = source.image(index)
    except UndecodableImage as error:
        return str(error).removeprefix(f"{source.name(index)}: ")
    return pixels.shape[0], pixels.shape[1], _is_grey(pixels)


def _is_grey(pixels: Pixels) -> bool:
    if pixels.shape[2] == 1:
        return True
    # A few rows tell a colour photo at once; only what looks grey is compared wholly.
    sample = pixels[:: max(1, len(pixels) // 8)]
    return all(bool((part[..., :1] == part).all()) for part in (sample, pixels))
