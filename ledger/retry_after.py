"""When it makes sense to come back after a refusal: an honest Retry-After. Pure.

A budget comes back with its next period. What is full at once has room when the oldest call ends. A breaker lets
somebody through at its next probe. An answer is never below a few seconds, so that nobody is told to hammer at a door.
"""

import math
from dataclasses import dataclass

from ledger.periods import month_end_ms, month_of, next_day_ms
from ledger.refusals import AT_ONCE, Refusal, is_about_dollars

#: Nobody is asked to come back earlier, seconds.
LEAST_S = 5
#: What is said where nothing better is known, seconds.
UNKNOWN_S = 30
#: What is said while an operator holds spilling off without an end, seconds.
OFF_S = 300


@dataclass(frozen=True)
class Facts:
    """What is known of one instant. Times are milliseconds by Redis's clock."""

    now_ms: int
    #: When the oldest live Modal call is expected to end; None: there is none.
    oldest_call_ends_ms: int | None = None
    #: When the operator's hand is lifted; None: it has no end, or there is none.
    override_until_ms: int | None = None
    #: When the circuit breaker tries next, seconds from now; None: not known.
    probe_in_s: float | None = None


def retry_after_s(reason: str, facts: Facts) -> int:
    """Whole seconds, rounded up.

    Args:
        reason: the cap that a refusal named, `spill_off` or `breaker_open`.
        facts: what is known now.
    """
    return max(LEAST_S, math.ceil(_seconds(reason, facts)))


def _seconds(reason: str, facts: Facts) -> float:
    if is_about_dollars(reason):
        by_day = reason in {Refusal.DAY_BUDGET, Refusal.DAY_DRAIN}
        end_ms = next_day_ms(facts.now_ms) if by_day else month_end_ms(month_of(facts.now_ms))
        return (end_ms - facts.now_ms) / 1000
    if reason in AT_ONCE:
        return _until(facts.oldest_call_ends_ms, facts.now_ms, otherwise_s=LEAST_S)
    if reason == Refusal.SPILL_OFF:
        return _until(facts.override_until_ms, facts.now_ms, otherwise_s=OFF_S)
    if reason == Refusal.BREAKER_OPEN and facts.probe_in_s is not None:
        return facts.probe_in_s
    return UNKNOWN_S


def _until(ms: int | None, now_ms: int, *, otherwise_s: float) -> float:
    return otherwise_s if ms is None else (ms - now_ms) / 1000
