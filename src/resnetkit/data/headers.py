"""What an image file says of itself before its pixels are decoded, where that differs from an ordinary picture."""

import io
import os
import warnings
from typing import Literal

from PIL import Image

from resnetkit.data.decode import FORMATS, SUFFIXES, jpeg_orientation, warnings_lock

Trait = Literal["rotated", "grey", "cmyk", "deep", "transparent", "animated", "misnamed"]
"""deep: 16 bits a channel; misnamed: the suffix says another format than the content"""

_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258


def traits_of(data: bytes, path: str) -> tuple[str, frozenset[Trait]]:
    """Format and traits of the encoded image that lies at `path`; `grey` is left to whoever sees the pixels.

    Raises whatever Pillow does where it is no image.
    """
    with warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    with image:
        found: dict[Trait, bool] = {
            "rotated": _orientation(image, data) in range(2, 9),
            "cmyk": image.mode == "CMYK",
            "deep": _is_deep(image, data),
            "transparent": image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info,
            "animated": image.format != "MPO" and bool(getattr(image, "is_animated", False)),
            "misnamed": _is_misnamed(image, path),
        }
        return image.format or "", frozenset(trait for trait, there in found.items() if there)


def _is_misnamed(image: Image.Image, path: str) -> bool:
    reader = "JPEG" if image.format == "MPO" else image.format  # several JPEGs in one file, read as the first of them
    return os.path.splitext(path)[1].lower() not in SUFFIXES.get(reader or "", ())


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format in ("JPEG", "MPO"):
        return jpeg_orientation(data)
    if image.format != "TIFF" and "exif" not in image.info:
        return 1  # asking for more would decode a PNG
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about orientation
        return 1


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Pillow reduces colour of 16 bits to 8 as it opens the file, so the file itself is asked."""
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return image.mode.startswith("I") or max(bits if isinstance(bits, tuple) else (bits,)) > 8
