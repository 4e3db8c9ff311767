"""The invariants hold under any interleaving: hypothesis drives the real scripts on a real Redis against a small model.

The machine is every process of the system at once: dispatchers that stall, workers with stale tokens, followers,
spawners whose answers come late, maintenance, users who cancel, and a clock that jumps. After each step the ledger's
own audit must be empty, and what the ledger answered must be what the model foresaw.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ledger import Ledger, State
from ledger.decisions import Decision, Hold, RunInhouse, RunOnModal, Shed
from ledger.limits import Limits
from ledger.models import Artifact, JobRecord, Kind, RenderJob
from ledger.outcomes import (
    AlreadyEnded,
    Cancelled,
    ClaimedJob,
    Completed,
    Delivering,
    DueCancel,
    Failed,
    Held,
    Lost,
    Placed,
    Refused,
    Renewed,
    Requeued,
    Stale,
    WasShed,
)  # fmt: skip
from ledger.polling import Release
from ledger.retries import Cause
from tests.support.ledgers import RECEIPT, claim_spawns, limited, move_clock
from tests.support.machines import run_machine
from tests.support.redis_server import RedisServer
from tests.support.settings import ledger_settings_of

LIMITS = Limits(
    month_cap_usd_micros=5_000,
    max_modal_attempts=3,
    day_cap_usd_micros=4_800,
    hour_rate_cap_usd_micros=16_000_000,
    tenant_caps_usd_micros={"acme": 3_500},
    kind_caps_usd_micros={"render": 4_900},
    max_gpus=6,
    max_containers=3,
)
ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
LEASE_S = 10.0


@dataclass
class Believed:
    """What the model knows of a job."""

    terminal: State | None = None
    attempt: int = 0
    #: Attempts that somebody may still act for, though they may be long superseded.
    tokens: list[int] = field(default_factory=list)
    cost_usd_micros: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """Every process of the system, one step at a time."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Believed] = {}
        self.claims: list[ClaimedJob] = []
        self.spawning: list[JobRecord] = []
        self.stops: list[DueCancel] = []
        self.submitted = 0

    @initialize()
    def connect(self) -> None:
        self.ledger = Ledger(ledger_settings_of({"ledger_url": self.url, "ledger_prefix": "{machine}"}))
        for key in self.ledger.client.scan_iter("{machine}:*"):
            self.ledger.client.delete(key)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()

    def _some(self, data: st.DataObject) -> tuple[str, Believed]:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        return job_id, self.jobs[job_id]

    def _token(self, data: st.DataObject) -> tuple[str, Believed, int]:
        """An attempt that somebody may act for, the newest or a stale one."""
        job_id, believed = self._some(data)
        return job_id, believed, data.draw(st.sampled_from(believed.tokens or [1]))

    # --- the outside

    @rule(
        burst=st.sampled_from(["never", "auto"]), priority=st.integers(0, 9), tenant=st.sampled_from(["acme", "beta"])
    )
    def submit(self, burst: str, priority: int, tenant: str) -> None:
        self.submitted += 1
        fields = {"prompt": f"p{self.submitted}", "burst": burst, "priority": priority, "tenant": tenant}
        job = RenderJob.model_validate(fields)
        key = f"k{self.submitted}"
        first = self.ledger.jobs.submit(job, source="client", idempotency_key=key)
        again = self.ledger.jobs.submit(job, source="client", idempotency_key=key)
        assert (first.created, again.created, again.job_id) == (True, False, first.job_id)
        self.jobs[first.job_id] = Believed()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id, believed = self._some(data)
        outcome = self.ledger.jobs.cancel(job_id)
        if believed.terminal is None:
            assert isinstance(outcome, Cancelled)
            believed.terminal = State.CANCELLED
        else:
            assert outcome == AlreadyEnded(str(believed.terminal))

    @rule(by_s=st.sampled_from([0.5, 6.0, 11.0, 70.0, 4000.0]))
    def clock_jumps(self, by_s: float) -> None:
        move_clock(self.ledger, by_s)

    # --- dispatchers

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        self.claims += self.ledger.placement.claim_queued(Kind.RENDER, limit=limit, lease_s=LEASE_S)

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        decision=st.sampled_from(
            [
                RunInhouse(), RunOnModal("H100", 1_000, 1_000_000), RunOnModal("A100-80GB:4", 2_500, 2_000_000, gpus=4),
                Hold("modal_calls_at_cap", again_in_s=5, timeout_s=30), Shed("deadline_impossible", "too soon"),
            ]
        ),
        keep=st.booleans(),
    )  # fmt: skip
    def place(self, data: st.DataObject, decision: Decision, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.claims) - 1))
        claimed = self.claims[index] if keep else self.claims.pop(index)
        believed = self.jobs[claimed.record.id]
        outcome = limited(self.ledger, LIMITS).placement.place(claimed, decision, receipt=RECEIPT)
        match outcome:
            case Placed(attempt, _):
                assert believed.terminal is None
                assert attempt == believed.attempt + 1
                believed.attempt = attempt
                believed.tokens.append(attempt)
            case WasShed():
                assert believed.terminal is None
                believed.terminal = State.FAILED
            case Held() | Stale():
                pass
            case Refused():
                assert isinstance(decision, RunOnModal)

    # --- GPU workers, some of them long dead

    @rule()
    def start_inhouse(self) -> None:
        record = self.ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=LEASE_S, usd_nanos_per_s=250_000)
        if record is not None:
            assert record.attempt == self.jobs[record.id].attempt
            assert self.jobs[record.id].terminal is None

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), progress=st.integers(0, 99))
    def renew(self, data: st.DataObject, progress: int) -> None:
        job_id, believed, token = self._token(data)
        outcome = self.ledger.attempts.renew(job_id, token, lease_s=LEASE_S, progress=progress)
        if token != believed.attempt or believed.terminal is not None:
            assert isinstance(outcome, Lost)
        else:
            assert isinstance(outcome, Renewed | Lost)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def begin_delivery(self, data: st.DataObject) -> None:
        job_id, believed, token = self._token(data)
        outcome = self.ledger.attempts.begin_delivery(job_id, token)
        if token != believed.attempt or believed.terminal is not None:
            assert isinstance(outcome, Stale)
        else:
            assert isinstance(outcome, Delivering | Stale)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), cost=st.integers(0, 900))
    def complete(self, data: st.DataObject, cost: int) -> None:
        job_id, believed, token = self._token(data)
        outcome = self.ledger.attempts.complete(job_id, token, artifact=ARTIFACT, measurements={}, cost_usd_micros=cost)
        match outcome:
            case Completed(already=True):
                assert believed.terminal is State.COMPLETED
                assert token == believed.attempt
            case Completed():
                assert believed.terminal is None
                assert token == believed.attempt
                believed.terminal = State.COMPLETED
                believed.cost_usd_micros += cost
            case Stale():
                assert believed.terminal is not None or token != believed.attempt or believed.terminal is None

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), cause=st.sampled_from(list(Cause)), may_run=st.booleans(), jitter=st.floats(0, 1))
    def fail(self, data: st.DataObject, cause: Cause, may_run: bool, jitter: float) -> None:
        job_id, believed, token = self._token(data)
        on_modal = self.ledger.jobs.get(job_id).pool == "modal"
        outcome = self.ledger.attempts.fail(
            job_id, token, cause=cause, message="m", max_attempts=6, jitter=jitter, call_may_run=may_run and on_modal
        )
        match outcome:
            case Requeued():
                assert (believed.terminal, token) == (None, believed.attempt)
            case Failed():
                assert (believed.terminal, token) == (None, believed.attempt)
                believed.terminal = State.FAILED
            case Stale():
                pass

    # --- overflow workers

    @rule()
    def claim_spawns(self) -> None:
        self.spawning += claim_spawns(self.ledger, worker="o", limit=2, lease_s=LEASE_S)

    @precondition(lambda self: self.spawning)
    @rule(data=st.data())
    def spawn_answers(self, data: st.DataObject) -> None:
        record = self.spawning.pop(data.draw(st.integers(0, len(self.spawning) - 1)))
        call_id = f"fc-{record.id}-{record.attempt}"
        wanted = self.ledger.modal_calls.record_call(
            record.id, record.attempt, call_id=call_id, first_check_s=0, deadline_s=60
        )
        believed = self.jobs[record.id]
        if believed.terminal is not None or believed.attempt != record.attempt:
            assert not wanted

    @rule()
    def follow(self) -> None:
        for call in self.ledger.modal_calls.claim_due(limit=3, lease_s=LEASE_S).calls:
            assert self.jobs[call.job_id].terminal is None
            assert call.call_id

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job_id, _, token = self._token(data)
        self.ledger.modal_calls.release_claims([Release(job_id, token, again_in_s=1, progress=50)])

    @rule()
    def claim_stops(self) -> None:
        self.stops += self.ledger.modal_calls.claim_cancels(limit=3, again_in_s=2)

    @precondition(lambda self: self.stops)
    @rule(data=st.data(), keep=st.booleans())
    def stopped(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.stops) - 1))
        stop = self.stops[index] if keep else self.stops.pop(index)
        self.ledger.modal_calls.settle_cancel(stop.job_id, stop.attempt, cost_usd_micros=100)

    # --- maintenance

    @rule(jitter=st.floats(0, 1))
    def expire_leases(self, jitter: float) -> None:
        for expired in self.ledger.maintenance.expire_leases(limit=5, max_attempts=6, jitter=jitter):
            believed = self.jobs[expired.job_id]
            assert (believed.terminal, expired.attempt) == (None, believed.attempt)
            if expired.outcome == "failed":
                believed.terminal = State.FAILED

    @rule()
    def held_jobs(self) -> None:
        _, shed = self.ledger.maintenance.due_held(limit=5)
        for job_id in shed:
            assert self.jobs[job_id].terminal is None
            self.jobs[job_id].terminal = State.FAILED

    @rule()
    def nudge_again(self) -> None:
        self.ledger.maintenance.overdue_nudges(limit=5)

    # --- what must always hold

    @invariant()
    def the_audit_is_empty(self) -> None:
        if hasattr(self, "ledger"):
            # Calls that are stopped or completed cost less here than was set aside, so no cap is ever passed.
            assert self.ledger.audit(LIMITS) == []

    @invariant()
    def the_model_agrees(self) -> None:
        for job_id, believed in self.jobs.items():
            record = self.ledger.jobs.get(job_id)
            assert record.attempt == believed.attempt
            assert (record.state if record.is_terminal else None) == believed.terminal
            assert (record.artifact is not None) == (believed.terminal is State.COMPLETED)


def test_the_invariants_hold_under_any_interleaving(redis_server: RedisServer) -> None:
    class Machine(LedgerMachine):
        url = redis_server.url(3)

    run_machine(Machine, examples=60, steps=40)
