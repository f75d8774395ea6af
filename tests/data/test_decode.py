import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from resnetkit.data.decode import decode, decode_file, from_pillow, printable
from resnetkit.errors import UndecodableImage

RED, HALF_RED_ON_WHITE = (255, 0, 0), (255, 127, 127)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def photo(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_gives_pillows_own_pixels(subsampling: int, progressive: bool, channels: int) -> None:
    data = encoded(photo(41, 63), "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    expected = np.array(Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB"))
    np.testing.assert_array_equal(decode(data, channels), expected.reshape(41, 63, channels))


def test_real_photos_give_pillows_own_pixels(real_data: Path) -> None:
    for path in sorted((real_data / "imagenet_photos").glob("*.JPEG")):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            np.testing.assert_array_equal(decode(path), np.array(upright.convert("RGB")), err_msg=path.name)
            np.testing.assert_array_equal(decode(path, 1)[..., 0], np.array(upright.convert("L")), err_msg=path.name)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_jpeg(channels: int) -> None:
    data = encoded(photo().convert("L"), "JPEG")
    expected = np.array(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, channels), np.stack([expected] * channels, axis=-1))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_that_were_saved(file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(photo(), file_format, **options)), np.array(photo()))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 100} if file_format == "JPEG" else {}
    data = encoded(photo(), file_format, exif=exif, **options)
    plain = decode(encoded(photo(), file_format, **options))
    turned = {
        1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1], 5: plain.transpose(1, 0, 2),
        6: np.rot90(plain, -1), 7: np.rot90(plain.transpose(1, 0, 2), 2), 8: np.rot90(plain),
    }  # fmt: skip
    np.testing.assert_array_equal(decode(data), turned[orientation])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_exif_of_both_byte_orders_is_read_from_jpegs(byte_order: str) -> None:
    mark = b"II" if byte_order == "<" else b"MM"
    entry = struct.pack(byte_order + "HHIHH", 0x0112, 3, 1, 6, 0)
    tiff = mark + struct.pack(byte_order + "HIH", 42, 8, 1) + entry + struct.pack(byte_order + "I", 0)
    block = b"Exif\0\0" + tiff
    data = encoded(photo(), "JPEG")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    np.testing.assert_array_equal(decode(turned), np.rot90(decode(data), -1))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_exif_block_leaves_the_jpeg_readable(block: bytes) -> None:
    data = encoded(photo(), "JPEG")
    body = b"Exif\0\0" + block
    odd = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert sorted(decode(odd).shape) == [3, 40, 60]


def test_damaged_exif_in_a_png_says_nothing() -> None:
    data = encoded(photo(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    np.testing.assert_array_equal(decode(data), np.array(photo()))


def test_transparency_is_laid_on_white() -> None:
    for data in (
        encoded(Image.new("RGBA", (4, 4), (*RED, 128)), "PNG"),
        encoded(Image.new("RGBA", (4, 4), (*RED, 128)), "WEBP", lossless=True),
        encoded(Image.new("RGBA", (4, 4), (*RED, 128)), "TIFF"),
    ):
        np.testing.assert_allclose(decode(data)[0, 0].astype(int), HALF_RED_ON_WHITE, atol=1)
    clear = encoded(Image.new("LA", (4, 4), (0, 0)), "PNG")
    assert decode(clear, 1).tolist() == np.full((4, 4, 1), 255).tolist()
    assert decode(encoded(Image.new("LA", (4, 4), (80, 255)), "PNG"), 3)[0, 0].tolist() == [80, 80, 80]


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, "PNG")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode(encoded(image, "GIF")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode(encoded(image, "PNG", transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]
    assert decode(encoded(image, "PNG", transparency=bytes([128, 255])))[0, 0].tolist() == pytest.approx(
        [255, 127, 127]
    )


def test_one_transparent_colour_of_an_rgb_png() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), (0, 255, 0))
    assert decode(encoded(image, "PNG", transparency=RED)).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    values = np.array([[128, 129, 32896, 65535]], np.uint16)
    expected = [[[0], [1], [128], [255]]]
    assert decode(encoded(Image.fromarray(values), "PNG"), 1).tolist() == expected
    assert decode(encoded(Image.fromarray(values), "TIFF"), 1).tolist() == expected
    assert decode(encoded(Image.fromarray(values), "PNG"), 3)[0, 2].tolist() == [128, 128, 128]
    big_endian = b"MM\0*" + struct.pack(">I", 16) + values.astype(">u2").tobytes()
    tags = [(256, 4), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 8)]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    assert decode(big_endian + struct.pack(">H", len(tags)) + entries + b"\0" * 4, 1).tolist() == expected


def test_sixteen_bit_colour() -> None:
    row = b"\0" + struct.pack(">3H", 65535, 32896, 0)
    np.testing.assert_allclose(decode(png(1, 1, 16, 2, row))[0, 0].astype(int), [255, 128, 0], atol=1)


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(UndecodableImage, match="floating-point"):
        decode(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))
    with pytest.raises(UndecodableImage, match="32-bit numbers"):
        decode(encoded(Image.fromarray(np.full((2, 2), 10**6, np.int32)), "TIFF"))


def test_one_bit_images_are_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, "PNG"), 1).tolist() == [[[0], [255]]]
    assert decode(encoded(image, "TIFF"), 3).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_cmyk_jpegs_as_adobe_writes_them_are_not_negatives() -> None:
    # Pillow writes CMYK as Adobe does: inverted, with the marker that says so.
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(decode(data)[8, 8].astype(int), RED, atol=3)
    np.testing.assert_allclose(decode(data, 1)[8, 8].astype(int), [76], atol=3)
    varied = encoded(photo().convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(decode(varied), np.array(Image.open(io.BytesIO(varied)).convert("RGB")))


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for file_format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert decode(data)[0, 0].tolist() == list(RED), file_format


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
        (encoded(photo(), "JPEG")[:600], "(?i)truncated"),
        (encoded(photo(), "PNG")[:200], "truncated|broken"),
        (b"\xff\xd8\xff\xe0", "(?i)not an image|truncated"),
        (png(60_000, 60_000, 8, 2, b""), "decompression bomb"),
        (png(12_000, 12_000, 8, 0, b""), "decompression bomb"),
    ],
)
def test_what_cannot_be_decoded_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImage, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(encoded(photo(), "JPEG")[:600])
    with pytest.raises(UndecodableImage, match=r"(?i)cut\.jpg: .*truncated"):
        decode(tmp_path / "cut.jpg")
    with pytest.raises(UndecodableImage, match=r"gone\.jpg: there is no such file"):
        decode(str(tmp_path / "gone.jpg"))
    with pytest.raises(UndecodableImage, match=r"^row 5: it is a folder"):
        decode_file(tmp_path, 3, name="row 5")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.integers(0, 255))
def test_a_damaged_jpeg_is_decoded_as_pillow_does_or_refused(position: int, value: int) -> None:
    data = bytearray(encoded(photo(), "JPEG", quality=95))
    data[position % len(data)] = value
    try:
        pixels = decode(bytes(data))
    except UndecodableImage:
        return
    with Image.open(io.BytesIO(bytes(data))) as image:
        np.testing.assert_array_equal(pixels, np.array(ImageOps.exif_transpose(image).convert("RGB")))


def test_a_pillow_image_is_treated_as_its_file() -> None:
    transparent = Image.new("RGBA", (3, 2), (*RED, 128))
    np.testing.assert_array_equal(from_pillow(transparent), decode(encoded(transparent, "PNG")))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(encoded(photo(), "PNG", exif=exif)))
    assert from_pillow(turned, 1).shape == (60, 40, 1)


def test_names_are_printable() -> None:
    assert printable(b"caf\xe9\n.jpg".decode("utf-8", "surrogateescape")) == r"caf\xe9\n.jpg"
    assert printable("Grüße 猫.jpg") == "Grüße 猫.jpg"
