"""Draws the cards over a yuv420p frame, in place: words come in, float a little, and leave, each over a soft shadow.

A word is drawn once, as two fields per plane: how much of the picture it keeps, and what it adds. Putting it on a frame
is then one multiplication and one addition, and only inside its own box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from engines.render.contract import RenderRequest
from engines.render.procedural import fields, fonts, typography
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Colour, Palette
from engines.render.procedural.typography import Card, Placed

_SHADOW: Final = 0.68
_SHADOW_SPREAD: Final = 0.16  # of the size of the letters
_LEAVES_S: Final = 0.32
_FLOAT: Final = 0.035  # of the size, a word's slow rise and fall
_FLOAT_RATE: Final = 1.5  # radians per second
_BLACK: Final = (16.0, 128.0, 128.0)


@dataclass(frozen=True)
class _Plane:
    """A word on one plane: frame = frame * keep + add."""

    keep: Array
    add: Array


@dataclass(frozen=True)
class _Ink:
    """A drawn word: its planes (Y, U, V), and the even pixel where they begin when it has settled."""

    placed: Placed
    planes: tuple[_Plane, _Plane, _Plane]
    left: int
    top: int


@dataclass(frozen=True)
class _Entrance:
    """Where words come from, in sizes of the letters."""

    from_x: float
    from_y: float


_ENTRANCES: Final = (
    _Entrance(0.0, 0.85),
    _Entrance(0.0, -0.85),
    _Entrance(-1.1, 0.0),
    _Entrance(1.1, 0.0),
    _Entrance(0.5, 0.6),
)


class Titles:
    """The cards of one request, ready to be drawn on any frame, in any order.

    Only the words of the card that was drawn last are kept: a long video has many cards.
    """

    def __init__(self, request: RenderRequest, palette: Palette) -> None:
        self._cards = typography.compose(request)
        self._palette = palette
        rng = fields.generator(request.prompt, request.seed, "titles")
        self._entrances = [_ENTRANCES[int(rng.integers(len(_ENTRANCES)))] for _ in self._cards]
        self._inked: tuple[int, tuple[_Ink, ...]] = (-1, ())

    def draw(self, frame: av.VideoFrame, t_s: float) -> None:
        """Draws what is to be read at `t_s` seconds."""
        planes = _planes(frame)
        for index, card in enumerate(self._cards):
            if card.starts_s <= t_s < card.ends_s:
                for order, ink in enumerate(self._inks(index)):
                    self._draw_word(planes, ink, card, self._entrances[index], order, t_s)

    def _inks(self, index: int) -> tuple[_Ink, ...]:
        if self._inked[0] != index:
            card = self._cards[index]
            colours = {False: self._palette.text, True: self._palette.accent}
            inks = tuple(_ink(placed, card.size, colours[placed.word.is_accented]) for placed in card.words)
            self._inked = (index, inks)
        return self._inked[1]

    def _draw_word(
        self, planes: list[NDArray[np.uint8]], ink: _Ink, card: Card, entrance: _Entrance, order: int, t_s: float
    ) -> None:
        come = typography.settle_share(t_s, ink.placed.enters_s)
        gone = max(0.0, 1 - (card.ends_s - t_s) / _LEAVES_S)
        alpha = min(1.0, come * 1.1) * (1 - gone)
        if alpha <= 0:
            return
        floating = _FLOAT * math.sin(_FLOAT_RATE * t_s + order * 0.8)
        x = ink.left + card.size * entrance.from_x * (1 - come)
        y = ink.top + card.size * (entrance.from_y * (1 - come) + floating - 0.5 * gone * gone)
        _put(planes, ink, x, y, alpha)


def _planes(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Writable views of Y, U and V, without the padding at the end of their rows."""
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]  # a Plane has the buffer protocol; its stub does not say so
        views.append(rows[:, : plane.width])
    return views


def _put(planes: list[NDArray[np.uint8]], ink: _Ink, x: float, y: float, alpha: float) -> None:
    """Puts a word at a place: exact to a fraction of a pixel in height, to two pixels across."""
    left, top = 2 * round(x / 2), 2 * math.floor(y / 2)
    rest = y - top  # 0 to 2: the slow rise and fall must not be seen to jump
    for target, plane, divisor in zip(planes, ink.planes, (1, 2, 2), strict=True):
        _put_plane(target, plane, left // divisor, top // divisor, rest / divisor, alpha)


def _put_plane(target: NDArray[np.uint8], plane: _Plane, left: int, top: int, rest: float, alpha: float) -> None:
    height, width = target.shape
    whole = int(rest)
    top += whole
    rows, columns = plane.keep.shape[0] - 2, plane.keep.shape[1]
    first_row, last_row = max(0, top), min(height, top + rows)
    first_column, last_column = max(0, left), min(width, left + columns)
    if first_row >= last_row or first_column >= last_column:
        return
    across = slice(first_column - left, last_column - left)
    keep, add = (
        fields.window_y(field[:, across], 1 - (rest - whole) + first_row - top, last_row - first_row)
        for field in (plane.keep, plane.add)
    )
    region = target[first_row:last_row, first_column:last_column]
    if alpha < 1:
        keep = 1 - np.float32(alpha) * (1 - keep)
        add = add * np.float32(alpha)
    region[...] = region * keep + (add + np.float32(0.5))


def _ink(placed: Placed, size: int, colour: Colour) -> _Ink:
    drawn = fonts.draw(placed.word.text, size, placed.word.face)
    spread = max(1, round(size * _SHADOW_SPREAD))
    margin = 3 * spread
    left = math.floor(placed.x + drawn.left) - margin
    top = math.floor(placed.baseline + drawn.top) - margin
    # Even corners and even sizes, so that one chroma sample always belongs to four whole pixels.
    pad_left, pad_top = left % 2, top % 2
    rows, columns = drawn.mask.shape
    height, width = (2 * math.ceil((side + 2 * margin + 3) / 2) for side in (rows, columns))
    mask = np.zeros((height, width), np.uint8)
    mask[margin + pad_top : margin + pad_top + rows, margin + pad_left : margin + pad_left + columns] = drawn.mask
    shadow = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(spread))
    shade = np.clip(np.asarray(shadow, np.float32) * np.float32(1.7 / 255), 0, 1) * np.float32(_SHADOW)
    letters = mask.astype(np.float32) / np.float32(255)
    full = _blended(letters, shade)
    half = _blended(_halved(letters), _halved(shade))
    y, u, v = _yuv(colour)
    planes = (full(_BLACK[0], y), half(_BLACK[1], u), half(_BLACK[2], v))
    return _Ink(placed, planes, left - pad_left, top - pad_top)


def _blended(letters: Array, shade: Array) -> Callable[[float, float], _Plane]:
    """Shadow towards black, then letters in their colour; padded above and below for the fractional place."""

    def plane(black: float, ink: float) -> _Plane:
        keep = (1 - shade) * (1 - letters)
        add = black * (1 - keep) + letters * (ink - black)
        padding = ((1, 2), (0, 0))
        return _Plane(
            np.pad(keep, padding, constant_values=1).astype(np.float32), np.pad(add, padding).astype(np.float32)
        )

    return plane


def _halved(field: Array) -> Array:
    return np.asarray((field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) / 4, np.float32)


def _yuv(colour: Colour) -> tuple[float, float, float]:
    """A colour in limited-range BT.709 (ITU-R BT.709-6, items 3.2 to 3.5)."""
    red, green, blue = (channel / 255 for channel in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748
