"""Typefaces that need no network: the one inside Pillow, and what the system has for the characters that it lacks.

Pillow carries Aileron (CC0) for ASCII; text in it looks the same on every machine. For other scripts the common system
folders are searched once, for typefaces in a fixed order of preference (DejaVu for Latin, Greek, Cyrillic, Arabic and
Hebrew; Noto, WenQuanYi, Droid or Unifont for Chinese, Japanese and Korean). A character that no typeface has is
written without its accents if that helps, and drawn as a small seal made from its code point if not: never an empty
box, never a crash. `apt-get install fonts-noto-cjk` (or `fonts-droid-fallback`, 4 MB) gives Chinese, Japanese and
Korean. Colour emoji typefaces are not used: an emoji without an outline glyph becomes a seal, and speaks in the scene.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Mask = NDArray[np.uint8]

_REFERENCE_PX: Final = 64  # widths are measured at this size and scaled
_FOLDERS: Final = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
)
# Best first; the file name must begin so. Bold ones first: small white text over a moving scene needs weight.
_PREFERRED: Final = (
    "DejaVuSans-Bold.", "DejaVuSans.", "NotoSans-Bold.", "NotoSans-Regular.",
    "NotoSansCJK-Bold.", "NotoSansCJK-Regular.",
    "NotoSansCJKsc-Bold.", "NotoSansCJKsc-Regular.", "NotoSansSC-", "NotoSansJP-", "NotoSansKR-", "wqy-zenhei.",
    "wqy-microhei.", "DroidSansFallbackFull.", "DroidSansFallback.", "NotoSansArabic-Bold.", "NotoSansArabic-Regular.",
    "NotoSansHebrew-Bold.", "NotoSansHebrew-Regular.", "NotoSansDevanagari-", "NotoSansThai-", "NotoSansBengali-",
    "NotoSansTamil-", "NotoSansSymbols2-", "NotoSansSymbols-", "NotoEmoji-", "Symbola", "FreeSansBold.", "FreeSans.",
    "LiberationSans-Bold.", "unifont.", "PingFang.", "Hiragino", "Arial Unicode.",
)  # fmt: skip
_SUFFIXES: Final = frozenset({".ttf", ".otf", ".ttc"})
_NO_CHARACTER: Final = "\U0010fffe"  # a noncharacter: every typeface draws its "missing" glyph for it
_BOLDER: Final = 0.022  # of the size: Aileron comes in one weight only, a stroke makes it bolder
_SEAL_WIDTH: Final = 0.95  # of the size, advance of a seal
_ASCII_STAND_INS: Final = dict(zip("、。「」–—•„", ',.""--*"', strict=True))


@dataclass(frozen=True)
class Face:
    """One typeface. `path` is None for the one inside Pillow."""

    path: str | None

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        """The typeface at a size in pixels; a few hundred of them are kept."""
        return _load(self.path, size)

    def has(self, char: str) -> bool:
        """Whether the typeface draws this character as anything but its "missing" glyph."""
        return _has(self.path, char)

    def stroke(self, size: int) -> float:
        """Pixels by which to widen the strokes at this size."""
        return size * _BOLDER if self.path is None else 0.0


@dataclass(frozen=True)
class Drawn:
    """A word as pixels.

    Attributes:
        mask: Coverage in 0..255.
        left: Columns from the pen's place to the mask's first one; negative means to the left of it.
        top: Rows from the baseline to the mask's first one; negative means above it.
    """

    mask: Mask
    left: int
    top: int


def displayable(text: str) -> str:
    """The text with stand-ins for characters that no typeface here has, where there is a good one (é to e)."""
    return "".join(_stand_in(char) for char in text)


def face_for(text: str) -> Face:
    """The typeface that has the most letters of a text, so that all of it is set in one; at a tie the better one."""
    letters = [char for char in text if char.isalpha()]
    return max(_faces(), key=lambda face: sum(face.has(char) for char in letters))  # max keeps the first at a tie


def width_px(text: str, size: float, face: Face) -> float:
    """Advance width of a text at a size, in pixels. Characters that the typeface lacks are taken from another one."""
    return sum(_run_width(used, run) for used, run in _runs(text, face)) * size / _REFERENCE_PX


def draw(text: str, size: int, face: Face) -> Drawn:
    """Draws one word on its baseline."""
    runs = _runs(text, face)
    margin = size // 2 + 2
    ascent, descent = round(size * 1.35), round(size * 0.65)
    columns = int(np.ceil(width_px(text, size, face))) + 2 * margin
    picture = Image.new("L", (columns, ascent + descent))
    pen = ImageDraw.Draw(picture)
    x = float(margin)
    # A word written from right to left has its last run first.
    for used, run in reversed(runs) if is_right_to_left(text) else runs:
        if used is None:
            _draw_seals(pen, run, x, ascent, size)
        else:
            pen.text((x, ascent), run, font=used.font(size), fill=255, anchor="ls", stroke_width=used.stroke(size))
        x += _run_width(used, run) * size / _REFERENCE_PX
    box = picture.getbbox() or (0, 0, 1, 1)
    return Drawn(np.asarray(picture.crop(box), np.uint8), box[0] - margin, box[1] - ascent)


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction runs from right to left (Unicode bidi classes R and AL)."""
    for char in text:
        direction = unicodedata.bidirectional(char)
        if direction in {"R", "AL"}:
            return True
        if direction == "L":
            return False
    return False


def _runs(text: str, face: Face) -> list[tuple[Face | None, str]]:
    """Cuts a text into pieces that one typeface each can draw, `face` if it can; None stands for no typeface at all."""
    choices = (face, *_faces())
    whole = next((choice for choice in choices if all(_joins(char) or choice.has(char) for char in text)), None)
    if whole is not None:
        return [(whole, text)]
    runs: list[tuple[Face | None, str]] = []
    for char in text:
        own = next((choice for choice in choices if choice.has(char)), None)
        used = runs[-1][0] if runs and _joins(char) else own
        if runs and runs[-1][0] == used:
            runs[-1] = (used, runs[-1][1] + char)
        elif not _joins(char):
            runs.append((used, char))
    return runs


def _joins(char: str) -> bool:
    """Whether a character belongs to the one before it: marks, joiners, variation selectors, skin tones."""
    return unicodedata.category(char) in {"Mn", "Me", "Mc", "Cf", "Sk"} and char.isascii() is False


def _run_width(face: Face | None, run: str) -> float:
    if face is None:
        return sum(not _joins(char) for char in run) * _SEAL_WIDTH * _REFERENCE_PX
    return _advance(face.path, run)


@functools.lru_cache(maxsize=4096)
def _advance(path: str | None, run: str) -> float:
    return float(_load(path, _REFERENCE_PX).getlength(run))


def _draw_seals(pen: ImageDraw.ImageDraw, run: str, x: float, baseline: float, size: int) -> None:
    """A round-cornered frame with a mirrored pattern of dots, made from the code point."""
    side = size * 0.8
    for char in run:
        if _joins(char):
            continue
        left, top = x + size * 0.06, baseline - size * 0.78
        pen.rounded_rectangle([left, top, left + side, top + side], side * 0.24, outline=255, width=max(1, size // 16))
        bits = (ord(char) * 2_654_435_761) >> 9  # Knuth's multiplicative hash spreads neighbouring code points
        dot = side * 0.10
        for row in range(3):
            for column in range(2):
                if bits >> (row * 2 + column) & 1 or (row == 1 and column == 1):
                    for place in {column, 2 - column}:
                        cx, cy = left + side * (0.27 + 0.23 * place), top + side * (0.27 + 0.23 * row)
                        pen.ellipse([cx - dot, cy - dot, cx + dot, cy + dot], fill=255)
        x += size * _SEAL_WIDTH


@functools.lru_cache(maxsize=4096)
def _stand_in(char: str) -> str:
    if _joins(char) or any(face.has(char) for face in _faces()):
        return char
    plain = "".join(c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    plain = _ASCII_STAND_INS.get(char, plain)
    builtin = Face(None)
    return plain if plain and all(builtin.has(c) for c in plain) else char


@functools.lru_cache(maxsize=256)
def _load(path: str | None, size: int) -> ImageFont.FreeTypeFont:
    if path is not None:
        return ImageFont.truetype(path, size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        msg = "Pillow was built without FreeType; install a standard Pillow wheel"
        raise RuntimeError(msg)
    return font


@functools.lru_cache(maxsize=8192)
def _has(path: str | None, char: str) -> bool:
    if char.isspace():
        return True
    font = _load(path, 24)
    return _glyph(font, char) != _missing(path)


@functools.lru_cache(maxsize=64)
def _missing(path: str | None) -> tuple[tuple[int, int], bytes]:
    return _glyph(_load(path, 24), _NO_CHARACTER)


def _glyph(font: ImageFont.FreeTypeFont, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)


@functools.cache
def _faces() -> tuple[Face, ...]:
    """The typefaces of this machine, best first; Pillow's own is always the first one."""
    found: dict[int, tuple[str, str]] = {}
    for folder in _FOLDERS:
        root = Path(folder).expanduser()
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            rank = next((rank for rank, start in enumerate(_PREFERRED) if path.name.startswith(start)), None)
            if rank is not None and rank not in found and path.suffix.lower() in _SUFFIXES and _opens(path):
                found[rank] = (path.name, str(path))
    return (Face(None), *(Face(found[rank][1]) for rank in sorted(found)))


def _opens(path: Path) -> bool:
    try:
        ImageFont.truetype(str(path), 24).getmask("a")
    except (OSError, ValueError):
        return False
    return True
