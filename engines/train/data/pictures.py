"""One picture: from its bytes, which nobody vouches for, to a square of 8-bit RGB as a viewer would show it.

As a viewer shows it: turned as its EXIF orientation says, in sRGB where it brings a colour profile, the first frame
where it has several, and what is transparent laid on `BACKGROUND`. `VERSION` goes up whenever the same bytes
would give other pixels: prepared sets are named by it.
"""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from engines.train.data import budget
from engines.train.data.kinds import FORMATS, FORMATS_BY_SUFFIX

#: Of how pictures become pixels, and which of a set's files become examples.
VERSION: Final = 2
#: What lies under transparent pixels, RGB: white, as on a page.
BACKGROUND: Final = (255, 255, 255)

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_FULL_8_BIT: Final = 255
_FULL_16_BIT: Final = 65_535
#: Formats whose whole numbers of 32 bits are Pillow's way to hold 16.
_16_BIT_IN_32: Final = ("PNG", "PPM")
_PROFILE_SPACES: Final = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

#: Pillow asks the system for memory in pieces of this. Above glibc's bound of 32 MiB they are mapped and go back when
#: they are freed; smaller ones stay with each thread that ever had them, and eight decoders kept eight large pictures.
_PILLOW_BLOCK_BYTES: Final = 64 * 1024**2
Image.core.set_block_size(_PILLOW_BLOCK_BYTES)  # type: ignore[attr-defined]  # documented as PILLOW_BLOCK_SIZE


class UnknownWhite(ValueError):
    """Numbers for which no white is agreed: floats, or whole ones of 32 bits."""


def decode(content: bytes, name: str, side_px: int) -> NDArray[np.uint8]:
    """A picture's central square, scaled to `side_px`: an array (side, side, 3).

    It takes its pixels out of the budget of all decoders before it unpacks anything.

    Args:
        content: The file.
        name: Its name; says the format only where the bytes cannot.
        side_px: Side of the result.

    Raises:
        MemoryError: There is too little.
        Exception: Of any type, as foreign bytes make decoders raise.
    """
    formats = FORMATS_BY_SUFFIX.get(PurePosixPath(name.lower()).suffix, FORMATS)
    # Pillow's WebP decoder allocates two whole canvases when it opens a file; the others wait until `load`.
    canvas = _webp_canvas(content)
    if canvas is not None:
        _check_pixels(*canvas)
        with budget.DECODING.hold(canvas[0] * canvas[1]), Image.open(io.BytesIO(content), formats=formats) as image:
            if image.size != canvas:
                raise ValueError(f"{image.size} is not the size in its header, {canvas}")
            return _as_seen(image, side_px)
    with Image.open(io.BytesIO(content), formats=formats) as image:
        _check_pixels(*image.size)
        with budget.DECODING.hold(image.width * image.height):
            return _as_seen(image, side_px)


def _check_pixels(width: int, height: int) -> None:
    if width * height > budget.LARGEST_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height} pixels, {budget.LARGEST_IMAGE_PIXELS} are the most")


def _webp_canvas(content: bytes) -> tuple[int, int] | None:
    """Width and height by a WebP file's own header (RFC 9649); None: it is none, or begins with no known chunk."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    head = content[20:30].ljust(10, b"\0")
    match content[12:16]:
        case b"VP8X":
            return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise ValueError("a WebP file begins with VP8, VP8L or VP8X")


def _as_seen(image: Image.Image, side_px: int) -> NDArray[np.uint8]:
    image.load()
    turn = _TURNS.get(_orientation(image))
    profile = image.info.get("icc_profile")
    plain = _plain(image)
    if turn is not None:
        plain = plain.transpose(turn)
    edge = min(plain.size)
    left, top = (plain.width - edge) // 2, (plain.height - edge) // 2
    # Pillow weighs colours by their alpha when it scales: what nobody sees does not bleed into what is seen.
    square = plain.resize((side_px, side_px), Image.Resampling.BOX, (left, top, left + edge, top + edge))
    alpha = square.getchannel("A") if square.mode == "RGBA" else None
    seen = _in_srgb(square.convert("RGB") if alpha is not None else square, profile)
    if alpha is not None:
        seen = Image.composite(seen, Image.new("RGB", seen.size, BACKGROUND), alpha)
    return np.asarray(seen, dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    """1 to 8 as its EXIF data say; 1 where they say nothing, or are broken: no viewer refuses a picture for that."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - foreign bytes, parsed by Pillow and struct: each has its own errors
        return 1


def _plain(image: Image.Image) -> Image.Image:
    """The same pixels in one of four modes: L, RGB, RGBA, CMYK; RGBA where any of it may be transparent."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _16_BIT_IN_32):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        raise UnknownWhite("pixels of 32 bits have no agreed white; save it with 8 or 16 bits a channel")
    if image.has_transparency_data or image.mode in ("LA", "La", "PA", "RGBa"):
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    numbers = np.asarray(image).astype(np.uint32)
    hidden = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0] if tags else 16
    full = 2**bits - 1 if 8 < bits < 16 else _FULL_16_BIT  # noqa: PLR2004 - 12-bit TIFF, as cameras write it
    grey = np.minimum((numbers * _FULL_8_BIT + full // 2) // full, _FULL_8_BIT).astype(np.uint8)
    if tags and tags.get(_PHOTOMETRIC) == 0:  # white is zero
        grey = _FULL_8_BIT - grey
    picture = Image.fromarray(grey)
    if not isinstance(hidden, int):
        return picture
    shown = np.where(numbers == hidden, 0, _FULL_8_BIT).astype(np.uint8)
    return Image.merge("LA", (picture, Image.fromarray(shown))).convert("RGBA")


def _in_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """In sRGB, by the profile that the picture brought; one that is broken, or of another kind, is ignored."""
    if isinstance(profile, bytes) and profile:
        try:
            brought = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = brought.profile.xcolor_space.strip() == _PROFILE_SPACES[picture.mode]
            if fits and "sRGB" not in (brought.profile.profile_description or ""):
                shown = ImageCms.profileToProfile(
                    picture, brought, _SRGB, ImageCms.Intent(ImageCms.getDefaultIntent(brought)), outputMode="RGB"
                )
                if shown is not None:
                    return shown
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return picture.convert("RGB")
