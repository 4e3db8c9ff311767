"""Accept a job once, however often its request is sent.

With an `Idempotency-Key` the ledger sees to it. Without one there is still OpenAI's client, which sends a failed POST
again with nothing but `x-stainless-retry-count: 1` to tell it from a new one. So a request that says of itself that it
is a repetition gets the newest job of the same tenant that asked for exactly the same and is not older than the window;
a request that does not is always a new job. Two equal requests on purpose are two jobs.
"""

from dataclasses import dataclass

from ledger.errors import LedgerUnavailable
from ledger.jobs import Jobs
from ledger.models import JobRecord, Kind, RenderJob
from ledger.nudges import Nudge
from ledger.states import State

#: How far back a repetition looks for the job of its first try, seconds: the client's waits between tries are at most
#: 8 s of its own or 120 s of our Retry-After, twice.
RETRY_WINDOW_S = 300


@dataclass(frozen=True)
class Accepted:
    """The job stands in the ledger: newly, or since an earlier try. The nudge is to be sent."""

    record: JobRecord
    created: bool
    nudge: Nudge


def submit_once(
    jobs: Jobs,
    job: RenderJob,
    *,
    idempotency_key: str | None,
    is_retry: bool,
    now_ms: int,
    traceparent: str | None = None,
) -> Accepted:
    """Submit a job.

    Args:
        jobs: the ledger's.
        job: what is asked for.
        idempotency_key: the caller's, if there is one.
        is_retry: the caller says that it has sent this request before.
        now_ms: milliseconds since 1970, for the answer if the new record cannot be read back.
        traceparent: the trace that a new job belongs to.

    Raises:
        IdempotencyConflict: the key stands for another request.
        LedgerUnavailable, LedgerFull: the job was not accepted (or, if Redis's answer was lost, was accepted whole).
    """
    submitted = jobs.submit(
        job,
        source="api",
        idempotency_key=idempotency_key,
        is_retry=is_retry,
        retry_window_s=RETRY_WINDOW_S,
        traceparent=traceparent,
    )
    try:
        record = jobs.get(submitted.job_id)
    except LedgerUnavailable:
        # The job is accepted, so the answer must be a yes, with what we know of the job ourselves.
        record = as_submitted(submitted.job_id, job, now_ms)
    return Accepted(record, submitted.created, submitted.nudge)


def as_submitted(job_id: str, job: RenderJob, now_ms: int) -> JobRecord:
    """The record of a job that was accepted at `now_ms` (milliseconds since 1970), as far as we know it ourselves."""
    return JobRecord(
        id=job_id,
        kind=Kind.RENDER,
        tenant=job.tenant,
        state=State.QUEUED,
        priority=job.priority,
        burst=job.burst,
        created_ms=now_ms,
        changed_ms=now_ms,
        deadline_ms=None if job.deadline_s is None else now_ms + int(job.deadline_s * 1000),
        spec=job.model_dump_json(),
    )
