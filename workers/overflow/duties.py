"""What is done beside following, now and then, by one follower at a time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from workers.overflow.calls import ModalCalls
from workers.resources import Resources


@dataclass(frozen=True)
class Duty:
    """Something to be done again and again."""

    run: Callable[[], Awaitable[None]]
    every_s: float


def duties_of(open_ends: Resources, calls: ModalCalls, *, owner: str) -> Sequence[Duty]:
    """All duties that the settings want."""
    return ()
