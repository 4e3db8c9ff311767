"""In-house execution: take the attempt that comes next, run its engine under a lease, deliver, or say what failed."""

import random
from dataclasses import dataclass

import structlog

from infra.artifacts import ArtifactStoreUnavailable
from infra.logs import bound
from infra.retrying import retry_while_unavailable
from infra.tracing import of_job, tracing
from ledger import Kind, LedgerUnavailable
from ledger.models import JobRecord
from ledger.retries import NEVER, Cause
from workers.delivery import PATIENCE_S, AttemptOf, Delivered, TooLate, deliver
from workers.execution import Abandoned, Broken, Execution, Finished
from workers.failures import after_failure
from workers.leases import LeaseKeeper
from workers.resources import Resources

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunReport:
    """What a GPU worker did with one nudge. Flower shows it as the task's result."""

    outcome: str
    job_id: str | None = None
    attempt: int | None = None


def run_next(open_ends: Resources, kind: Kind, *, worker: str, nudge_id: str = "") -> RunReport:
    """Take one nudge: run the in-house attempt that comes next, if one waits."""
    settings = open_ends.settings
    record = open_ends.ledger.attempts.start_inhouse(
        kind,
        worker=worker,
        lease_s=settings.lease_s,
        usd_nanos_per_s=settings.inhouse_usd_nanos_per_s,
        holder=nudge_id,
    )
    if record is None:
        return RunReport("nothing_waits")
    facts = {"job_id": record.id, "attempt": record.attempt, "kind": record.kind, "worker": worker}
    parent = of_job(record.id, record.traceparent)
    with bound(**record.log_context(), worker=worker), tracing().span("run in-house", parent=parent, **facts) as span:
        log.info("attempt.started", pool="inhouse")
        with LeaseKeeper(open_ends.ledger, record, lease_s=open_ends.settings.lease_s) as lease:
            result = _execute(open_ends, record, lease)
            outcome = _conclude(open_ends, record, lease, result)
        log.info("attempt.ended", outcome=outcome)
        span.note(outcome=outcome)
    return RunReport(outcome, record.id, record.attempt)


def _execute(open_ends: Resources, record: JobRecord, lease: LeaseKeeper) -> Execution:
    """Run the engine of the job's kind; each kind imports only what it runs."""
    match record.kind:
        case Kind.RENDER:
            from workers.rendering import execute_render  # noqa: PLC0415 - imports the render engines

            return execute_render(open_ends, record, lease)
        case Kind.TRAIN:
            from workers.training.execute import execute_train  # noqa: PLC0415 - the same, of training

            return execute_train(open_ends, record, lease)


def _conclude(open_ends: Resources, record: JobRecord, lease: LeaseKeeper, execution: Execution) -> str:
    match execution:
        case Finished(result, measurements, cost_usd_micros):
            try:
                # S3 may be away for a while: the result is kept, and so is the lease, rather than render again.
                delivered = retry_while_unavailable(
                    lambda: deliver(
                        open_ends.ledger,
                        open_ends.artifacts,
                        AttemptOf(record.id, record.attempt),
                        result,
                        measurements=measurements,
                        cost_usd_micros=cost_usd_micros,
                    ),
                    for_s=open_ends.settings.delivery_patience_s,
                    away=ArtifactStoreUnavailable,
                    give_up=lease.is_lost,
                )
            except ArtifactStoreUnavailable as error:
                return _fail(open_ends, record, Broken(Cause.DELIVERY, str(error)))
            except LedgerUnavailable as error:
                # Nothing can be said to anybody now. The lease lapses, and another attempt is made.
                log.error("attempt.result_dropped", error=str(error))  # noqa: TRY400 - the sentence says it all
                return "ledger_away"
            match delivered:
                case Delivered():
                    return "completed"
                case TooLate():
                    return "too_late"
        case Abandoned():
            return "abandoned"
        case Broken():
            return _fail(open_ends, record, execution)


def _fail(open_ends: Resources, record: JobRecord, broken: Broken) -> str:
    log.warning("attempt.failed", cause=str(broken.cause), error=broken.message)
    outcome = retry_while_unavailable(
        lambda: open_ends.ledger.attempts.fail(
            record.id,
            record.attempt,
            cause=broken.cause,
            message=broken.message,
            max_attempts=open_ends.settings.max_attempts_of(record.kind),
            jitter=random.random(),
            rule=None if broken.retryable else NEVER,
        ),
        for_s=PATIENCE_S,
    )
    return after_failure(outcome, broken.cause, open_ends.nudger)
