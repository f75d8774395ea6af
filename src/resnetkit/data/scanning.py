"""Decode every image once before training, so that a broken file stops it at the start and not at epoch 40."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from resnetkit.catalog.preprocessing import Normalisation
from resnetkit.data.duplicates import groups
from resnetkit.data.inspection import Album, Levels, looks
from resnetkit.data.sources import Source
from resnetkit.errors import BrokenFiles

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
    copies: tuple[tuple[int, ...], ...] = ()
    """groups of copies and near copies among the images of the first source, by their indices"""
    normalisation: Normalisation | None = None
    """mean and std of the first source's pixels; None where it has no image that can be decoded"""

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
    Scan(n=360, broken={}, height=8, width=8, grey=360, copies=(), normalisation=((0.3052,), (0.3749,)))
    """
    sizes: list[tuple[int, int]] = []
    broken: dict[str, str] = {}
    grey = done = 0
    album, levels = Album(len(sources[0])), Levels()
    for source in sources:
        for index, look in enumerate(looks(source, workers=workers)):
            if look.fault is not None:
                broken[source.name(index)] = look.reason
            else:
                sizes.append((look.height, look.width))
                grey += "grey" in look.traits
            if source is sources[0]:
                album.add(look)
                levels.add(look)
            done += 1
            if progress:
                progress(done)
    height, width = np.median(sizes, axis=0).astype(int).tolist() if sizes else (0, 0)
    copies = tuple(tuple(group.tolist()) for group in groups(album.likeness().near))
    return Scan(done, broken, height, width, grey, copies, levels.normalisation())
