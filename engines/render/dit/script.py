"""From the prompt to what each frame shows: pure functions of words and numbers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: A class is held for this share of its part of the video; in the rest it becomes the next.
_HELD_SHARE: Final = 0.6
#: Seconds in which the noise goes once round, and the picture with it.
_ROUND_S: Final = 8.0
_WORD: Final = re.compile(r"\w+")
_WITHOUT_A_WORD: Final = 3


@dataclass(frozen=True)
class Moment:
    """What one frame shows.

    Attributes:
        before: Class that it comes from.
        after: Class that it goes to.
        share: How far on the way, 0 to 1.
        angle: Where on the circle between two noises, radians.
    """

    before: int
    after: int
    share: float
    angle: float


def wanted_classes(prompt: str, names: Sequence[str], seed: int) -> list[int]:
    """The classes that the prompt speaks of, in its order, as positions in `names`.

    A class is meant where all words of its name follow each other (a plural s is no matter). Failing that, by any
    single word of a name (`circle` may be any colour's: the seed chooses). A prompt without any such word gets a few
    classes that depend on it and the seed.
    """
    words = [_singular(word) for word in _WORD.findall(prompt.lower())]
    spelt = [[_singular(word) for word in _WORD.findall(name.lower())] for name in names]
    whole = [
        (start, number)
        for number, parts in enumerate(spelt)
        for start in range(len(words))
        if parts and words[start : start + len(parts)] == parts
    ]
    if whole:
        return [number for _, number in sorted(whole)]
    chosen = []
    for position, word in enumerate(words):
        candidates = [number for number, parts in enumerate(spelt) if word in parts]
        if candidates:
            chosen.append(candidates[_chance(f"{seed}/{position}/{word}") % len(candidates)])
    return chosen or [_chance(f"{seed}/{prompt}/{turn}") % len(names) for turn in range(_WITHOUT_A_WORD)]


def moment(classes: Sequence[int], *, time_s: float, duration_s: float) -> Moment:
    """What the frame at `time_s` shows: each class in turn, for equal parts of the video, the last one to its end."""
    place = min(time_s / duration_s, 1.0) * len(classes)
    part = min(int(place), len(classes) - 1)
    following = min(part + 1, len(classes) - 1)
    late = max(0.0, place - part - _HELD_SHARE) / (1 - _HELD_SHARE)
    share = min(1.0, late)
    smooth = share * share * (3 - 2 * share)
    return Moment(classes[part], classes[following], smooth, math.tau * time_s / _ROUND_S)


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _chance(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
