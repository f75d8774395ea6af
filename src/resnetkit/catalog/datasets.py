"""Data sets that are known by name: frozen rows with what no file of theirs says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class KnownDataSet:
    """Facts about a data set. `flip` says whether an image's mirror image is of the same class."""

    classes: tuple[str, ...]
    channels: Literal[1, 3]
    size: int | None
    """side of the square images in pixels, None where sizes vary"""
    flip: bool
    licence: str
    source: str
    """the paper or page that describes it"""


DATASETS: Mapping[str, KnownDataSet] = {
    "digits": KnownDataSet(
        classes=tuple("0123456789"),
        channels=1,
        size=8,
        flip=False,
        licence="CC BY 4.0",
        source="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), as shipped by scikit-learn",
    ),
}
