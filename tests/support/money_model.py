"""What the ledger's money should be: caps, reservations, spending and idle containers in plain Python, with no Redis.

A model for tests. It is told what happened and when (by the ledger's clock), and says what the ledger must answer and
what its sums must be. It shares no code with the scripts.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ledger.containers import Usage
from ledger.decisions import RunOnModal
from ledger.limits import Limits

_DAY_MS = 86_400_000


@dataclass
class IdleContainer:
    """A container that was charged at least once."""

    tenant: str
    kind: str
    gpu: str
    rate: int
    booked_ms: int
    window_ms: int
    #: Idle, with a tail set aside, since then; None: it is gone.
    since_ms: int | None = None
    #: The attempt that is expected to take it.
    promised: str | None = None
    #: When it was gone; None: it may be there.
    gone_ms: int | None = None

    @property
    def tail_usd_micros(self) -> int:
        """What is set aside while it idles."""
        return math.ceil(self.rate * self.window_ms / 1_000_000)

    @property
    def gpus(self) -> int:
        """How many GPUs it has."""
        return int(self.gpu.partition(":")[2] or 1)


@dataclass
class LiveAttempt:
    """An attempt on Modal whose books are open."""

    tenant: str
    kind: str
    decision: RunOnModal
    reserved: int
    warm: str | None


@dataclass
class Warm:
    """What Modal keeps warm of a kind and class."""

    number: int
    buffer: int
    rate: int
    gpus: int


@dataclass
class PaidRound:
    """A round that was paid ahead for warm containers; times in milliseconds."""

    from_ms: int
    to_ms: int
    #: Container-milliseconds of it that no call was credited with.
    unused_ms: int


@dataclass
class MoneyModel:
    """All of the money. `now_ms` is set by whoever drives it, before each step."""

    limits: Limits
    now_ms: int = 0
    #: Until when an operator lets nothing spill; None: they do not.
    off_until_ms: int | None = None
    attempts: dict[str, LiveAttempt] = field(default_factory=dict)
    containers: dict[str, IdleContainer] = field(default_factory=dict)
    #: (kind, class) -> what is kept warm of it, and what was paid ahead for it
    warm: dict[tuple[str, str], Warm] = field(default_factory=dict)
    paid_ahead: dict[tuple[str, str], list[PaidRound]] = field(default_factory=dict)
    #: (pool, month, day, tenant, kind, class, component) -> micro-dollars
    spent: Counter[tuple[str, ...]] = field(default_factory=Counter)
    #: scope's label -> by how much caps were passed
    overshoot: Counter[str] = field(default_factory=Counter)

    # --- time

    @property
    def day(self) -> str:
        """Today, UTC."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC).strftime("%Y-%m-%d")

    @property
    def month(self) -> str:
        """This month, UTC."""
        return self.day[:7]

    # --- sums

    def spent_of(self, *, tenant: str | None = None, kind: str | None = None, day: str | None = None) -> int:
        """What Modal cost this month, of all or of a tenant, kind or day."""
        return sum(
            usd
            for (pool, month, of_day, of_tenant, of_kind, *_), usd in self.spent.items()
            if pool == "modal" and month == self.month
            and (tenant is None or of_tenant == tenant) and (kind is None or of_kind == kind)
            and (day is None or of_day == day)
        )  # fmt: skip

    def reserved_of(self, *, tenant: str | None = None, kind: str | None = None) -> int:
        """What is set aside, for all or for a tenant or kind."""
        mine = [(one.tenant, one.kind, one.reserved) for one in self.attempts.values()]
        mine += [(one.tenant, one.kind, one.tail_usd_micros) for one in self.idle().values()]
        return sum(
            usd
            for of_tenant, of_kind, usd in mine
            if (tenant is None or of_tenant == tenant) and (kind is None or of_kind == kind)
        )

    def idle(self) -> dict[str, IdleContainer]:
        """Containers whose tail is set aside."""
        return {name: one for name, one in self.containers.items() if one.since_ms is not None}

    def free(self) -> dict[str, IdleContainer]:
        """Of these, those that no live attempt is expected to take."""
        return {name: one for name, one in self.idle().items() if one.promised is None}

    def warm_idle(self, kind: str, gpu: str) -> int:
        """Warm containers of a class that no live attempt has, and that do not idle after a call."""
        kept = self.warm.get((kind, gpu))
        if kept is None:
            return 0
        live = sum((one.kind, one.decision.gpu) == (kind, gpu) for one in self.attempts.values())
        free = sum((one.kind, one.gpu) == (kind, gpu) for one in self.free().values())
        return max(0, kept.number - live - free) + kept.buffer

    def rate(self) -> int:
        """What burns now, nano-dollars a second."""
        attempts = sum(one.decision.usd_nanos_per_s for one in self.attempts.values())
        warm = sum(self.warm_idle(*of) * one.rate for of, one in self.warm.items())
        return attempts + warm + sum(one.rate for one in self.free().values())

    def gpus(self) -> int:
        """GPUs in use and idle."""
        attempts = sum(one.decision.gpus for one in self.attempts.values())
        warm = sum(self.warm_idle(*of) * one.gpus for of, one in self.warm.items())
        return attempts + warm + sum(one.gpus for one in self.free().values())

    def containers_alive(self) -> int:
        """Containers of live attempts, idle ones, and those that are kept warm."""
        return len(self.attempts) + len(self.free()) + sum(self.warm_idle(*of) for of in self.warm)

    def _scopes(self, tenant: str, kind: str) -> Iterator[tuple[str, int, int | None]]:
        """(label, committed, cap) of the scopes that apply."""
        limits, reserved = self.limits, self.reserved_of()
        yield "month", max(0, self.spent_of()) + reserved, limits.month_cap_usd_micros
        yield "day", max(0, self.spent_of(day=self.day)) + reserved, limits.day_cap_usd_micros
        mine = max(0, self.spent_of(tenant=tenant)) + self.reserved_of(tenant=tenant)
        # (What a true-up books is no tenant's.)
        yield (
            "tenant",
            mine,
            None if tenant == "-" else limits.tenant_caps_usd_micros.get(tenant, limits.tenant_cap_usd_micros),
        )
        of_kind = max(0, self.spent_of(kind=kind)) + self.reserved_of(kind=kind)
        yield "kind", of_kind, limits.kind_caps_usd_micros.get(kind)

    @contextmanager
    def _one_script(self, tenant: str, kind: str) -> Iterator[None]:
        """What happens inside is one script: by how much it passes a cap is counted."""
        before = list(self._scopes(tenant, kind))
        yield
        for (label, was, cap), (_, now, _) in zip(before, self._scopes(tenant, kind), strict=True):
            if cap is not None:
                self.overshoot[label] += max(0, max(0, now - cap) - max(0, was - cap))

    # --- what is asked of it

    def dollar_refusal(self, tenant: str, kind: str, more: int, priority: int | None) -> str | None:
        """The cap that `more` would pass, or that drains; None: it fits."""
        scopes = list(self._scopes(tenant, kind))
        for label, committed, cap in scopes:
            if cap is not None and committed + more > cap:
                return f"{label}_budget"
        if priority is None or priority >= self.limits.drain_priority:
            return None
        for label, committed, cap in scopes:
            if cap is not None and (committed >= cap or committed >= self.limits.drain_ratio * cap):
                return f"{label}_drain"
        return None

    def refusal(self, tenant: str, kind: str, priority: int, decision: RunOnModal) -> str | None:
        """Why a placement must be refused; None: it must not."""
        if self.off_until_ms is not None and self.now_ms < self.off_until_ms:
            return "spill_off"
        reason = self.dollar_refusal(tenant, kind, decision.reserve_usd_micros, priority)
        if reason is not None:
            return reason
        limits, warm = self.limits, self._warm(kind, decision.gpu)
        taken: IdleContainer | Warm | None = self.containers[warm] if warm else None
        kept = self.warm.get((kind, decision.gpu))
        if taken is None and kept is not None and self.warm_idle(kind, decision.gpu) > kept.buffer:
            taken = kept
        rate = self.rate() + decision.usd_nanos_per_s - (taken.rate if taken else 0)
        if limits.hour_rate_cap_usd_micros is not None and rate * 3.6 > limits.hour_rate_cap_usd_micros:
            return "hour_rate"
        if limits.max_gpus is not None and self.gpus() + decision.gpus - (taken.gpus if taken else 0) > limits.max_gpus:
            return "gpus_at_cap"
        alive = self.containers_alive() + 1 - (1 if taken else 0)
        if limits.max_containers is not None and alive > limits.max_containers:
            return "containers_at_cap"
        return "modal_calls_at_cap" if len(self.attempts) >= limits.max_modal_attempts else None

    def may_keep(self, kind: str, gpu: str, asked: Warm, round_s: float) -> tuple[int, int] | str:
        """(number, buffer) of what may be kept warm, or the cap that says no."""
        of, limits = (kind, gpu), self.limits
        was = self.warm.pop(of, None)
        rate, gpus, alive = self.rate(), self.gpus(), self.containers_alive()
        self.warm[of] = asked
        wanted = self.warm_idle(*of)
        fits, cut_by = wanted, None
        for bound, reason in (
            (None if limits.max_gpus is None else (limits.max_gpus - gpus) // asked.gpus, "gpus_at_cap"),
            (None if limits.max_containers is None else limits.max_containers - alive, "containers_at_cap"),
            (
                None
                if limits.hour_rate_cap_usd_micros is None
                else (limits.hour_rate_cap_usd_micros * 10 - rate * 36) // (asked.rate * 36),
                "hour_rate",
            ),
        ):
            if bound is not None and max(0, bound) < fits:
                fits, cut_by = max(0, bound), reason
        if was is None:
            del self.warm[of]
        else:
            self.warm[of] = was
        of_buffer = min(asked.buffer, wanted - fits)
        number = asked.number - (wanted - fits - of_buffer)
        if number == 0 and cut_by is not None:
            return cut_by
        cost = self.warm_cost(fits, asked.rate, round_s)
        refused = self.dollar_refusal("default", kind, cost, None) if cost else None
        return refused or (number, asked.buffer - of_buffer)

    @staticmethod
    def warm_cost(idle: int, rate: int, round_s: float) -> int:
        """What a round of warm containers costs, micro-dollars."""
        return math.ceil(idle * rate * round(round_s * 1000) / 1_000_000)

    def burns_too_much(self) -> bool:
        """A call went elsewhere than into the idle container that was there for it, or Modal keeps what it was not to.

        Then more is alive than may be.
        """
        limits = self.limits
        assert limits.max_gpus is not None
        assert limits.max_containers is not None
        assert limits.hour_rate_cap_usd_micros is not None
        return (
            self.gpus() > limits.max_gpus
            or self.containers_alive() > limits.max_containers
            or self.rate() * 3.6 > limits.hour_rate_cap_usd_micros
        )

    # --- what happened

    def placed(self, member: str, tenant: str, kind: str, decision: RunOnModal) -> None:
        """An attempt was placed."""
        warm = self._warm(kind, decision.gpu)
        if warm:
            self.containers[warm].promised = member
        self.attempts[member] = LiveAttempt(tenant, kind, decision, decision.reserve_usd_micros, warm)

    def topped_up(self, member: str, reserve_usd_micros: int) -> None:
        """More was set aside."""
        one = self.attempts[member]
        one.reserved = max(one.reserved, reserve_usd_micros)

    def settled(self, member: str, usage: Usage | None, cost_usd_micros: int = 0) -> int:
        """An attempt's books were closed; returns what it cost."""
        one = self.attempts[member]
        with self._one_script(one.tenant, one.kind):
            cost = cost_usd_micros if usage is None else self._charge(one, usage)
            self._book("modal", one.tenant, one.kind, one.decision.gpu, "call", cost)
            del self.attempts[member]
            warm = self.containers.get(one.warm) if one.warm else None
            if warm and warm.promised == member:
                warm.promised = None
        return cost

    def tail_over(self, name: str, booked_usd_micros: int, idled_ms: int) -> None:
        """An idle container is gone: so much of its tail was booked."""
        one = self.containers[name]
        with self._one_script(one.tenant, one.kind):
            self._book("modal", one.tenant, one.kind, one.gpu, "idle", booked_usd_micros)
            one.since_ms, one.promised = None, None
            one.booked_ms += idled_ms
            one.gone_ms = self.now_ms

    def forget_gone(self) -> None:
        """Containers that are gone for a day are forgotten."""
        for name, one in list(self.containers.items()):
            if one.gone_ms is not None and one.gone_ms + _DAY_MS <= self.now_ms:
                del self.containers[name]

    def kept_warm(self, kind: str, gpu: str, kept: Warm) -> None:
        """So much is kept warm of a class from now on."""
        if kept.number + kept.buffer:
            self.warm[kind, gpu] = kept
        else:
            self.warm.pop((kind, gpu), None)

    def paid_warm(self, kind: str, gpu: str, idle: int, paid: PaidRound, cost_usd_micros: int) -> None:
        """A round of so many warm containers was paid ahead."""
        rounds = [one for one in self.paid_ahead.get((kind, gpu), []) if one.to_ms > self.now_ms - _DAY_MS]
        self.paid_ahead[kind, gpu] = [*rounds, paid] if idle else rounds
        with self._one_script("default", kind):
            self._book("modal", "default", kind, gpu, "warm", cost_usd_micros)

    def trued_up(self, difference: int, *, billed_today: int | None = None) -> None:
        """A correction was booked to this month, to today or to yesterday: it is nobody's in particular."""
        yesterday = datetime.fromtimestamp((self.now_ms - _DAY_MS) / 1000, UTC).strftime("%Y-%m-%d")
        todays = difference
        if billed_today is not None and yesterday[:7] == self.month:
            todays = min(difference, max(0, billed_today - self.spent_of(day=self.day)))
        with self._one_script("-", "-"):
            self._book("modal", "-", "-", "-", "true_up", todays)
            self.spent["modal", self.month, yesterday, "-", "-", "-", "true_up"] += difference - todays

    def inhouse(self, tenant: str, kind: str, cost_usd_micros: int) -> None:
        """An in-house attempt was paid."""
        self._book("inhouse", tenant, kind, "inhouse", "call", cost_usd_micros)

    def gone_early(self, kind: str, gpu: str, *, alive: int, busy: Sequence[str]) -> list[str]:
        """Which idle containers must be taken for gone, if Modal has so many alive."""
        pool = {name: one for name, one in self.idle().items() if (one.kind, one.gpu) == (kind, gpu)}
        order = sorted(pool, key=lambda name: (pool[name].promised is not None, pool[name].since_ms, name))
        candidates = [name for name in order if name not in busy]
        return candidates[: max(0, len(candidates) - max(0, alive - len(set(busy))))]

    # --- inside

    def _warm(self, kind: str, gpu: str) -> str | None:
        pool = [
            (one.since_ms or 0, name)
            for name, one in self.free().items()
            if (one.kind, one.gpu) == (kind, gpu)
        ]  # fmt: skip
        if not pool:
            return None
        since_ms, name = max(pool)
        return name if since_ms + self.containers[name].window_ms > self.now_ms else None

    def _charge(self, attempt: LiveAttempt, usage: Usage) -> int:
        nanos_ms = 0
        for use in usage.containers:
            one = self.containers.get(use.container_id)
            booked_ms = one.booked_ms if one else use.started_ms
            upto_ms = max(booked_ms, use.finished_ms)
            credited_ms = 0
            if one is None or one.since_ms is None:
                # It waited without a tail of its own: as one that was kept warm, it may be paid for already.
                began_ms = max(booked_ms, min(use.call_started_ms or booked_ms, upto_ms))
                credited_ms = self._credit(attempt.kind, attempt.decision.gpu, booked_ms, began_ms)
            nanos_ms += (upto_ms - booked_ms - credited_ms) * usage.usd_nanos_per_s
            self.containers[use.container_id] = IdleContainer(
                tenant=attempt.tenant,
                kind=attempt.kind,
                gpu=attempt.decision.gpu,
                rate=usage.usd_nanos_per_s,
                booked_ms=upto_ms,
                window_ms=round(usage.idle_window_s * 1000),
                since_ms=None if use.gone else self.now_ms,
                gone_ms=self.now_ms if use.gone else None,
            )
        return math.ceil(nanos_ms / 1_000_000)

    def _credit(self, kind: str, gpu: str, from_ms: int, upto_ms: int) -> int:
        credited_ms = 0
        rounds = sorted(self.paid_ahead.get((kind, gpu), []), key=lambda one: (one.to_ms, str(one.from_ms)))
        for one in rounds:
            part = min(one.unused_ms, min(one.to_ms, upto_ms) - max(one.from_ms, from_ms))
            if one.to_ms > from_ms and part > 0:
                one.unused_ms -= part
                credited_ms += part
        return min(credited_ms, upto_ms - from_ms)

    def _book(self, pool: str, tenant: str, kind: str, gpu: str, component: str, usd_micros: int) -> None:
        self.spent[pool, self.month, self.day, tenant, kind, gpu, component] += usd_micros
