"""Every kind of event that is counted, made by the ledger's own verbs, quickly: for tests of what watches it."""

import time

from ledger import Kind, Ledger
from ledger.containers import ContainerUse, Usage
from ledger.decisions import Decision, Hold, Receipt, RunInhouse, RunOnModal, Shed, SpillState
from ledger.limits import Limits
from ledger.models import Artifact, JobRecord, RenderJob, TrainJob
from ledger.outcomes import Placed, PlaceOutcome
from ledger.polling import SpawnRate
from ledger.retries import Cause
from tests.support.ledgers import limited
from workers.overflow.breaker import FailureReason, Phase

ROOMY = Limits(month_cap_usd_micros=10**12, max_modal_attempts=10_000)
TIGHT = Limits(month_cap_usd_micros=1, max_modal_attempts=10_000)
H100 = RunOnModal(gpu="H100", reserve_usd_micros=2_000_000, usd_nanos_per_s=1_140_960)
ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0" * 64)
ROUND_SPAWNS = SpawnRate(per_s=1000.0, burst=1000.0)


def submit(ledger: Ledger, kind: Kind, *, deadline_s: float | None = None, burst: str = "auto") -> str:
    """A job of a kind."""
    fields = {"deadline_s": deadline_s, "burst": burst}
    job = (
        RenderJob.model_validate({"prompt": "a red ball", "seconds": 4, **fields})
        if kind is Kind.RENDER
        else TrainJob.model_validate({"recipe": "image_classifier", "steps": 10, **fields})
    )
    return ledger.jobs.submit(job, source="client").job_id


def decide(
    ledger: Ledger, kind: Kind, decision: Decision, *, limits: Limits = ROOMY, spill: SpillState | None = None
) -> PlaceOutcome:
    """Decide about the job of a kind that comes next, with a receipt that names the decision."""
    (claimed,) = ledger.placement.claim_queued(kind, limit=1, lease_s=10)
    name = type(decision).__name__
    receipt = Receipt(policy="test", rule=f"test_{name.lower()}", decision=name)
    return limited(ledger, limits).placement.place(claimed, decision, receipt=receipt, spill=spill)


def run_inhouse(ledger: Ledger, kind: Kind, *, deadline_s: float | None = None) -> str:
    """A whole life in-house."""
    submit(ledger, kind, deadline_s=deadline_s)
    decide(ledger, kind, RunInhouse())
    record = start_inhouse(ledger, kind)
    ledger.attempts.begin_delivery(record.id, record.attempt)
    ledger.attempts.complete(
        record.id,
        record.attempt,
        artifact=ARTIFACT,
        measurements={"seconds": 1.0, "peak_gpu_memory_ratio": 0.5},
        cost_usd_micros=400,
    )
    return record.id


def start_inhouse(ledger: Ledger, kind: Kind) -> JobRecord:
    """Start what waits in-house."""
    record = ledger.attempts.start_inhouse(kind, worker="gpu-1", lease_s=30)
    assert record is not None
    return record


def spawn(ledger: Ledger, kind: Kind, decision: RunOnModal = H100) -> tuple[str, int]:
    """A job whose call runs on Modal."""
    job_id = submit(ledger, kind)
    placed = decide(ledger, kind, decision)
    assert isinstance(placed, Placed), placed
    ledger.modal_calls.claim_spawns(worker="overflow-1", limit=1, lease_s=15, rate=ROUND_SPAWNS)
    assert ledger.modal_calls.record_call(
        job_id, placed.attempt, call_id=f"fc-{job_id}", first_check_s=0.5, deadline_s=600.0
    )
    return job_id, placed.attempt


def used(seconds: float = 20.0) -> Usage:
    """One container that has just begun and has been used for so long."""
    ended_ms = int(time.time() * 1000)
    began_ms = ended_ms - int(seconds * 1000)
    use = ContainerUse(f"ta-{time.monotonic_ns()}", began_ms, ended_ms, call_started_ms=began_ms + int(seconds * 300))
    return Usage([use], usd_nanos_per_s=1_140_960, idle_window_s=2.0)


def run_on_modal(ledger: Ledger, kind: Kind) -> str:
    """A whole life on Modal."""
    job_id, attempt = spawn(ledger, kind)
    ledger.attempts.begin_delivery(job_id, attempt)
    ledger.attempts.complete(
        job_id,
        attempt,
        artifact=ARTIFACT,
        measurements={"seconds": 14.0, "startup_s": 6.0, "peak_gpu_memory_ratio": 0.97, "follow_lag_s": 0.2},
        usage=used(),
    )
    return job_id


def run_out_of_memory(ledger: Ledger, kind: Kind) -> str:
    """An attempt on Modal that ran out of GPU memory, and was the job's last."""
    job_id, attempt = spawn(ledger, kind)
    fail(ledger, job_id, attempt, Cause.OUT_OF_MEMORY, message="CUDA out of memory", usage=used(), max_attempts=1)
    return job_id


def fail(
    ledger: Ledger,
    job_id: str,
    attempt: int,
    cause: Cause,
    *,
    message: str = "it broke",
    usage: Usage | None = None,
    max_attempts: int = 25,
) -> None:
    """End an attempt without a result."""
    ledger.attempts.fail(
        job_id, attempt, cause=cause, message=message, max_attempts=max_attempts, jitter=0.0, usage=usage
    )


def spill_storm(ledger: Ledger, kind: Kind, number: int) -> list[str]:
    """So many jobs placed on Modal at once."""
    jobs = [submit(ledger, kind) for _ in range(number)]
    for _ in jobs:
        decide(ledger, kind, H100, spill=SpillState(active=True))
    return jobs


def everything(ledger: Ledger) -> None:
    """At least one of every event that is counted, of both kinds of job."""
    ledger.attempts.slot_lives(list(Kind), worker="gpu-1", lease_s=600)
    for kind in Kind:
        run_inhouse(ledger, kind, deadline_s=600)
        run_on_modal(ledger, kind)
        run_out_of_memory(ledger, kind)
        submit(ledger, kind)
        decide(ledger, kind, Shed("deadline_impossible", "too soon"))
        broken = submit(ledger, kind, deadline_s=600)
        decide(ledger, kind, RunInhouse())
        fail(ledger, broken, start_inhouse(ledger, kind).attempt, Cause.INVALID_REQUEST)
        refused = submit(ledger, kind)
        decide(ledger, kind, H100, limits=TIGHT)
        ledger.jobs.cancel(refused)
        held = submit(ledger, kind)
        decide(ledger, kind, Hold("month_budget", again_in_s=60, timeout_s=600), spill=SpillState(active=True))
        ledger.jobs.cancel(held)
        cancelled, attempt = spawn(ledger, kind)
        ledger.jobs.cancel(cancelled)
        ledger.modal_calls.settle_cancel(cancelled, attempt, usage=used())
        spawn(ledger, kind)
        submit(ledger, kind)
        decide(ledger, kind, RunInhouse(), spill=SpillState(active=False))
    rows = [{"n": n, "kind": kind, "step": step} for n, (kind, step) in enumerate([("progress", 9), ("started", 5)], 1)]
    ledger.attempts.note_training(run_inhouse(ledger, Kind.TRAIN), 1, rows)
    ledger.tally("messages_dropped_total", "reason=garbage")
    ledger.tally("hangs_total", "clock=progress|kind=render")
    ledger.maintenance.done("expired-leases")
    ledger.modal_calls.claim_due(limit=10, lease_s=10)


def refuse_token(ledger: Ledger) -> None:
    """The breaker opens, because Modal refuses the token."""
    stored = ledger.modal_calls.breaker()
    ledger.modal_calls.move_breaker(
        version=stored.version, phase=Phase.OPEN, reason=FailureReason.TOKEN_REFUSED, memory="{}"
    )
