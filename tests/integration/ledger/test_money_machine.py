"""The money is exact under any interleaving: hypothesis drives the real scripts against a model in plain Python.

Tenants, kinds, GPU classes with counts; placements, top-ups, settlements above and below their reservation, stops,
idle tails, containers that end early or are kept warm, true-ups, the operator's hand, and a clock that jumps over days
and months. What the ledger answers must be what the model foresaw, and after each step every sum must be the model's.
"""

import json
from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ledger import Ledger, RenderJob, TrainJob
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunInhouse, RunOnModal
from ledger.limits import Limits
from ledger.models import Artifact, Kind
from ledger.outcomes import Completed, Delivering, Placed, Refused, ToppedUp, TruedUp
from ledger.retries import Cause
from ledger.warming import WarmPool, WarmTerms
from tests.support.ledgers import RECEIPT, claim_spawns, limited, move_clock
from tests.support.machines import run_machine
from tests.support.money_model import MoneyModel, PaidRound, Warm
from tests.support.redis_server import RedisServer
from tests.support.settings import ledger_settings_of

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: Class -> (nano-dollars a second, GPUs): a thousand and two thousand micro-dollars a second.
CLASSES = {"H100": (1_000_000, 1), "A100-80GB:4": (2_000_000, 4)}
WINDOW_S = 20.0
LIMITS = Limits(
    month_cap_usd_micros=400_000,
    max_modal_attempts=3,
    day_cap_usd_micros=250_000,
    hour_rate_cap_usd_micros=19_800_000,
    tenant_cap_usd_micros=220_000,
    tenant_caps_usd_micros={"acme": 150_000},
    kind_caps_usd_micros={"train": 180_000},
    max_gpus=8,
    max_containers=4,
    drain_ratio=0.8,
    drain_priority=5,
)
#: The machine's clock begins here: an hour before a month ends.
START = datetime(2031, 1, 31, 23, 0, tzinfo=UTC)


class MoneyMachine(RuleBasedStateMachine):
    """Everybody who moves money, one step at a time."""

    url = ""

    @initialize()
    def connect(self) -> None:
        fields = {"ledger_url": self.url, "ledger_prefix": "{money}", "ledger_timeout_s": 10}
        self.ledger = Ledger(ledger_settings_of(fields))
        for key in self.ledger.client.scan_iter("{money}:*"):
            self.ledger.client.delete(key)
        move_clock(self.ledger, START.timestamp() - self._now_ms() / 1000)
        self.model = MoneyModel(LIMITS)
        self.tenant_of: dict[str, tuple[str, str, int]] = {}
        self.calls_begun = 0
        self.made = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()

    def _now_ms(self) -> int:
        return self.ledger.placement.view().now_ms

    def _tick(self) -> None:
        self.model.now_ms = self._now_ms()

    def _idle_since(self) -> None:
        """The model's idle containers idle since the very millisecond that the ledger wrote."""
        for name, one in self.model.idle().items():
            until: float | None = self.ledger.client.zscore(f"{self.ledger.prefix}:containers:idle", name)  # type: ignore[assignment]  # redis-py is untyped here
            if until is not None:
                one.since_ms = int(until) - one.window_ms

    # --- jobs come and are placed

    def _submit(self, kind: Kind, tenant: str, priority: int) -> None:
        self.made += 1
        shared = {"tenant": tenant, "priority": priority}
        job = (
            RenderJob.model_validate({"prompt": f"p{self.made}", **shared})
            if kind is Kind.RENDER
            else TrainJob.model_validate({"recipe": "image_classifier", "seed": self.made, **shared})
        )
        job_id = self.ledger.jobs.submit(job, source="client").job_id
        self.tenant_of[job_id] = (tenant, str(kind), priority)

    @rule(
        kind=st.sampled_from(list(Kind)),
        tenant=st.sampled_from(["acme", "beta"]),
        priority=st.sampled_from([1, 8]),
        gpu=st.sampled_from(sorted(CLASSES)),
        reserve=st.sampled_from([20_000, 40_000, 90_000]),
        spawned=st.booleans(),
    )
    def place(self, kind: Kind, tenant: str, priority: int, gpu: str, reserve: int, spawned: bool) -> None:
        self._submit(kind, tenant, priority)
        rate, gpus = CLASSES[gpu]
        decision = RunOnModal(gpu, reserve, usd_nanos_per_s=rate, gpus=gpus)
        for claimed in self.ledger.placement.claim_queued(kind, limit=1, lease_s=60):
            job_id = claimed.record.id
            self._tick()
            expected = self.model.refusal(*self.tenant_of[job_id], decision)
            outcome = limited(self.ledger, LIMITS).placement.place(claimed, decision, receipt=RECEIPT)
            match outcome:
                case Placed(attempt, _):
                    assert expected is None
                    of_tenant, of_kind, _ = self.tenant_of[job_id]
                    self.model.placed(f"{job_id}:{attempt}", of_tenant, of_kind, decision)
                case Refused(reason):
                    assert reason == expected
                    limited(self.ledger, LIMITS).placement.place(claimed, RunInhouse(), receipt=RECEIPT)
                case other:
                    raise AssertionError(other)
        if spawned:
            self.spawn()

    def spawn(self) -> None:
        for record in claim_spawns(self.ledger, worker="o", limit=9, lease_s=10):
            self.ledger.modal_calls.record_call(
                record.id, record.attempt, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600
            )

    @precondition(lambda self: self.model.attempts)
    @rule(data=st.data(), reserve=st.sampled_from([40_000, 90_000, 200_000]))
    def top_up(self, data: st.DataObject, reserve: int) -> None:
        member = data.draw(st.sampled_from(sorted(self.model.attempts)))
        one = self.model.attempts[member]
        job_id, _, attempt = member.rpartition(":")
        self._tick()
        more = reserve - one.reserved
        expected = None if more <= 0 else self.model.dollar_refusal(one.tenant, one.kind, more, None)
        match limited(self.ledger, LIMITS).modal_calls.top_up(job_id, int(attempt), reserve_usd_micros=reserve):
            case ToppedUp(reserved):
                assert expected is None
                assert reserved == max(reserve, one.reserved)
                self.model.topped_up(member, reserve)
            case Refused(reason):
                assert reason == expected
            case _:
                assert not self._is_live(job_id, int(attempt))

    def _is_live(self, job_id: str, attempt: int) -> bool:
        record = self.ledger.jobs.get(job_id)
        return record.attempt == attempt and record.state in {"placed", "running", "delivering"}

    # --- calls end

    def _usage(self, data: st.DataObject, member: str) -> Usage:
        """A call in a new container or in one that is known, for a while, that ended now or was concluded late."""
        one = self.model.attempts[member]
        known = [name for name, c in self.model.containers.items() if (c.kind, c.gpu) == (one.kind, one.decision.gpu)]
        name = data.draw(st.sampled_from([*sorted(known), "new"]))
        if name == "new":
            self.calls_begun += 1
            name = f"ta-{self.calls_begun}"
        seconds = data.draw(st.sampled_from([1, 7, 25, 90]))
        ended_ms = self._now_ms() - data.draw(st.sampled_from([0, 12_000]))
        gone = data.draw(st.booleans())
        use = ContainerUse(name, ended_ms - seconds * 1000, ended_ms, gone, ended_ms - seconds * 500)
        return Usage([use], usd_nanos_per_s=one.decision.usd_nanos_per_s, idle_window_s=WINDOW_S)

    @precondition(lambda self: self.model.attempts)
    @rule(data=st.data(), cost=st.integers(0, 70_000), told=st.booleans())
    def complete(self, data: st.DataObject, cost: int, told: bool) -> None:
        member = data.draw(st.sampled_from(sorted(self.model.attempts)))
        job_id, _, attempt = member.rpartition(":")
        self.spawn()
        if not isinstance(self.ledger.attempts.begin_delivery(job_id, int(attempt)), Delivering):
            return
        usage = self._usage(data, member) if told else None
        self._tick()
        outcome = self.ledger.attempts.complete(
            job_id, int(attempt), artifact=ARTIFACT, measurements={}, cost_usd_micros=cost, usage=usage
        )
        assert outcome == Completed()
        paid = self.model.settled(member, usage, cost)
        assert int(self.ledger.jobs.attempt(job_id, int(attempt))["cost_usd_micros"]) == paid
        self._idle_since()

    @precondition(lambda self: self.model.attempts)
    @rule(data=st.data(), may_run=st.booleans())
    def fail(self, data: st.DataObject, may_run: bool) -> None:
        member = data.draw(st.sampled_from(sorted(self.model.attempts)))
        job_id, _, attempt = member.rpartition(":")
        if not self._is_live(job_id, int(attempt)):
            return
        usage = None if may_run else self._usage(data, member)
        self._tick()
        self.ledger.attempts.fail(
            job_id, int(attempt), cause=Cause.CRASH, message="", max_attempts=9, jitter=0, usage=usage,
            call_may_run=may_run,
        )  # fmt: skip
        if not may_run:
            self.model.settled(member, usage)
            self._idle_since()

    @precondition(lambda self: self.tenant_of)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.tenant_of)))
        self._tick()
        self.ledger.jobs.cancel(job_id)
        for member in [m for m in self.model.attempts if m.startswith(job_id)]:
            # One that nobody was spawning is settled at once; any other is stopped first.
            if "settled" in self.ledger.jobs.attempt(job_id, int(member.rpartition(":")[2])):
                self.model.settled(member, None)

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        for due in self.ledger.modal_calls.claim_cancels(limit=1, again_in_s=1):
            member = f"{due.job_id}:{due.attempt}"
            usage = self._usage(data, member)
            self._tick()
            self.ledger.modal_calls.settle_cancel(due.job_id, due.attempt, usage=usage)
            self.ledger.modal_calls.settle_cancel(due.job_id, due.attempt, usage=usage)
            self.model.settled(member, usage)
            self._idle_since()

    @rule()
    def leases_lapse(self) -> None:
        self.ledger.maintenance.expire_leases(limit=5, max_attempts=9)

    @precondition(lambda self: self.tenant_of)
    @rule(kind=st.sampled_from(list(Kind)), cost=st.integers(1, 500), well=st.booleans())
    def run_inhouse(self, kind: Kind, cost: int, well: bool) -> None:
        record = self.ledger.attempts.start_inhouse(kind, worker="w", lease_s=60)
        if record is None:
            return
        self._tick()
        if well:
            self.ledger.attempts.begin_delivery(record.id, record.attempt)
            self.ledger.attempts.complete(
                record.id, record.attempt, artifact=ARTIFACT, measurements={}, cost_usd_micros=cost
            )
        else:
            self.ledger.attempts.fail(
                record.id, record.attempt, cause=Cause.ERROR, message="", max_attempts=9, jitter=0, cost_usd_micros=cost
            )
        self.model.inhouse(record.tenant, str(record.kind), cost)

    # --- idle containers

    @rule()
    def tails_end(self) -> None:
        self._tick()
        over = [
            name for name, one in self.model.idle().items() if (one.since_ms or 0) + one.window_ms <= self.model.now_ms
        ]
        assert self.ledger.maintenance.idle_containers(limit=50) == len(over)
        for name in over:
            one = self.model.containers[name]
            self.model.tail_over(name, one.tail_usd_micros, one.window_ms)
        self.model.forget_gone()

    @precondition(lambda self: self.model.idle())
    @rule(
        data=st.data(), gpu=st.sampled_from(sorted(CLASSES)), kind=st.sampled_from(list(Kind)), alive=st.integers(0, 3)
    )
    def modal_has_fewer(self, data: st.DataObject, gpu: str, kind: Kind, alive: int) -> None:
        pool = [name for name, one in self.model.idle().items() if (one.kind, one.gpu) == (str(kind), gpu)]
        busy = data.draw(st.lists(st.sampled_from(sorted(pool)), unique=True)) if pool else []
        self._tick()
        expected = self.model.gone_early(str(kind), gpu, alive=alive, busy=busy)
        before = {name: self._paid_upto(name) for name in expected}
        ended = self.ledger.modal_calls.idle_ended(kind, gpu=gpu, alive=alive, asked_s_ago=0, busy=busy)
        assert ended.containers == len(expected)
        booked = 0
        for name in expected:
            one = self.model.containers[name]
            idled_ms = self._paid_upto(name) - before[name]
            # By the clock that both use; at most the whole tail, and never less than it idled since it was settled.
            assert 0 <= idled_ms <= one.window_ms
            assert idled_ms >= min(one.window_ms, self.model.now_ms - (one.since_ms or 0))
            part = one.tail_usd_micros if idled_ms >= one.window_ms else -(-one.rate * idled_ms // 1_000_000)
            booked += one.tail_usd_micros - part
            self.model.tail_over(name, part, idled_ms)
        assert ended.given_back_usd_micros == booked

    def _paid_upto(self, name: str) -> int:
        text = self.ledger.client.hget(f"{self.ledger.prefix}:containers", name)
        return int(json.loads(str(text))["booked_ms"])

    # --- warm containers

    @rule(
        kind=st.sampled_from(list(Kind)),
        gpu=st.sampled_from(sorted(CLASSES)),
        number=st.integers(0, 3),
        round_s=st.sampled_from([2, 10]),
        asked=st.sampled_from([True, True, True, False]),
        waited_s=st.sampled_from([0, 10]),
    )
    def keep_warm(self, kind: Kind, gpu: str, number: int, round_s: float, asked: bool, waited_s: float) -> None:
        """As the keeper does: hold what fits, pay for it; or count what Modal keeps although nobody was asked."""
        rate, gpus = CLASSES[gpu]
        terms, of = WarmTerms(round_s), (str(kind), gpu)
        wanted = Warm(number, number % 2, rate, gpus)
        self._tick()
        if asked and number:
            expected = self.model.may_keep(*of, wanted, round_s)
            held = self.ledger.money.hold_warm(WarmPool(kind, gpu, wanted.number, wanted.buffer, rate), terms)
            if isinstance(held, Refused):
                assert held.reason == expected
                return
            assert (held.number, held.buffer) == expected
            wanted = Warm(held.number, held.buffer, rate, gpus)
        self.model.kept_warm(*of, wanted)
        idle = self.model.warm_idle(*of)
        cost = self.model.warm_cost(idle, rate, round_s)
        refused = self.model.dollar_refusal("default", str(kind), cost, None) if cost else None
        outcome = self.ledger.money.pay_warm(WarmPool(kind, gpu, wanted.number, wanted.buffer, rate), terms)
        assert outcome == (Refused(refused) if refused else None)
        if refused is None:
            # (By the very millisecond that the ledger wrote.)
            rounds: list[str] = self.ledger.client.zrange(f"{self.ledger.prefix}:warm:rounds:{kind}:{gpu}", 0, -1)  # type: ignore[assignment]  # redis-py is untyped here
            from_ms = max([self.model.now_ms, *map(int, rounds)])
            to_ms = from_ms + round(round_s * 1000)
            self.model.paid_warm(*of, idle, PaidRound(from_ms, to_ms, idle * round(round_s * 1000)), cost)
        # (A call that comes after that may be credited with it.)
        move_clock(self.ledger, waited_s)

    # --- the bill, the operator, the clock

    @rule(off_by=st.integers(-3_000, 3_000), today=st.one_of(st.none(), st.integers(0, 300_000)))
    def true_up(self, off_by: int, today: int | None) -> None:
        self._tick()
        billed = max(0, self.model.spent_of() + off_by)
        outcome = self.ledger.money.true_up_month_to_date(
            billed + self.model.reserved_of(), who="test", billed_today_usd_micros=today
        )
        assert isinstance(outcome, TruedUp)
        assert outcome.difference_usd_micros >= 0
        self.model.trued_up(outcome.difference_usd_micros, billed_today=today)
        again = self.ledger.money.true_up_month_to_date(billed + self.model.reserved_of(), who="test")
        assert again == TruedUp(0, outcome.used_usd_micros + outcome.difference_usd_micros)

    @rule(mode=st.sampled_from(["auto", "auto", "on", "off"]), for_s=st.sampled_from([None, 3]))
    def operator(self, mode: str, for_s: float | None) -> None:
        self.ledger.money.set_override(mode, who="ann", why="test", for_s=for_s)  # type: ignore[arg-type]  # one of the three
        self._tick()
        self.model.off_until_ms = None if mode != "off" else self.model.now_ms + (3_000 if for_s else 10**12)

    @rule(by_s=st.sampled_from([0.001, 5, 15, 30, 2_000, 4_000, 90_000]))
    def clock_jumps(self, by_s: float) -> None:
        move_clock(self.ledger, by_s)

    # --- what must always hold

    @invariant()
    def every_sum_is_the_models(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self._tick()
        view, model = limited(self.ledger, LIMITS).money.view(), self.model
        assert (view.month.spent_usd_micros, view.month.reserved_usd_micros) == (model.spent_of(), model.reserved_of())
        assert view.day.spent_usd_micros == model.spent_of(day=model.day)
        for name, one in view.tenants.items():
            expected = model.spent_of(tenant=name), model.reserved_of(tenant=name)
            assert (one.spent_usd_micros, one.reserved_usd_micros) == expected
        for name, one in view.kinds.items():
            expected = model.spent_of(kind=name), model.reserved_of(kind=name)
            assert (one.spent_usd_micros, one.reserved_usd_micros) == expected
        assert view.hour_rate.used == model.rate() * 3600 // 1000
        assert (view.gpus.used, view.containers.used) == (model.gpus(), model.containers_alive())
        assert view.calls.used == len(model.attempts)

    @invariant()
    def what_passed_a_cap_was_counted(self) -> None:
        if hasattr(self, "ledger"):
            counters = self.ledger.counters()
            for label in ("month", "day", "tenant", "kind"):
                assert counters.get(f"overshoot_usd_micros_total|scope={label}", 0) == self.model.overshoot[label]

    @invariant()
    def the_audit_is_empty(self) -> None:
        if hasattr(self, "ledger"):
            # A cap is passed only by what was counted as overshoot, or by a call that Modal put into a new container
            # although one idled.
            passed = any(self.model.overshoot.values()) or self.model.burns_too_much()
            assert self.ledger.audit(None if passed else LIMITS) == []


def test_the_money_is_exact_under_any_interleaving(redis_server: RedisServer) -> None:
    class Machine(MoneyMachine):
        url = redis_server.url(4)

    run_machine(Machine, examples=30, steps=60)
