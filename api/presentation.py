"""Records into what the Videos API answers, purely.

Keys and types are those of openai-python 3.54.0's `Video`; it keeps unknown keys, so what only we know is added with
the prefix `x_`. The four states of the API have no `cancelled`: such a job is `failed` with the code `cancelled`, which
every client understands.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from api.messages import public_error
from ledger.errors import RecordUnreadable
from ledger.models import JobRecord, RenderJob
from ledger.states import State

MICROS_PER_USD = 1_000_000
#: Bounds of the poll interval that a client is asked to keep, milliseconds.
POLL_MIN_MS, POLL_MAX_MS = 500, 15_000
#: A look for each so many-th part of the time that a job still takes keeps the delay below 5 %.
LOOKS_PER_JOB = 20
#: Before anything is known of a job: milliseconds of waiting between looks for each second of its clip.
POLL_MS_PER_CLIP_SECOND = 250


def render_of(record: JobRecord) -> RenderJob:
    """What was asked for.

    Raises:
        TypeError: the record is not of a render job.
    """
    job = record.job
    if not isinstance(job, RenderJob):
        raise TypeError(f"expected a render job, got {record.kind} {record.id}")
    return job


def video(record: JobRecord) -> dict[str, object]:
    """The `Video` object of a job. Times are whole seconds since 1970."""
    job = render_of(record)
    status = _status(record)
    return {
        "id": record.id,
        "object": "video",
        "model": job.model,
        "status": status,
        "progress": record.progress,
        "created_at": record.created_ms // 1000,
        "completed_at": _seconds(record.finished_ms) if status == "completed" else None,
        "expires_at": None,
        "prompt": job.prompt,
        "size": job.size,
        "seconds": str(job.seconds),
        "remixed_from_video_id": None,
        "error": _error(record),
        "x_state": str(record.state),
        "x_pool": str(record.pool) if record.pool else None,
        "x_gpu": record.gpu,
        "x_attempt": record.attempt,
        "x_held_reason": record.held_reason,
        "x_cost_usd": record.cost_usd_micros / MICROS_PER_USD,
        "x_deadline_at": _seconds(record.deadline_ms),
        "x_fps": job.fps,
        "x_seed": job.seed,
        "x_priority": record.priority,
        "x_burst": str(record.burst),
    }


def video_list(records: Sequence[JobRecord], *, has_more: bool) -> dict[str, object]:
    """A page. The client's next page begins after `last_id`. What this version cannot read is left out."""
    return {
        "object": "list",
        "data": list(_readable_videos(records)),
        "first_id": records[0].id if records else None,
        "last_id": records[-1].id if records else None,
        "has_more": has_more,
    }


def _readable_videos(records: Sequence[JobRecord]) -> Iterator[dict[str, object]]:
    for record in records:
        with suppress(RecordUnreadable):
            shown = video(record)
            yield {**shown, "x_prompt_is_cut": True} if record.is_brief else shown


def deletion(record_id: str, state: State) -> dict[str, object]:
    """What DELETE answers: `deleted` is true if no video of this job is there, or ever will be."""
    return {
        "id": record_id,
        "object": "video.deleted",
        "deleted": state in (State.CANCELLED, State.FAILED),
        "x_state": str(state),
    }


def poll_after_ms(record: JobRecord, now_ms: int) -> int | None:
    """How long a client should wait before it looks again, milliseconds; None if the job has ended.

    The client latches the first value that it gets, most often while the job still waits: so the value begins with
    the clip's length, grows with the time that the job has waited, and follows the progress once there is one.
    """
    if record.is_terminal:
        return None
    if record.started_ms is not None and record.progress > 0:
        running_ms = max(0, now_ms - record.started_ms)
        wait_ms = running_ms * (100 - record.progress) / record.progress / LOOKS_PER_JOB
    else:
        clip_ms = render_of(record).seconds * POLL_MS_PER_CLIP_SECOND
        wait_ms = max(clip_ms, (now_ms - record.created_ms) / LOOKS_PER_JOB)
    return int(min(max(wait_ms, POLL_MIN_MS), POLL_MAX_MS))


def _status(record: JobRecord) -> str:
    return "failed" if record.state is State.CANCELLED else record.status


def _error(record: JobRecord) -> dict[str, str] | None:
    if record.state not in (State.FAILED, State.CANCELLED):
        return None
    return public_error(record.error_code)


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
