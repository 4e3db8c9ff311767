"""The pipeline of an in-house attempt: claim the one that comes next, run its engine, deliver or say what failed."""

from dataclasses import dataclass

import structlog

from infra.logs import bound
from infra.tracing import of_job, tracing
from ledger import Kind
from ledger.models import JobRecord
from workers.attempt.ending import complete, fail
from workers.attempt.heartbeat import Clocks, Heartbeat, clocks_for
from workers.attempt.results import Abandoned, Execution, Failure, Finished
from workers.attempt.slots import SlotTable, slot_table
from workers.delivery import AttemptOf
from workers.resources import Resources

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunReport:
    """What a GPU worker did with one nudge. Flower shows it as the task's result."""

    outcome: str
    job_id: str | None = None
    attempt: int | None = None


def run_next(
    resources: Resources, kind: Kind, *, worker: str, nudge_id: str = "", table: SlotTable = slot_table
) -> RunReport:
    """Take one nudge: run the in-house attempt that comes next, if one waits.

    Args:
        resources: this process's.
        kind: of the job.
        worker: the Celery worker's name, for the record.
        nudge_id: the message's id, by which the attempt is found should this process die.
        table: what the main process watches; it renews the lease (see monitor.py).
    """
    record = resources.ledger.attempts.start_inhouse(
        kind,
        worker=worker,
        lease_s=resources.settings.lease_s,
        usd_nanos_per_s=resources.settings.inhouse_usd_nanos_per_s,
        holder=nudge_id,
    )
    if record is None:
        return RunReport("nothing_waits")
    facts = {"job_id": record.id, "attempt": record.attempt, "kind": record.kind, "worker": worker}
    parent = of_job(record.id, record.traceparent)
    with bound(**record.log_context(), worker=worker), tracing().span("run in-house", parent=parent, **facts) as span:
        log.info("attempt.started", pool="inhouse")
        with Heartbeat(table, record, _clocks(resources, record)) as heartbeat:
            execution = _execute(resources, record, heartbeat)
            heartbeat.begin_delivery()
            outcome = _end(resources, record, heartbeat, execution)
        log.info("attempt.ended", outcome=outcome)
        span.note(outcome=outcome)
    return RunReport(outcome, record.id, record.attempt)


def _clocks(resources: Resources, record: JobRecord) -> Clocks:
    match record.kind:
        case Kind.RENDER:
            return clocks_for(record.kind, resources.settings)
        case Kind.TRAIN:
            from workers.training.wall_clock import train_wall_clock_s  # noqa: PLC0415 - imports what only it needs

            return clocks_for(record.kind, resources.settings, wall_s=train_wall_clock_s(resources, record))


def _execute(resources: Resources, record: JobRecord, heartbeat: Heartbeat) -> Execution:
    """Run the engine of the job's kind; each kind imports only what it runs."""
    match record.kind:
        case Kind.RENDER:
            from workers.rendering import execute_render  # noqa: PLC0415 - imports the render engines

            return execute_render(resources, record, heartbeat)
        case Kind.TRAIN:
            from workers.training.execute import execute_train  # noqa: PLC0415 - the same, of training

            return execute_train(resources, record, heartbeat)


def _end(resources: Resources, record: JobRecord, heartbeat: Heartbeat, execution: Execution) -> str:
    of = AttemptOf(record.id, record.attempt)
    match execution:
        case Finished():
            return complete(resources, of, record.kind, execution, is_lost=heartbeat.is_lost)
        case Abandoned():
            return "abandoned"
        case Failure():
            return fail(resources, of, record.kind, execution)
