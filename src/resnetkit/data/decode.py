"""One image file becomes a uint8 array, whatever its format: upright, without transparency, grey or RGB.

Ordinary JPEGs go through libjpeg-turbo (simplejpeg) with its exact transforms: Pillow's own pixels, in less time and
without holding the interpreter lock. Everything else, and every file that is not quite right, goes through Pillow.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from struct import error as StructError
from struct import unpack_from
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from resnetkit.errors import UndecodableImage
from resnetkit.tables import readable_bytes

Channels = Literal[1, 3]
Pixels = NDArray[np.uint8]

_ORIENTATION_TAG = 0x0112
SUFFIXES: Mapping[str, frozenset[str]] = {
    "PNG": frozenset((".png", ".apng")),
    "JPEG": frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "WEBP": frozenset((".webp",)),
    "BMP": frozenset((".bmp", ".dib")),
    "DIB": frozenset((".bmp", ".dib")),
    "TIFF": frozenset((".tif", ".tiff")),
    "GIF": frozenset((".gif",)),
    "PPM": frozenset((".ppm", ".pgm", ".pbm", ".pnm")),
    "AVIF": frozenset((".avif",)),
    "JPEG2000": frozenset((".jp2", ".j2k", ".jpx")),
}
"""formats that Pillow decodes itself (an EPS file would start a PostScript interpreter) → what their names end in"""
FORMATS = (*SUFFIXES,)
IMAGE_SUFFIXES = frozenset(chain(*SUFFIXES.values()))
"""what a file's name ends in, in lower case, that is an image; in folders all others are passed over"""
_MOST_BYTES = 1 << 30  # more than the most pixels that are decoded take uncompressed, with 16 bits and transparency
warnings_lock = threading.Lock()
"""Pillow warns about files that it reads nevertheless. The filter that silences it is shared by all threads."""


def decode(image: bytes | str | os.PathLike[str], channels: Channels = 3) -> Pixels:
    """The pixels `H,W,channels` of an encoded image, given as bytes or as a path.

    EXIF orientation is applied, transparency laid on white, 16 bits scaled to 8, palette and CMYK converted; of an
    animation the first frame is taken. Grey from colour is ITU-R 601 luma, as Pillow's `convert("L")`.
    Raises `UndecodableImage` with the reason; a path is named in it.
    """
    if isinstance(image, bytes):
        return _decode(image, channels)
    return decode_file(image, channels, name=printable(image))


def decode_file(path: str | os.PathLike[str], channels: Channels, *, name: str) -> Pixels:
    """As `decode`, of a file that errors call `name`."""
    try:
        return _decode(read_whole(path), channels)
    except OSError as error:
        raise UndecodableImage(f"{name}: {reading_failed(error)}") from error
    except UndecodableImage as error:
        raise UndecodableImage(f"{name}: {error}") from error.__cause__


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file; raises OSError, or `UndecodableImage` for what would never end or fill the memory."""
    if "\0" in os.fspath(path):
        raise UndecodableImage("the path holds a zero byte")
    _refuse_endless(path)
    return Path(path).read_bytes()


def _refuse_endless(path: str | os.PathLike[str]) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise UndecodableImage("it is a pipe or a device, not a file")
    if status.st_size > _MOST_BYTES:
        raise UndecodableImage(f"it has {readable_bytes(status.st_size)}: no image that can be decoded is that large")


def from_pillow(image: Image.Image, channels: Channels = 3) -> Pixels:
    """The pixels `H,W,channels` of a Pillow image, treated as those of a file."""
    try:
        image.load()
        return to_channels(_eight_bit(_transposed(image)), channels)
    except (OSError, ValueError, SyntaxError) as error:
        raise UndecodableImage(f"{getattr(image, 'filename', '') or 'image'}: {_reason(error)}") from error


def printable(path: str | os.PathLike[str]) -> str:
    r"""A path as text for one line of output: newlines and bytes that are not UTF-8 are escaped.

    >>> printable("two\nlines.jpg")
    'two\\nlines.jpg'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def reading_failed(error: OSError) -> str:
    """Why a file could not be read, in plain words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file (any more)"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not an image"
    return error.strerror or str(error)


def is_grey_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file's header says grey; False where it cannot be read."""
    try:
        _refuse_endless(path)
        with warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    except Exception:  # whatever is wrong with it, decoding will tell
        return False


def _decode(data: bytes, channels: Channels) -> Pixels:
    if not data:
        raise UndecodableImage("the file is empty")
    pixels = _decode_plain_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    if pixels is None:
        pixels = _decode_with_pillow(data)
    return to_channels(pixels, channels)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Pixels `…,1` or `…,3` as `…,channels`.

    >>> to_channels(np.array([[[255, 0, 0]]], np.uint8), 1).tolist()
    [[[76]]]
    """
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    # ITU-R 601 luma in 16-bit fixed point, the very sum that Pillow computes.
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]


def _decode_plain_jpeg(data: bytes) -> Pixels | None:
    """A grey or colour JPEG without faults, upright; None for all that Pillow should look at."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("CMYK", "YCCK") or _too_large(width, height):
            return None
        pixels = simplejpeg.decode_jpeg(
            data, "GRAY" if colorspace in ("Gray", "GRAY") else "RGB", fastdct=False, fastupsample=False
        )
    except ValueError:
        return None
    return _upright(pixels, jpeg_orientation(data))


def jpeg_orientation(data: bytes) -> int:
    """EXIF orientation (1–8) of a JPEG; 1 where there is none or it cannot be read.

    Written out because opening the file with Pillow for this one number costs a tenth of decoding it.
    """
    try:
        position = 2
        while data[position] == 0xFF and data[position + 1] != 0xDA:  # up to the start of the scan
            (length,) = unpack_from(">H", data, position + 2)
            if data[position + 1] == 0xE1 and data.startswith(b"Exif\0\0", position + 4):
                return _tiff_orientation(data[position + 10 : position + 2 + length])
            position += 2 + length
    except (IndexError, StructError):
        pass
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (directory,) = unpack_from(order + "I", tiff, 4)
    (entries,) = unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = unpack_from(order + "HHI", tiff, entry)
        if tag == _ORIENTATION_TAG and kind == 3 and count == 1:
            return int(unpack_from(order + "H", tiff, entry + 8)[0])
    return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror as EXIF's table 6 says; unknown values are left alone."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _decode_with_pillow(data: bytes) -> Pixels:
    try:
        with warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        with image:
            if _too_large(*image.size):
                raise Image.DecompressionBombError
            image.load()
            return _eight_bit(_transposed(image))
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UndecodableImage(
            f"it claims more than {limit} million pixels: refused as a possible decompression bomb; scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise UndecodableImage("it is not an image in a format that can be read") from error
    except UndecodableImage:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them to
        raise UndecodableImage(_reason(error)) from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _too_large(width: int, height: int) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def _transposed(image: Image.Image) -> Image.Image:
    try:
        with warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about orientation
        return image


def _eight_bit(image: Image.Image) -> Pixels:
    """`H,W,1` for grey images, `H,W,3` for all others."""
    if image.mode == "F":
        raise UndecodableImage(
            "its pixels are floating-point numbers, whose range is unknown: save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        return _from_integers(np.asarray(image))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colour = image.mode not in ("LA", "La", "L", "1")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB" if colour else "L")
    elif image.mode in ("1", "L"):
        image = image.convert("L")
    else:
        image = image.convert("RGB")
    return np.atleast_3d(np.array(image))


def _from_integers(values: NDArray[np.integer]) -> Pixels:
    """16-bit grey `H,W` as `H,W,1`: 65535 is white."""
    if values.min() < 0 or values.max() > 65535:
        raise UndecodableImage("its pixels are 32-bit numbers, whose range is unknown: save it with 8 or 16 bits")
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)[..., None]
