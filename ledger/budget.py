"""The budget as people see and steer it: how each cap stands, the month's book, the operator's hand, the true-up.

Placements and settlements move the money (placing, calls, attempts); here it is read, corrected by Modal's own bill,
and steered. What is read is of one instant.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ledger.errors import UnknownOutcome
from ledger.limits import Limits, Value, text_when_unset, to_text
from ledger.models import Kind
from ledger.outcomes import LiveCall, Superseded, TooEarly, TruedUp
from ledger.periods import month_end_ms, month_of, month_start_ms
from ledger.retry_after import facts_from, retry_after_s
from ledger.scripts import ScriptRunner
from ledger.stages import Stage, stage_of

#: How a month's book may be cut.
Cut = Literal["tenant", "kind", "class", "day", "component"]
#: The operator's hand on spilling.
Mode = Literal["auto", "on", "off"]

HOUR_MS = 3_600_000
#: The recent rate of spending is that of so many hours.
RECENT_HOURS = 24
#: Beside the limits in P:limits: when an environment filled them.
FILLED = "filled_ms"
#: Of the oldest live calls, and of the newest, so many are looked at for when one ends.
CALLS_LOOKED_AT = 50


@dataclass(frozen=True)
class ScopeView:
    """One dollar budget in its period, micro-dollars. A cap of None: there is none."""

    cap_usd_micros: int | None
    spent_usd_micros: int
    reserved_usd_micros: int
    stage: Stage

    @property
    def left_usd_micros(self) -> int | None:
        """What may still be set aside; None: there is no cap."""
        if self.cap_usd_micros is None:
            return None
        return max(0, self.cap_usd_micros - max(0, self.spent_usd_micros) - self.reserved_usd_micros)


@dataclass(frozen=True)
class LiveView:
    """Something that is alive at once, against its cap. A cap of None: there is none."""

    used: int
    cap: int | None


@dataclass(frozen=True)
class BudgetView:
    """All budgets of one instant. Times are milliseconds by Redis's clock."""

    now_ms: int
    #: "YYYY-MM", UTC.
    month_name: str
    month: ScopeView
    day: ScopeView
    tenants: Mapping[str, ScopeView]
    kinds: Mapping[str, ScopeView]
    #: What burns now, micro-dollars an hour.
    hour_rate: LiveView
    gpus: LiveView
    containers: LiveView
    calls: LiveView
    #: What the month will have cost if it goes on as in the last day, micro-dollars.
    projected_usd_micros: int
    #: What in-house GPUs cost this month, micro-dollars. In no cap.
    inhouse_usd_micros: int
    #: The limits in force.
    limits: Limits


@dataclass(frozen=True)
class Override:
    """The operator's hand on spilling, with who and why (empty for `auto`). Times are milliseconds by Redis's clock."""

    mode: Mode
    who: str = ""
    why: str = ""
    at_ms: int | None = None
    #: None: until it is set again.
    until_ms: int | None = None


@dataclass(frozen=True)
class Prewarm:
    """A wish for so many warm containers of a class, until an instant by Redis's clock."""

    number: int
    kind: Kind
    gpu: str
    until_ms: int
    who: str
    why: str


@dataclass(frozen=True)
class MonthBook:
    """A month's spending, cut one way: label -> micro-dollars, for Modal and in-house."""

    month: str
    by: Cut
    modal: Mapping[str, int]
    inhouse: Mapping[str, int]
    #: The last true-up: as_of_ms, billed_usd_micros, used_usd_micros, difference_usd_micros, who, at_ms; empty: none.
    true_up: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LimitChange:
    """One change of a limit, as the ledger keeps its values: a number, `none`, or `default` (of one tenant).

    Attributes:
        name: the limit.
        was: what it was; None: the ledger had no value of it.
        now: what it is from then on.
        who: who changed it.
        why: their reason.
        at_ms: when, milliseconds by Redis's clock.
    """

    name: str
    was: str | None
    now: str
    who: str
    why: str
    at_ms: int


class Budget:
    """The verbs of operators, of the cost report, and of whoever compares the bill; part of `Money`."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def view(self) -> BudgetView:
        """How every cap stands."""
        return _view(self._runner.call("budget"))

    def limits(self) -> Limits:
        """The limits in force."""
        return Limits.from_texts(self.stored_limits())

    def stored_limits(self) -> dict[str, str]:
        """The limits as the ledger keeps them, by name (see `LimitChange`); empty until a process fills them."""
        found: dict[str, str] = self._runner.guarded(lambda: self._runner.client.hgetall(f"{self._prefix}:limits"))
        return {name: text for name, text in found.items() if name != FILLED}

    def set_limits(self, values: Mapping[str, Value], *, who: str, why: str) -> list[LimitChange]:
        """Change limits, all of them at once; they hold from the next script on, for every process.

        Args:
            values: by name (ledger/limits.py `RULES`, `tenant:<name>`, `kind:<kind>`); None: no such limit.
            who: who says so; kept, and told in an event for each.
            why: their reason.

        Returns:
            What has changed; what had that value already has not.

        Raises:
            LimitRefused: a name or a value is wrong; nothing was changed.
        """
        return self._change({name: to_text(name, value) for name, value in values.items()}, who=who, why=why)

    def unset_limits(self, names: Iterable[str], *, who: str, why: str) -> list[LimitChange]:
        """Take limits back: there is no such limit from now on, or its default holds; of a tenant, every tenant's cap.

        The environment does not fill them again.

        Raises:
            LimitRefused: a name is wrong; nothing was changed.
        """
        return self._change({name: text_when_unset(name) for name in names}, who=who, why=why)

    def fill_limits(self, given: Mapping[str, int | float], *, who: str) -> dict[str, str]:
        """Fill those limits that the ledger does not have yet, each on its own; all as they are stored then.

        Args:
            given: what the environment of a process says, by name.
            who: the process; kept with what it fills.
        """
        texts = {name: to_text(name, value) for name, value in given.items()}
        answer = self._runner.call("limits", given=texts, who=who[:200], why="the environment of a process")
        return {name: text for name, text in answer["limits"].items() if name != FILLED}

    def limits_history(self, *, limit: int = 100) -> list[LimitChange]:
        """The newest changes of limits, oldest first."""
        key = f"{self._prefix}:limits:history"
        rows: list[str] = self._runner.guarded(lambda: self._runner.client.lrange(key, -limit, -1))
        return [LimitChange(**json.loads(row)) for row in rows]

    def _change(self, texts: Mapping[str, str], *, who: str, why: str) -> list[LimitChange]:
        answer = self._runner.call("limits", change=texts, who=who[:200], why=why[:500])
        now_ms = int(answer["now_ms"])
        return [LimitChange(**row, who=who, why=why, at_ms=now_ms) for row in answer["changes"] or []]

    def book(self, month: str, *, by: Cut) -> MonthBook:
        """What a month ("YYYY-MM") cost, cut one way. Months are kept for fourteen months."""
        answer = self._runner.call("budget", month=month)
        spend = _numbers(answer["spend"])
        return MonthBook(
            month=month,
            by=by,
            modal=_labelled(spend, f"modal:{by}:"),
            inhouse=_labelled(spend, f"inhouse:{by}:"),
            true_up=dict(answer["true_up"] or {}),
        )

    def override(self) -> Override:
        """The operator's hand as it is now."""
        return _override(self._runner.call("override"))

    def set_override(self, mode: Mode, *, who: str, why: str, for_s: float | None = None) -> Override:
        """Set the operator's hand: `off` places nothing on Modal, `on` spills whatever fits, `auto` lets the policy.

        Args:
            mode: what holds from now on.
            who: who says so; kept, and told in an event.
            why: their reason.
            for_s: seconds after which it is `auto` again; None: until it is set again.
        """
        for_ms = None if for_s is None else round(for_s * 1000)
        return _override(self._runner.call("override", mode=mode, who=who[:200], why=why[:500], for_ms=for_ms))

    def set_prewarm(
        self, number: int, *, gpu: str, for_s: float, who: str, why: str, kind: Kind = Kind.RENDER
    ) -> list[Prewarm]:
        """Wish for warm containers of a class; a new wish replaces the old one, 0 takes it back. All that stand."""
        return _prewarms(
            self._runner.call(
                "prewarm", number=number, kind=kind, gpu=gpu, for_ms=round(for_s * 1000), who=who[:200], why=why[:500]
            )
        )

    def prewarms(self) -> list[Prewarm]:
        """The wishes that stand."""
        return _prewarms(self._runner.call("prewarm"))

    def live_calls(self, *, limit: int = 500) -> tuple[list[LiveCall], int]:
        """Live Modal attempts, newest first, and what is set aside for those that are being stopped, micro-dollars."""
        answer = self._runner.call("live_calls", limit=limit)
        calls = [
            LiveCall(
                job_id=row["id"],
                attempt=int(row["attempt"]),
                kind=Kind(row["kind"]),
                tenant=row["tenant"],
                priority=int(row["priority"]),
                placed_ms=int(row["placed_ms"]),
                reserved_usd_micros=int(row["reserved_usd_micros"]),
            )
            for row in answer["calls"] or []
        ]
        return calls, int(answer["coming_back_usd_micros"])

    def true_up(
        self, month: str, billed_usd_micros: int, *, who: str, as_of_ms: int
    ) -> TruedUp | TooEarly | Superseded:
        """Book the difference between Modal's billing report and the ledger (docs/decisions/0004-true-up.md).

        Args:
            month: "YYYY-MM", UTC.
            billed_usd_micros: what Modal billed from the month's start to `as_of_ms`.
            who: who says so.
            as_of_ms: the end of the report: a whole hour of the month (or its end), milliseconds since 1970.

        Raises:
            ValueError: `as_of_ms` is no whole hour of the month.
        """
        if as_of_ms % HOUR_MS or not month_start_ms(month) < as_of_ms <= month_end_ms(month):
            raise ValueError(f"expected the end of a whole hour of {month}, in milliseconds since 1970, got {as_of_ms}")
        return self._true_up(month, billed_usd_micros, as_of_ms=as_of_ms, is_open=False, who=who)

    def true_up_month_to_date(
        self, billed_usd_micros: int, *, who: str, billed_today_usd_micros: int | None = None
    ) -> TruedUp | TooEarly | Superseded:
        """The same on demand, from a bill of this month that covers the present hour too.

        What is in flight may explain a part of the difference, as much as is set aside: only more than that is booked.

        Args:
            billed_usd_micros: what Modal billed this month (UTC).
            who: who says so.
            billed_today_usd_micros: of that, what it billed today: what is not today's is booked to yesterday, outside
                of today's cap. None: all counts as today's.
        """
        now_ms = int(self._runner.call("override")["now_ms"])
        return self._true_up(
            month_of(now_ms),
            billed_usd_micros,
            billed_today=billed_today_usd_micros,
            as_of_ms=now_ms,
            is_open=True,
            who=who,
        )

    def retry_after_s(self, reason: str, *, tenant: str = "", kind: str = "", probe_in_s: float | None = None) -> int:
        """When it makes sense to come back after a refusal, in whole seconds (see ledger/retry_after.py).

        Args:
            reason: what the refusal named, or a held job's `held_reason`.
            tenant: who was refused; empty: not known.
            kind: the kind of job that was refused; empty: not known.
            probe_in_s: when the circuit breaker tries next, if it is open and that is known, seconds.
        """
        answer = self._runner.call("retry_after", tenant=tenant, kind=kind, looked_at=CALLS_LOOKED_AT)
        return retry_after_s(reason, facts_from(answer, tenant=tenant, kind=kind, probe_in_s=probe_in_s))

    def _true_up(
        self, month: str, billed: int, *, as_of_ms: int, is_open: bool, who: str, billed_today: int | None = None
    ) -> TruedUp | TooEarly | Superseded:
        answer = self._runner.call(
            "true_up",
            month=month,
            billed_usd_micros=billed,
            billed_today_usd_micros=billed_today,
            as_of_ms=as_of_ms,
            open=is_open,
            who=who[:200],
        )
        match answer["outcome"]:
            case "trued_up":
                return TruedUp(int(answer["difference_usd_micros"]), int(answer["used_usd_micros"]))
            case "same":
                return TruedUp(already=True)
            case "too_early":
                return TooEarly(int(answer["settled_until_ms"]))
            case "superseded":
                return Superseded(int(answer["as_of_ms"]))
            case other:
                raise UnknownOutcome("true_up", other)


def _view(answer: Mapping[str, Any]) -> BudgetView:
    now_ms, month = int(answer["now_ms"]), str(answer["month"])
    texts: Mapping[str, str] = answer["limits"] or {}
    limits = Limits.from_texts({name: text for name, text in texts.items() if name != FILLED})
    money, spend = _numbers(answer["money"]), _numbers(answer["spend"])
    reserved = money.get("reserved_usd_micros", 0)
    spent = money.get(f"spent:modal:{month}", 0)
    today = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d")

    def scope(cap: int | None, spent_usd_micros: int, reserved_usd_micros: int) -> ScopeView:
        stage = stage_of(max(0, spent_usd_micros) + reserved_usd_micros, cap, drain_ratio=limits.drain_ratio)
        return ScopeView(cap, spent_usd_micros, reserved_usd_micros, stage)

    def scopes(
        word: str, capped: Sequence[str], cap_of: Mapping[str, int | None], default: int | None
    ) -> dict[str, ScopeView]:
        spent_by, reserved_by = _labelled(spend, f"modal:{word}:"), _labelled(money, f"reserved:{word}:")
        names = sorted({*spent_by, *reserved_by, *capped} - {"-"})
        return {
            name: scope(cap_of.get(name, default), spent_by.get(name, 0), reserved_by.get(name, 0)) for name in names
        }

    idle, calls = money.get("idle_free", 0), int(answer["calls"])
    rate_usd_micros_per_hour = money.get("rate_nanos_per_s", 0) * 3600 // 1000
    return BudgetView(
        now_ms=now_ms,
        month_name=month,
        month=scope(limits.month_cap_usd_micros, spent, reserved),
        day=scope(limits.day_cap_usd_micros, spend.get(f"modal:day:{today}", 0), reserved),
        tenants=scopes(
            "tenant", list(limits.tenant_caps_usd_micros), limits.tenant_caps_usd_micros, limits.tenant_cap_usd_micros
        ),
        kinds=scopes("kind", list(limits.kind_caps_usd_micros), limits.kind_caps_usd_micros, None),
        hour_rate=LiveView(rate_usd_micros_per_hour, limits.hour_rate_cap_usd_micros),
        gpus=LiveView(money.get("gpus", 0), limits.max_gpus),
        containers=LiveView(calls + idle, limits.max_containers),
        calls=LiveView(calls, limits.max_modal_attempts),
        projected_usd_micros=projection(
            spent_usd_micros=spent,
            by_hour=_numbers(answer["hours"]),
            now_ms=now_ms,
            left_ms=month_end_ms(month) - now_ms,
        ),
        inhouse_usd_micros=money.get(f"spent:inhouse:{month}", 0),
        limits=limits,
    )


def projection(*, spent_usd_micros: int, by_hour: Mapping[str, int], now_ms: int, left_ms: int) -> int:
    """What a month will have cost if it goes on as it did lately, micro-dollars.

    Args:
        spent_usd_micros: what it cost so far.
        by_hour: "YYYY-MM-DDTHH" -> what was used in that hour, micro-dollars; the last day's hours.
        now_ms: now, milliseconds since 1970.
        left_ms: how long the month still goes, milliseconds.
    """
    used = {_hour_ms(hour): usd for hour, usd in by_hour.items() if usd}
    if not used:
        return spent_usd_micros
    since_ms = max(min(used), now_ms - RECENT_HOURS * HOUR_MS)
    recent = sum(usd for hour_ms, usd in used.items() if hour_ms + HOUR_MS > since_ms)
    # A ledger that has just begun: its first minutes are not the rate of a month.
    elapsed_ms = max(now_ms - since_ms, HOUR_MS)
    return spent_usd_micros + recent * max(0, left_ms) // elapsed_ms


def _hour_ms(hour: str) -> int:
    return int(datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()) * 1000


def _numbers(fields: Mapping[str, str] | Sequence[object]) -> dict[str, int]:
    # (cjson writes an empty table as a list or as an object)
    return {name: int(value) for name, value in fields.items()} if isinstance(fields, Mapping) else {}


def _labelled(sums: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in sums.items() if name.startswith(prefix)}


def _override(answer: Mapping[str, Any]) -> Override:
    return Override(
        answer["mode"], answer.get("who", ""), answer.get("why", ""), answer.get("at_ms"), answer.get("until_ms")
    )


def _prewarms(answer: Mapping[str, Any]) -> list[Prewarm]:
    return [
        Prewarm(int(row["number"]), Kind(row["kind"]), row["gpu"], int(row["until_ms"]), row["who"], row["why"])
        for row in answer["prewarms"] or []
    ]
