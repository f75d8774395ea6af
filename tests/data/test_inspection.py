"""Each file of every odd kind is looked at once: none stops the rest, and each is told apart."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.decode import decode_file
from resnetkit.data.inspection import Look, inspect
from resnetkit.data.opening import open_data
from resnetkit.data.sources import ArraySource, FileSource
from resnetkit.errors import UndecodableImage

Make = Callable[..., Path]


def looks_at(*paths: Path) -> list[Look]:
    source = FileSource(paths[0].parent, [path.name for path in paths], np.zeros(len(paths), np.int64), None, 2)
    return list(inspect(source, workers=2).looks)


def picture(mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def bomb(path: Path) -> Path:
    """A PNG that claims 60,000 × 60,000 pixels and would be 3.6 GB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_faults(tmp_path: Path) -> None:
    whole = io.BytesIO()
    picture().save(whole, "JPEG")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    bomb(tmp_path / "bomb.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with (tmp_path / "sparse.bmp").open("wb") as file:
        file.truncate(3 << 30)
    names = ["empty.jpg", "cut.jpg", "page.jpg", "bomb.png", "gone.png", "loop.png", "pipe.jpg", "endless.png"]
    looks = looks_at(*(tmp_path / name for name in [*names, "sparse.bmp"]))
    faults = ["empty", "truncated", "undecodable", "bomb", "missing", "missing", *["undecodable"] * 3]
    assert [look.fault for look in looks] == faults
    assert all(look.reason for look in looks)
    assert "pipe or a device" in looks[7].reason
    assert "3.0 GiB" in looks[8].reason


def test_training_reads_no_pipe_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UndecodableImage, match="x: it is a pipe or a device"):
        decode_file(tmp_path / "pipe.jpg", 3, name="x")


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_rotated(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / f"a{suffix}", exif=exif)
    (look,) = looks_at(tmp_path / f"a{suffix}")
    assert look.traits == ({"rotated"} if orientation > 1 else set())
    assert (look.height, look.width) == ((30, 20) if orientation > 4 else (20, 30))


def test_traits(tmp_path: Path) -> None:
    picture("CMYK").save(tmp_path / "cmyk.jpg")
    picture("L").save(tmp_path / "grey.jpg")
    picture().convert("L").convert("RGB").save(tmp_path / "looks_grey.png")
    picture("RGBA").save(tmp_path / "alpha.png")
    picture("P").save(tmp_path / "index.png", transparency=3)
    picture().save(tmp_path / "moving.gif", save_all=True, append_images=[picture(size=(30, 20)).rotate(90)])
    picture().save(tmp_path / "moving.webp", save_all=True, append_images=[picture().rotate(90)], lossless=True)
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(tmp_path / "deep.png")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(tmp_path / "deep.tif")
    picture().save(tmp_path / "pair.jpg", "MPO", save_all=True, append_images=[picture().rotate(90)])
    picture().save(tmp_path / "real.png")
    (tmp_path / "really_png.jpg").write_bytes((tmp_path / "real.png").read_bytes())
    expected = {
        "cmyk.jpg": {"cmyk"}, "grey.jpg": {"grey"}, "looks_grey.png": {"grey"}, "alpha.png": {"transparent"},
        "index.png": {"transparent"}, "moving.gif": {"animated"}, "moving.webp": {"animated"},
        "deep.png": {"deep", "grey"}, "deep.tif": {"deep", "grey"}, "pair.jpg": set(), "real.png": set(),
        "really_png.jpg": {"misnamed"},
    }  # fmt: skip
    looks = looks_at(*(tmp_path / name for name in expected))
    assert {name: set(look.traits) for name, look in zip(expected, looks, strict=True)} == expected
    assert looks[-1].digest == looks[-2].digest
    assert looks[-1].format == "PNG"


def test_colour_of_16_bits_is_seen_though_pillow_reduces_it(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(range(6 * 4)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert looks_at(tmp_path / "deep.png")[0].traits == {"deep"}


def test_mean_and_std_are_those_of_all_pixels(make_folder: Make) -> None:
    source = open_data(make_folder({"a": 3, "b": 4}, size=(31, 17)), val_share=0).split("all")
    pixels = np.stack([source.image(index) for index in range(len(source))]) / 255
    mean, std = inspect(source).normalisation() or ((), ())
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), atol=1e-4)


def test_odd_names_and_files_that_vanish_meanwhile(make_folder: Make) -> None:
    folder = make_folder({"cat": 30, "dog": 2})
    os.rename(folder / "cat" / "0.png", os.fsencode(folder / "cat") + b"/two\nlines caf\xe9.png")
    source = open_data(folder, val_share=0).split("all")
    last = Path(source.path(29))

    def vanish(_: int) -> None:
        last.unlink(missing_ok=True)

    looks = inspect(source, workers=0, progress=vanish).looks
    assert [look.fault for look in looks].count("missing") == 1
    assert looks[29].fault == "missing"


def test_arrays_and_files_of_the_same_pixels_are_seen_alike(make_folder: Make) -> None:
    files = open_data(make_folder({"a": 5, "b": 5}, size=(32, 32)), val_share=0).split("all")
    seen = inspect(files)
    pixels = np.stack([files.image(index) for index in range(10)])
    array = inspect(ArraySource(pixels, files.labels, None, 2, np.arange(10)))
    assert [(look.bits, look.thumb) for look in seen.looks] == [(look.bits, look.thumb) for look in array.looks]
    np.testing.assert_allclose([look.mean for look in seen.looks], [look.mean for look in array.looks], rtol=1e-5)
