"""Cuts a prompt into cards, and lays each card out: which word stands where, at which size, and when it comes. Pure.

A card is what is read at one time. How many words a video can show is a matter of reading speed: up to five words a
second (30 characters, the fast end of what can be followed; a viewer knows the prompt). A longer prompt is shown up to
that and ends with an ellipsis, while all of it has its say in the scene.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from engines.render.contract import RenderRequest
from engines.render.procedural import fonts, lexicon

_CHARS_PER_S: Final = 30.0
_MIN_CHARS: Final = 36
_CARD_CHARS: Final = 42
_MIN_CARD_S: Final = 1.25
_WIDE_CHAR: Final = 2.4  # letters that an ideograph counts as
_WHOLE_WORD_CHARS: Final = 34
_MAX_PIECE_CHARS: Final = 22
_BOX: Final = (0.84, 0.56)  # shares of width and height that a card may fill
_LARGEST: Final = 0.145  # of the shorter side, size of the letters
_SMALLEST: Final = 0.045
_LINE_PITCH: Final = 1.28
_SPACE: Final = 0.30  # of the size
_SETTLE_S: Final = 0.5  # a word's way in
_STAGGER_S: Final = 0.10
_SENTENCE_END: Final = re.compile(r"[.!?…。！？,;:،，、؛—–]$")
_UNSPACED: Final = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f])")


@dataclass(frozen=True)
class Word:
    """A piece of text that moves as one.

    Attributes:
        text: As it is drawn.
        face: The typeface of the whole prompt.
        is_accented: It shapes the scene, and is drawn in the accent colour.
        is_glued: No space comes before it (the next ideograph, the rest of a long word).
    """

    text: str
    face: fonts.Face
    is_accented: bool = False
    is_glued: bool = False

    @property
    def reading_chars(self) -> float:
        """How long it takes to read, counted in letters, its space included."""
        wide = sum(unicodedata.east_asian_width(char) in {"W", "F"} for char in self.text)
        return len(self.text) + wide * (_WIDE_CHAR - 1) + (0 if self.is_glued else 1)


@dataclass(frozen=True)
class Placed:
    """A word of a card: pen position on its baseline, in pixels of the video, and when it begins to come in."""

    word: Word
    x: float
    baseline: float
    enters_s: float


@dataclass(frozen=True)
class Card:
    """What is shown at one time.

    Attributes:
        words: Where each word stands when it has settled.
        size: Of the letters, pixels.
        starts_s: When the first word begins to come in; below 0 for the first card, so that frame 0 has words.
        ends_s: When the card is gone.
    """

    words: tuple[Placed, ...]
    size: int
    starts_s: float
    ends_s: float


def compose(request: RenderRequest) -> tuple[Card, ...]:
    """All cards of a request, in order."""
    words = excerpt(words_of(request.prompt, request.seconds), request.seconds)
    groups = into_groups(words, max(1, int(request.seconds / _MIN_CARD_S)))
    weights = [12 + sum(word.reading_chars for word in group) for group in groups]
    total = sum(weights)
    cards: list[Card] = []
    starts_s = 0.0
    for index, (group, weight) in enumerate(zip(groups, weights, strict=True)):
        ends_s = starts_s + request.seconds * weight / total
        last = index == len(groups) - 1
        first_in_s = -_SETTLE_S * 0.8 if index == 0 else starts_s
        cards.append(_lay_out(group, request, first_in_s, math.inf if last else ends_s, ends_s - starts_s))
        starts_s = ends_s
    return tuple(cards)


def words_of(prompt: str, seconds: int) -> list[Word]:
    """The words of a prompt that can be on screen within `seconds`, and one more if there are more."""
    limit = max(_MIN_CHARS, round(seconds * _CHARS_PER_S)) * 2
    clean = _clean(prompt, limit)
    face = fonts.face_for(clean)
    words: list[Word] = []
    for token in clean.split():
        accented = lexicon.is_evocative(token)
        for index, piece in enumerate(_pieces(token)):
            is_accented = lexicon.is_evocative(piece) if _UNSPACED.search(piece) else accented
            words.append(Word(piece, face, is_accented, is_glued=index > 0))
    # A prompt of nothing that can be drawn, such as a lone joiner, is still a video.
    return words or [Word("…", face)]


def excerpt(words: Sequence[Word], seconds: int) -> list[Word]:
    """The words that can be read in time; an ellipsis ends them if there were more."""
    budget = max(_MIN_CHARS, seconds * _CHARS_PER_S)
    taken: list[Word] = []
    for word in words:
        budget -= word.reading_chars
        if budget < 0 and taken:
            taken[-1] = replace(taken[-1], text=taken[-1].text.rstrip(".,;:") + "…")
            break
        taken.append(word)
    return taken


def into_groups(words: Sequence[Word], most: int) -> list[list[Word]]:
    """Splits words into at most `most` groups of about equal reading time, at the end of a clause where one is near."""
    total = sum(word.reading_chars for word in words)
    count = max(1, min(most, math.ceil(total / _CARD_CHARS), len(words)))
    groups: list[list[Word]] = [[]]
    filled, group_chars = 0.0, 0.0
    for index, word in enumerate(words):
        groups[-1].append(word)
        filled += word.reading_chars
        group_chars += word.reading_chars
        words_left = len(words) - index - 1
        if len(groups) == count or not words_left or words[index + 1].is_glued:
            continue
        target = total / count
        at_clause = bool(_SENTENCE_END.search(word.text)) and group_chars > target * 0.6
        if at_clause or filled + words[index + 1].reading_chars / 2 > target * len(groups):
            groups.append([])
            group_chars = 0.0
    return groups


def wrap(words: Sequence[Word], size: float, limit_px: float) -> list[list[Word]]:
    """Breaks words into lines no wider than `limit_px` (a single word may be)."""
    lines: list[list[Word]] = []
    used = 0.0
    for word in words:
        width = _width(word, size)
        space = 0.0 if word.is_glued else size * _SPACE
        if lines and used + space + width <= limit_px:
            lines[-1].append(word)
            used += space + width
        else:
            lines.append([word])
            used = width
    return lines


def _clean(prompt: str, limit: int) -> str:
    # Only the part that can be shown is looked at: a prompt may have 32000 characters.
    head = unicodedata.normalize("NFC", prompt[: limit * 4])
    kept = (" " if unicodedata.category(char) in {"Cc", "Zl", "Zp", "Cn", "Co"} else char for char in head)
    text = " ".join("".join(kept).split())
    return fonts.displayable(text[:limit])


def _pieces(token: str) -> list[str]:
    """Cuts a token where it may break: at each ideograph, and evenly in a word without end."""
    pieces: list[str] = []
    for part in _UNSPACED.split(token):
        if pieces and part and not _UNSPACED.match(part) and not any(char.isalnum() for char in part):
            pieces[-1] += part  # punctuation stays with what it follows
            continue
        pieces += _even_pieces(part)
    return pieces


def _even_pieces(part: str) -> list[str]:
    if len(part) <= _WHOLE_WORD_CHARS:
        return [part] if part else []
    length = math.ceil(len(part) / math.ceil(len(part) / _MAX_PIECE_CHARS))
    return [part[i : i + length] for i in range(0, len(part), length)]


def _lay_out(group: Sequence[Word], request: RenderRequest, starts_s: float, ends_s: float, lasts_s: float) -> Card:
    box_width, box_height = request.width * _BOX[0], request.height * _BOX[1]
    size, lines = _fitted(group, min(request.width, request.height), box_width, box_height)
    right_to_left = fonts.is_right_to_left("".join(word.text for word in group))
    top = (request.height - len(lines) * size * _LINE_PITCH) / 2
    stagger_s = min(_STAGGER_S, lasts_s * 0.4 / len(group))
    placed: list[Placed] = []
    for row, line in enumerate(lines):
        baseline = top + (row + 0.5) * size * _LINE_PITCH + size * 0.34
        for index, x in enumerate(_pen_places(line, size, request.width / 2, right_to_left=right_to_left)):
            placed.append(Placed(line[index], x, baseline, starts_s + stagger_s * len(placed)))
    return Card(tuple(placed), size, starts_s, ends_s)


def visual_order(line: Sequence[Word], *, right_to_left: bool) -> list[int]:
    """The words of a line from left to right, as indices: each stretch of one direction keeps its own order.

    A simple form of the Unicode bidirectional algorithm (UAX 9) that knows two levels and whole words.
    """
    stretches: list[tuple[bool, list[int]]] = []
    for index, word in enumerate(line):
        direction = fonts.is_right_to_left(word.text)
        if stretches and stretches[-1][0] == direction:
            stretches[-1][1].append(index)
        else:
            stretches.append((direction, [index]))
    ordered = [indices[::-1] if direction else indices for direction, indices in stretches]
    return [index for indices in (ordered[::-1] if right_to_left else ordered) for index in indices]


def _pen_places(line: Sequence[Word], size: float, centre_px: float, *, right_to_left: bool) -> list[float]:
    """Where each word of a centred line begins, in the order of reading."""
    places = [0.0] * len(line)
    pen, before = 0.0, -1
    for index in visual_order(line, right_to_left=right_to_left):
        if before >= 0 and not line[max(before, index)].is_glued:
            pen += size * _SPACE
        places[index] = pen
        pen += _width(line[index], size)
        before = index
    return [centre_px - pen / 2 + place for place in places]


def _fitted(
    group: Sequence[Word], short_side: int, box_width: float, box_height: float
) -> tuple[int, list[list[Word]]]:
    """The largest size at which the words fit the box, and their lines, evened out."""
    size = max(6.0, short_side * _LARGEST)
    smallest = max(6.0, short_side * _SMALLEST)
    while size > smallest:
        lines = wrap(group, size, box_width)
        if len(lines) * size * _LINE_PITCH <= box_height and _widest(lines, size) <= box_width:
            return _evened(group, lines, size, box_width)
        size *= 0.94
    return _evened(group, wrap(group, smallest, box_width), smallest, box_width)


def _evened(
    group: Sequence[Word], lines: list[list[Word]], size: float, box_width: float
) -> tuple[int, list[list[Word]]]:
    """Narrows the lines for as long as that makes no more of them."""
    narrow = box_width
    while narrow > box_width / 3:
        tighter = wrap(group, size, narrow * 0.94)
        if len(tighter) > len(lines) or _widest(tighter, size) > narrow:
            break
        narrow *= 0.94
        lines = tighter
    return int(size), lines


def _width(word: Word, size: float) -> float:
    return fonts.width_px(word.text, size, word.face)


def _widest(lines: Sequence[Sequence[Word]], size: float) -> float:
    return max(
        sum(_width(word, size) + (0 if word.is_glued or index == 0 else size * _SPACE)
            for index, word in enumerate(line))
        for line in lines
    )  # fmt: skip


def settle_share(now_s: float, enters_s: float) -> float:
    """How far a word has come in, 0 to 1, fast at first and slow at the end (cubic ease-out)."""
    share = min(1.0, max(0.0, (now_s - enters_s) / _SETTLE_S))
    return 1 - (1 - share) ** 3
