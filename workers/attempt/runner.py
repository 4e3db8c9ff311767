"""The pipeline of an in-house attempt: claim the one that comes next, run its engine, deliver or say what failed."""

from dataclasses import dataclass
from typing import Protocol

import structlog

from infra.logs import bound
from infra.tracing import of_job, tracing
from ledger import Kind
from ledger.models import JobRecord
from workers.attempt.ending import complete, fail
from workers.attempt.heartbeat import Heartbeat, clocks_for
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


class Executor(Protocol):
    """What runs jobs of one kind."""

    def wall_clock_s(self, resources: Resources, record: JobRecord) -> float | None:
        """How long the engine may take in all, seconds, from the job's own size; None: as the setting says."""

    def execute(self, resources: Resources, record: JobRecord, heartbeat: Heartbeat) -> Execution:
        """Run the engine. What it raises becomes a value; it notes its progress, and stops when the attempt is lost."""


def run_attempt(
    resources: Resources,
    kind: Kind,
    executor: Executor,
    *,
    worker: str,
    nudge_id: str = "",
    table: SlotTable = slot_table,
) -> RunReport:
    """Claim the in-house attempt that comes next, if one waits, and see it to its end.

    Args:
        resources: this process's.
        kind: of the job.
        executor: runs jobs of this kind.
        worker: the Celery worker's name, for the record.
        nudge_id: the message's id, by which the attempt is found should this process die.
        table: what the main process watches; it renews the lease (see monitor.py).
    """
    record = resources.ledger.attempts.start_inhouse(
        kind,
        worker=worker,
        lease_s=resources.settings.attempts.lease_s,
        usd_nanos_per_s=resources.settings.attempts.inhouse_usd_nanos_per_s,
        holder=nudge_id,
    )
    if record is None:
        return RunReport("nothing_waits")
    facts = {"job_id": record.id, "attempt": record.attempt, "kind": record.kind, "worker": worker}
    parent = of_job(record.id, record.traceparent)
    with bound(**record.log_context(), worker=worker), tracing().span("run in-house", parent=parent, **facts) as span:
        log.info("attempt.started", pool="inhouse")
        clocks = clocks_for(kind, resources.settings, wall_s=executor.wall_clock_s(resources, record))
        with Heartbeat(table, record, clocks) as heartbeat:
            execution = executor.execute(resources, record, heartbeat)
            heartbeat.begin_delivery()
            outcome = _end(resources, record, heartbeat, execution)
        log.info("attempt.ended", outcome=outcome)
        span.note(outcome=outcome)
    return RunReport(outcome, record.id, record.attempt)


def _end(resources: Resources, record: JobRecord, heartbeat: Heartbeat, execution: Execution) -> str:
    of = AttemptOf(record.id, record.attempt)
    match execution:
        case Finished():
            return complete(resources, of, record.kind, execution, is_lost=heartbeat.is_lost)
        case Abandoned():
            return "abandoned"
        case Failure():
            return fail(resources, of, record.kind, execution)
