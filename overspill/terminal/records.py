"""A job in a row, in a sentence, as JSON. Pure."""

from ledger.errors import RecordUnreadable
from ledger.models import JobRecord, RenderJob, TrainJob
from ledger.states import Pool, State

_ID_TAIL = 8
#: A state's colour wherever it is shown.
STATE_STYLES = {
    State.QUEUED: "dim",
    State.HELD: "yellow",
    State.PLACED: "cyan",
    State.RUNNING: "bold blue",
    State.DELIVERING: "blue",
    State.COMPLETED: "green",
    State.FAILED: "bold red",
    State.CANCELLED: "magenta",
}


def as_json(record: JobRecord) -> dict[str, object]:
    """A record for programs. Times are milliseconds since 1970, dollars are whole micro-dollars."""
    return {
        "id": record.id,
        "kind": str(record.kind),
        "tenant": record.tenant,
        "status": record.status,
        "state": str(record.state),
        "pool": str(record.pool) if record.pool else None,
        "gpu": record.gpu,
        "attempt": record.attempt,
        "progress": record.progress,
        "priority": record.priority,
        "burst": str(record.burst),
        "created_ms": record.created_ms,
        "started_ms": record.started_ms,
        "finished_ms": record.finished_ms,
        "deadline_ms": record.deadline_ms,
        "held_reason": record.held_reason,
        "error": {"code": record.error_code, "message": record.error_message} if record.error_code else None,
        "cost_usd_micros": record.cost_usd_micros,
        "artifact": {"bucket": record.artifact.bucket, "key": record.artifact.key} if record.artifact else None,
        "request": _request(record),
    }


def _request(record: JobRecord) -> dict[str, object] | None:
    """What was asked for; None: this version cannot read it."""
    try:
        return record.job.model_dump(mode="json")
    except RecordUnreadable:
        return None


def place(record: JobRecord) -> str:
    """Where it runs or ran: `in-house`, `modal H100`, or `-`."""
    match record.pool:
        case Pool.INHOUSE:
            return "in-house"
        case Pool.MODAL:
            return f"modal {record.gpu or ''}".strip()
        case None:
            return "-"


def short(job_id: str) -> str:
    """An id in a narrow column: its kind and its random end."""
    return f"{job_id.partition('_')[0]}_…{job_id[-_ID_TAIL:]}"


def summary(record: JobRecord) -> str:
    """What it is about, on one line: the prompt of a render, the recipe of a training run."""
    try:
        job = record.job
    except RecordUnreadable:
        return "(written by another version)"
    match job:
        case RenderJob(prompt=prompt):
            return " ".join(prompt.split())
        case TrainJob(recipe=recipe, steps=steps):
            return f"{recipe}, {steps} steps"


def age_s(record: JobRecord, now_ms: int) -> float:
    """Seconds from its acceptance to its end, or to now."""
    return max(0, (record.finished_ms or now_ms) - record.created_ms) / 1000


def how_it_stands(record: JobRecord) -> str:
    """A few words on a job's state."""
    words = str(record.state)
    if record.pool is not None:
        words += f" ({place(record)})"
    if record.state is State.HELD and record.held_reason:
        words += f": {record.held_reason}"
    if record.error_code:
        words += f": {record.error_code}: {record.error_message or 'no reason was recorded'}"
    return words
