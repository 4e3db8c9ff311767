"""What polls that fail tell the breaker that all share."""

from dataclasses import replace
from typing import Any

import pytest

from ledger.polling import StoredBreaker
from workers.overflow import breaker as gate_module
from workers.overflow.breaker import BreakerRules, FailureReason, Gate, Phase


class _Shared:
    """The breaker's memory, as the ledger keeps it; the clock is a test's."""

    def __init__(self) -> None:
        self.modal_calls = self
        self.stored = StoredBreaker(version=0, phase="closed", reason="", memory=None, now_ms=0)
        self.now_s = 0.0

    def breaker(self) -> StoredBreaker:
        return replace(self.stored, now_ms=round(self.now_s * 1000))

    def move_breaker(self, *, version: int, phase: str, reason: str, memory: str) -> tuple[str, StoredBreaker]:
        self.stored = StoredBreaker(version=version + 1, phase=phase, reason=reason, memory=memory, now_ms=0)
        return "moved", self.breaker()


def _gate() -> tuple[_Shared, Gate]:
    shared: Any = _Shared()
    return shared, Gate(shared, BreakerRules(failures=3, window_s=30), clock=lambda: shared.now_s)


def test_what_is_wrong_with_one_call_keeps_no_other_from_modal() -> None:
    shared, gate = _gate()
    # When one call cannot be asked about again and again
    for _ in range(20):
        shared.now_s += 5
        gate.poll_failed("fc-1", FailureReason.UNAVAILABLE)
    # Then the breaker stays closed
    assert gate.phase is Phase.CLOSED
    # And one that is asked about between its failures tells of each
    for _ in range(3):
        shared.now_s += 5
        gate.poll_answered("fc-1")
        gate.poll_failed("fc-1", FailureReason.UNAVAILABLE)
    assert gate.phase is Phase.OPEN


def test_many_polls_that_fail_at_one_moment_are_one_failure_and_for_a_while_they_open_it() -> None:
    shared, gate = _gate()
    # When fifty polls fail at once
    for number in range(50):
        gate.poll_failed(f"fc-{number}", FailureReason.UNAVAILABLE)
    assert gate.phase is Phase.CLOSED
    # And they fail for some seconds more, then it opens
    for second in (1, 2):
        shared.now_s = second
        gate.poll_failed(f"fc-{second}", FailureReason.UNAVAILABLE)
    assert gate.phase is Phase.OPEN


def test_a_refused_token_opens_it_at_once() -> None:
    _, gate = _gate()
    gate.poll_failed("fc-1", FailureReason.TOKEN_REFUSED)
    assert gate.phase is Phase.OPEN


def test_what_it_remembers_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a gate that remembers three calls
    monkeypatch.setattr(gate_module, "REMEMBERED", 3)
    shared, gate = _gate()
    # When ten cannot be asked about, one after the other
    for number in range(10):
        shared.now_s += 60
        gate.poll_failed(f"fc-{number}", FailureReason.UNAVAILABLE)
    # Then it remembers the newest three
    assert list(gate._failed_polls) == ["fc-7", "fc-8", "fc-9"]
