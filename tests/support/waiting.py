"""Waiting for another process to do something: look, briefly pause, look again, and say at the end what was seen."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], seen: Callable[[T], bool], *, timeout_s: float, every_s: float = 0.05) -> T:
    """Look until `seen` says yes; fails with the last look when the time is over."""
    end = time.monotonic() + timeout_s
    while True:
        value = look()
        if seen(value):
            return value
        assert time.monotonic() < end, f"not seen within {timeout_s:g} s; last look: {value!r}"
        time.sleep(every_s)
