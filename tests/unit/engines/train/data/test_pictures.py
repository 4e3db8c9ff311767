"""Pixels are what a viewer shows: turned, in sRGB, in 8 bits, and on white where they are transparent."""

import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from engines.train.data import pictures
from tests.support.image_sets import encoded

GREEN, RED, WHITE = (0, 255, 0), (255, 0, 0), (255, 255, 255)
_STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def _quarters(size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Another colour in each quarter: no two of the eight orientations look the same."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 250, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 250)
    pixels[height // 2 :, width // 2 :] = (250, 250, 0)
    return Image.fromarray(pixels)


def _orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def _decoded(content: bytes, side_px: int = 8, name: str = "a.png") -> NDArray[np.uint8]:
    return pictures.decode(content, name, side_px)


def _colour(content: bytes, name: str = "a.png") -> tuple[int, ...]:
    """The one colour of a picture that has but one."""
    colours = np.unique(_decoded(content, name=name).reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return tuple(int(level) for level in colours[0])


@pytest.mark.parametrize("kind", _FORMATS)
@pytest.mark.parametrize("number", _STORED_AS)
def test_a_picture_is_turned_as_its_orientation_says(kind: str, number: int) -> None:
    # Given a picture of even or odd sides, stored turned, with the tag that undoes it
    for size in ((8, 8), (13, 8), (8, 11)):
        seen = _quarters(size)
        turn = _STORED_AS[number]
        stored = seen if turn is None else seen.transpose(turn)
        # When it is decoded, then it is as without tag and turn
        content = encoded(stored, kind, exif=_orientation(number), **_FORMATS[kind])
        upright = encoded(seen, kind, **_FORMATS[kind])
        # A lossy codec works along rows and columns: of odd sides it rounds elsewhere.
        tolerance = 0 if kind in ("PNG", "WEBP", "TIFF") else 12
        assert np.abs(_decoded(content).astype(int) - _decoded(upright)).max() <= tolerance


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"garbage" * 9], ids=range(3))
def test_broken_exif_data_are_no_reason_to_refuse_a_picture(exif: bytes) -> None:
    assert np.array_equal(_decoded(encoded(_quarters(), "PNG", exif=exif)), np.asarray(_quarters()))


@pytest.mark.parametrize("number", [0, 9, 65_535])
def test_an_orientation_that_is_none_turns_nothing(number: int) -> None:
    assert np.array_equal(_decoded(encoded(_quarters(), exif=_orientation(number))), np.asarray(_quarters()))


def _png_16(level: int, hidden: int | None = None) -> bytes:
    """A grey PNG of 16 bits, written by hand: Pillow writes no tRNS into one."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress((b"\0" + struct.pack(">H", level) * 8) * 8)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 0, 0, 0, 0))
    hides = chunk(b"tRNS", struct.pack(">H", hidden)) if hidden is not None else b""
    return b"\x89PNG\r\n\x1a\n" + head + hides + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _transparent() -> dict[str, bytes]:
    """Pictures of which every pixel is fully transparent, over green."""
    clear = Image.new("RGBA", (8, 8), (*GREEN, 0))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([*RED, *GREEN])
    grey = Image.new("L", (8, 8), 7)
    return {
        "RGBA png": encoded(clear),
        "RGBA webp": encoded(clear, "WEBP", lossless=True, exact=True),
        "RGBA tiff": encoded(clear, "TIFF"),
        "RGBA avif": encoded(clear, "AVIF"),
        "LA png": encoded(Image.new("LA", (8, 8), (7, 0))),
        "palette png, one entry": encoded(palette, transparency=1),
        "palette png, a table": encoded(palette, transparency=b"\xff\x00"),
        "palette gif": encoded(palette, "GIF", transparency=1),
        "grey png with a hidden level": encoded(grey, transparency=7),
        "RGB png with a hidden colour": encoded(Image.new("RGB", (8, 8), GREEN), transparency=GREEN),
        "16-bit png with a hidden level": _png_16(7_000, hidden=7_000),
    }


@pytest.mark.parametrize("kind", _transparent())
def test_what_nobody_sees_is_not_trained_on(kind: str) -> None:
    assert _colour(_transparent()[kind]) == pictures.BACKGROUND == WHITE


def test_what_is_half_transparent_is_half_background_and_hidden_colours_do_not_bleed() -> None:
    # Given a red picture that is half transparent, and one whose right half is green and hidden
    assert _colour(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))) == (255, 127, 127)
    sheet = Image.new("RGBA", (64, 64), (*RED, 255))
    sheet.paste((*GREEN, 0), (31, 0, 64, 64))
    # When that is scaled down, then no pixel has green in it that is not white's
    small = _decoded(encoded(sheet), 4)
    assert np.array_equal(small[:, :, 1], small[:, :, 2])
    assert set(small[:, :, 0].flatten()) == {255}


def _grey_16(level: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8), level, np.uint16))


@pytest.mark.parametrize(("level", "shown"), [(0, 0), (128 * 257, 128), (255, 1), (65_535, 255)])
def test_16_bits_are_scaled_to_8_and_not_cut(level: int, shown: int) -> None:
    grey = (shown,) * 3
    assert _colour(_png_16(level)) == grey
    assert _colour(encoded(_grey_16(level), "TIFF")) == grey
    assert _colour(b"P5 8 8 65535\n" + struct.pack(">H", level) * 64) == grey
    assert _colour(encoded(_grey_16(level), "JPEG2000")) == grey


def test_white_is_white_whichever_number_stands_for_it() -> None:
    # Given what says that 0 is white, in 1, 8 and 16 bits
    assert _colour(b"P1 8 8 " + b"0 " * 64) == WHITE
    zero_is_white = {262: 0}
    assert _colour(encoded(Image.new("L", (8, 8), 255), "TIFF", tiffinfo=zero_is_white)) == WHITE
    content = bytearray(encoded(_grey_16(0), "TIFF"))
    at = content.index(struct.pack("<HHII", 262, 3, 1, 1))
    content[at + 8 : at + 12] = struct.pack("<I", 0)
    assert _colour(bytes(content)) == WHITE


def test_numbers_without_an_agreed_white_are_refused() -> None:
    for pixels in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 70_000, np.int32)):
        with pytest.raises(pictures.UnknownWhite):
            _decoded(encoded(Image.fromarray(pixels), "TIFF"))


def test_cmyk_a_palette_and_black_and_white_come_as_rgb() -> None:
    assert _colour(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")) == RED
    red, green, blue = _colour(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 250
    assert green < 5
    assert blue < 5
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([*GREEN, *RED])
    assert _colour(encoded(palette)) == RED
    assert _colour(encoded(Image.new("1", (8, 8), 1))) == WHITE
    assert _colour(encoded(Image.new("YCbCr", (8, 8), (76, 85, 255)), "JPEG", quality=100))[0] > 250


def _profile(primaries_swapped: bool) -> bytes:
    """A profile of RGB; with red and green swapped, so that nobody can overlook whether it was used."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if primaries_swapped:
        tags = {bytes(content[at : at + 4]): at for at in range(132, 132 + 12 * content[131], 12)}
        red, green = tags[b"rXYZ"], tags[b"gXYZ"]
        content[red + 4 : red + 12], content[green + 4 : green + 12] = (
            content[green + 4 : green + 12],
            content[red + 4 : red + 12],
        )
        content = bytearray(bytes(content).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")))
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_colour_profile_is_honoured(kind: str) -> None:
    # Given green numbers with a profile that says that they mean red
    picture = Image.new("RGB", (8, 8), GREEN)
    options = _FORMATS[kind]
    red, green, _ = _colour(encoded(picture, kind, icc_profile=_profile(primaries_swapped=True), **options))
    # Then red is trained on; with sRGB's own, or one that is broken or of another kind, the numbers stand
    assert red > 240
    assert green < 20
    for profile in (_profile(primaries_swapped=False), b"no profile at all"):
        assert _colour(encoded(picture, kind, icc_profile=profile, **options))[1] > 250
    grey = encoded(Image.new("L", (8, 8), 99), "PNG", icc_profile=_profile(primaries_swapped=True))
    assert _colour(grey) == (99, 99, 99)


def test_hidden_colours_stay_hidden_with_a_profile_and_an_orientation() -> None:
    clear = Image.new("RGBA", (8, 8), (*GREEN, 0))
    assert _colour(encoded(clear, icc_profile=_profile(primaries_swapped=True), exif=_orientation(6))) == WHITE


def test_the_version_is_raised_whenever_pixels_change() -> None:
    # Given one picture of each kind that is treated, in formats that every build decodes alike
    samples = [content for kind, content in sorted(_transparent().items()) if "png" in kind or "gif" in kind]
    samples += [encoded(_quarters((13, 9)), exif=_orientation(number)) for number in _STORED_AS]
    samples += [_png_16(12_345), encoded(Image.new("CMYK", (8, 8), (9, 80, 7, 6)), "TIFF")]
    digest = hashlib.sha256(b"".join(_decoded(sample).tobytes() for sample in samples)).hexdigest()[:16]
    # Then their pixels are those of this version: whoever changes them raises it, and writes the new digest here
    assert (pictures.VERSION, digest) == (2, "8c6088b69d9d3042")


def test_the_bytes_say_the_format_and_the_name_only_where_they_cannot() -> None:
    picture = Image.new("RGB", (8, 8), RED)
    assert _colour(encoded(picture, "PNG"), "a.jpg") == RED
    assert _colour(encoded(picture, "TGA"), "a.TGA") == RED
    with pytest.raises(OSError, match="cannot identify"):
        _decoded(encoded(picture, "TGA"), name="a.png")


def test_a_webp_is_measured_by_its_header() -> None:
    # Given the three forms of a WebP file: simple, lossless, extended
    picture = _quarters((13, 9))
    forms = {
        b"VP8 ": encoded(picture, "WEBP"),
        b"VP8L": encoded(picture, "WEBP", lossless=True),
        b"VP8X": encoded(picture, "WEBP", exif=_orientation(1)),
    }
    for form, content in forms.items():
        assert content[12:16] == form
        assert pictures._webp_canvas(content) == Image.open(io.BytesIO(content)).size == (13, 9)
