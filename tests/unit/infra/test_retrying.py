"""Patience: try again while somebody is away, and no longer than was said."""

import pytest

from infra.retrying import retry_while_unavailable
from ledger import LedgerUnavailable


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def test_it_answers_as_soon_as_the_ledger_does() -> None:
    clock, tries = _Clock(), [0]

    def third_time() -> str:
        tries[0] += 1
        if tries[0] < 3:
            raise LedgerUnavailable("h", "away")
        return "done"

    assert retry_while_unavailable(third_time, for_s=60, wait=clock.wait, clock=lambda: clock.now) == "done"
    assert clock.waits == [0.2, 0.4]


def test_it_gives_up_when_the_time_is_over_or_the_attempt_is_lost() -> None:
    clock = _Clock()

    def never() -> None:
        raise LedgerUnavailable("h", "away")

    with pytest.raises(LedgerUnavailable):
        retry_while_unavailable(never, for_s=10, wait=clock.wait, clock=lambda: clock.now)
    assert 5 < clock.now <= 10
    with pytest.raises(LedgerUnavailable):
        retry_while_unavailable(never, for_s=10, give_up=lambda: True, wait=clock.wait, clock=lambda: clock.now)
    assert clock.now <= 10


def test_other_errors_are_not_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        retry_while_unavailable(lambda: 1 // 0, for_s=10, wait=lambda _: pytest.fail("waited"))
