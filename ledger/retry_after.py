"""When it makes sense to come back after a refusal: an honest Retry-After. Pure.

What is full at once has room when a call ends: the one of which that is expected first. A budget comes back with its
next period; or, where only what is set aside fills it, when a call ends and gives back what it did not need. A breaker
lets somebody through at its next probe. An answer is never below a few seconds, so that nobody hammers at a door.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.periods import month_end_ms, month_of, next_day_ms
from ledger.refusals import AT_ONCE, Refusal, is_about_dollars

#: Nobody is asked to come back earlier, seconds.
LEAST_S = 5
#: What is said where nothing better is known, seconds.
UNKNOWN_S = 30
#: What is said while an operator holds spilling off without an end, seconds.
OFF_S = 300


@dataclass(frozen=True)
class Expected:
    """A live call: its reservation covers it, so it is expected to end before that is used up."""

    ends_ms: int
    reserved_usd_micros: int
    tenant: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Spent:
    """What is spent of one budget in its period, micro-dollars. A cap of None: there is none, or it is not known."""

    usd_micros: int
    cap_usd_micros: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of one instant. Times are milliseconds by Redis's clock."""

    now_ms: int
    #: Live Modal calls, or as many of them as were looked at.
    calls: Sequence[Expected] = ()
    #: Calls are being stopped, and end within seconds.
    is_stopping: bool = False
    #: When the first idle container is gone; None: none idles.
    idle_until_ms: int | None = None
    #: What is spent, by `month`, `day`, `tenant` and `kind` of whoever was refused.
    budgets: Mapping[str, Spent] = field(default_factory=dict)
    #: From this share of a cap on it drains.
    drain_ratio: float = 1.0
    #: Who was refused; empty: not known.
    tenant: str = ""
    kind: str = ""
    #: When the operator's hand is lifted; None: it has no end, or there is none.
    override_until_ms: int | None = None
    #: When the circuit breaker tries next, seconds from now; None: not known.
    probe_in_s: float | None = None


def facts_from(answer: Mapping[str, Any], *, tenant: str, kind: str, probe_in_s: float | None) -> Facts:
    """The facts as ledger/lua/retry_after.lua tells them."""
    rows: Sequence[tuple[float, float, float, str, str]] = answer["calls"] or ()
    return Facts(
        now_ms=int(answer["now_ms"]),
        calls=[
            Expected(int(placed_ms + reserved * 1_000_000 / rate), int(reserved), of_tenant, of_kind)
            for placed_ms, reserved, rate, of_tenant, of_kind in rows
            if rate
        ],
        is_stopping=answer["stopping"] > 0,
        idle_until_ms=answer.get("idle_until_ms"),
        budgets={
            scope: Spent(int(one["spent_usd_micros"]), one.get("cap_usd_micros"))
            for scope, one in answer["budgets"].items()
        },
        drain_ratio=answer.get("drain_ratio", 1.0),
        tenant=tenant,
        kind=kind,
        override_until_ms=answer.get("override_until_ms"),
        probe_in_s=probe_in_s,
    )


def retry_after_s(reason: str, facts: Facts) -> int:
    """Whole seconds, rounded up.

    Args:
        reason: the cap that a refusal named, `spill_off` or `breaker_open`.
        facts: what is known now.
    """
    return max(LEAST_S, math.ceil(_seconds(reason, facts)))


def _seconds(reason: str, facts: Facts) -> float:
    if is_about_dollars(reason):
        return (_dollars_ms(reason, facts) - facts.now_ms) / 1000
    if reason in AT_ONCE:
        first_ms = min(_room_ms(reason, facts), default=facts.now_ms)
        return (first_ms - facts.now_ms) / 1000
    if reason == Refusal.SPILL_OFF:
        return OFF_S if facts.override_until_ms is None else (facts.override_until_ms - facts.now_ms) / 1000
    if reason == Refusal.BREAKER_OPEN and facts.probe_in_s is not None:
        return facts.probe_in_s
    return UNKNOWN_S


def _room_ms(reason: str, facts: Facts) -> Iterator[int]:
    """When something ends that is alive at once."""
    if facts.is_stopping:
        yield facts.now_ms
    if facts.idle_until_ms is not None and reason != Refusal.MODAL_CALLS_AT_CAP:
        yield facts.idle_until_ms
    yield from (call.ends_ms for call in facts.calls)


def _dollars_ms(reason: str, facts: Facts) -> int:
    """The end of the period; before it, if enough is only set aside, the first call that gives something back."""
    scope, _, what = reason.rpartition("_")
    end_ms = next_day_ms(facts.now_ms) if scope == "day" else month_end_ms(month_of(facts.now_ms))
    budget = facts.budgets.get(scope, Spent(0))
    if budget.cap_usd_micros is None:
        return end_ms
    mine = [call for call in facts.calls if _counts_in(call, scope, facts)]
    room_usd_micros = budget.cap_usd_micros * (facts.drain_ratio if what == "drain" else 1) - max(0, budget.usd_micros)
    # (When all has come back, something as large as the smallest call that is live has to fit.)
    if not mine or min(call.reserved_usd_micros for call in mine) > room_usd_micros:
        return end_ms
    return min(end_ms, *(call.ends_ms for call in mine))


def _counts_in(call: Expected, scope: str, facts: Facts) -> bool:
    match scope:
        case "tenant":
            return call.tenant == facts.tenant
        case "kind":
            return call.kind == facts.kind
        case _:
            return True
