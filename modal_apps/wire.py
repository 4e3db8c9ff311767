"""Reads what somebody else wrote: a part of the wrong type, or beyond its bound, is refused; text is made valid.

What a container sends goes into Redis, into logs and to users. So numbers are finite and of their type (a bool is no
number), names are plain ASCII, and text is valid Unicode of a bounded length: a lone surrogate is no UTF-8, and Redis's
JSON refuses it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

#: Bounds: characters of a name and of a text; a whole number (Lua counts exactly up to 2^53).
NAME_CHARS, TEXT_CHARS, MOST = 200, 2_000, 2**53
#: Seconds since 1970 until the year 5138, and of a duration: a year.
LATEST_S, LONGEST_S = 1e11, 366 * 86_400.0
#: Of a piece of plain JSON: levels, parts in all, and characters of one text.
DEPTH, PARTS, PART_CHARS = 5, 2_000, 1_000

_NAME = re.compile(r"[A-Za-z0-9_.:-]*", re.ASCII)


class WrongPart(ValueError):
    """A part is not what it should be. `part` is its name, `expected` a few words; what was sent is not shown."""

    def __init__(self, part: str, expected: str, got: object) -> None:
        self.part = part
        self.expected = expected
        super().__init__(f"expected {expected} for {part}, got {type(got).__name__}")


def name(part: str, value: object, *, may_be_empty: bool = False) -> str:
    """An id: ASCII letters, digits and `_.:-`."""
    fits = isinstance(value, str) and len(value) <= NAME_CHARS and _NAME.fullmatch(value)
    if not isinstance(value, str) or not fits or not (value or may_be_empty):
        raise WrongPart(part, "an id", value)
    return value


def text(part: str, value: object, *, most: int = TEXT_CHARS) -> str:
    """A text, cut to `most` characters and without what is no Unicode."""
    if not isinstance(value, str):
        raise WrongPart(part, "a text", value)
    return scrubbed(value, most)


def scrubbed(value: str, most: int = TEXT_CHARS) -> str:
    """A text as UTF-8 can hold it, cut to `most` characters."""
    return value[:most].encode("utf-8", "replace").decode("utf-8")


def whole(part: str, value: object, *, most: int = MOST) -> int:
    """A whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise WrongPart(part, f"a whole number from 0 to {most}", value)
    return value


def whole_or_none(part: str, value: object, *, most: int = MOST) -> int | None:
    """The same, or None."""
    return None if value is None else whole(part, value, most=most)


def number(part: str, value: object, *, most: float, least: float = 0.0) -> float:
    """A finite number within bounds."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise WrongPart(part, f"a number from {least:g} to {most:g}", value)
    return float(value)


def moment(part: str, value: object) -> float:
    """Seconds since 1970 by somebody's clock, which may be wrong."""
    return number(part, value, most=LATEST_S, least=-LATEST_S)


def flag(part: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongPart(part, "true or false", value)
    return value


def fields(part: str, value: object) -> Mapping[str, Any]:
    """A dict with text as keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WrongPart(part, "a dict with names", value)
    return value


def plain(part: str, value: object) -> Any:
    """A copy of a piece of plain JSON: a bounded number of parts and levels, finite numbers, valid text."""
    left = PARTS

    def copied(found: object, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH:
            raise WrongPart(part, f"at most {PARTS} parts in {DEPTH} levels", found)
        match found:
            case None | bool():
                return found
            case int() if -MOST <= found <= MOST:
                return found
            case float() if math.isfinite(found):
                return found
            case str():
                return scrubbed(found, PART_CHARS)
            case list() | tuple():
                return [copied(one, depth + 1) for one in found]
            case dict():
                return {text(part, key, most=NAME_CHARS): copied(one, depth + 1) for key, one in found.items()}
        raise WrongPart(part, "plain JSON", found)

    return copied(value, 0)
