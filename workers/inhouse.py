"""In-house execution: take the attempt that comes next, run the engine under a lease, deliver, or say what failed."""

import random
import time
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from engines.render.errors import InvalidRenderRequest, RenderCancelled, RenderOutOfMemory, UnknownEngine
from engines.render.registry import get_engine
from ledger import Kind, LedgerUnavailable
from ledger.models import JobRecord
from ledger.outcomes import Failed, Requeued, Stale
from ledger.retries import Cause
from workers.artifacts import ArtifactStoreUnavailable, Video
from workers.delivery import PATIENCE_S, Delivered, TooLate, deliver
from workers.leases import LeaseKeeper
from workers.logs import bound
from workers.patience import patiently
from workers.requests import NoEngine, render_request
from workers.resources import Resources
from workers.settings import MICROS_PER_USD

log = structlog.get_logger(__name__)

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class RunReport:
    """What a GPU worker did with one nudge. Flower shows it as the task's result."""

    outcome: str
    job_id: str | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class _Finished:
    video: Video
    measurements: dict[str, object]
    cost_usd_micros: int


@dataclass(frozen=True)
class _Abandoned:
    """The lease was lost while the engine ran; there is nothing to say any more."""


@dataclass(frozen=True)
class _Broken:
    cause: Cause
    message: str


def run_next(open_ends: Resources, kind: Kind, *, worker: str) -> RunReport:
    """Take one nudge: run the in-house attempt that comes next, if one waits."""
    record = open_ends.ledger.attempts.start_inhouse(kind, worker=worker, lease_s=open_ends.settings.lease_s)
    if record is None:
        return RunReport("nothing_waits")
    with bound(**record.log_context(), worker=worker):
        log.info("attempt.started", pool="inhouse")
        with LeaseKeeper(open_ends.ledger, record, lease_s=open_ends.settings.lease_s) as lease:
            result = _execute(open_ends, record, lease)
            outcome = _conclude(open_ends, record, lease, result)
        log.info("attempt.ended", outcome=outcome)
    return RunReport(outcome, record.id, record.attempt)


def _execute(open_ends: Resources, record: JobRecord, lease: LeaseKeeper) -> _Finished | _Abandoned | _Broken:
    """Run the engine. What it raises becomes a value here; nothing of the engine's gets any further."""
    started = time.monotonic()
    try:
        request = render_request(record, open_ends.settings)
        result = get_engine(request.engine).render(request, on_progress=lease.note_progress, is_cancelled=lease.is_lost)
    except (InvalidRenderRequest, UnknownEngine, ValidationError) as error:
        return _Broken(Cause.INVALID_REQUEST, str(error))
    except NoEngine as error:
        return _Broken(Cause.NO_ENGINE, str(error))
    except RenderCancelled:
        return _Abandoned()
    except (RenderOutOfMemory, MemoryError) as error:
        return _Broken(Cause.OUT_OF_MEMORY, str(error))
    except Exception as error:
        log.exception("engine.failed")
        return _Broken(Cause.ERROR, f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - started
    return _Finished(
        video=Video(result.mp4, result.thumbnail_webp, result.sha256),
        measurements={**vars(result.measurements), "seconds": seconds},
        cost_usd_micros=inhouse_cost_usd_micros(seconds, open_ends.settings.inhouse_usd_per_hour),
    )


def _conclude(
    open_ends: Resources, record: JobRecord, lease: LeaseKeeper, result: _Finished | _Abandoned | _Broken
) -> str:
    match result:
        case _Finished(video, measurements, cost_usd_micros):
            try:
                # S3 may be away for a while: the result is kept, and so is the lease, rather than render again.
                delivered = patiently(
                    lambda: deliver(
                        open_ends.ledger,
                        open_ends.artifacts,
                        record,
                        video,
                        measurements=measurements,
                        cost_usd_micros=cost_usd_micros,
                    ),
                    for_s=open_ends.settings.delivery_patience_s,
                    away=ArtifactStoreUnavailable,
                    give_up=lease.is_lost,
                )
            except ArtifactStoreUnavailable as error:
                return _fail(open_ends, record, _Broken(Cause.DELIVERY, str(error)))
            except LedgerUnavailable as error:
                # Nothing can be said to anybody now. The lease lapses, and another attempt is made.
                log.error("attempt.result_dropped", error=str(error))  # noqa: TRY400 - the sentence says it all
                return "ledger_away"
            match delivered:
                case Delivered():
                    return "completed"
                case TooLate():
                    return "too_late"
        case _Abandoned():
            return "abandoned"
        case _Broken():
            return _fail(open_ends, record, result)


def _fail(open_ends: Resources, record: JobRecord, broken: _Broken) -> str:
    log.warning("attempt.failed", cause=str(broken.cause), error=broken.message)
    outcome = patiently(
        lambda: open_ends.ledger.attempts.fail(
            record.id,
            record.attempt,
            cause=broken.cause,
            message=broken.message,
            max_attempts=open_ends.settings.max_attempts,
            jitter=random.random(),
        ),
        for_s=PATIENCE_S,
    )
    match outcome:
        case Requeued(nudge):
            open_ends.nudger.send(nudge)
            return "requeued"
        case Failed():
            return "failed"
        case Stale():
            return "too_late"


def inhouse_cost_usd_micros(seconds: float, usd_per_hour: float) -> int:
    """What an in-house GPU costs us for so many seconds, micro-dollars."""
    return round(seconds * usd_per_hour * MICROS_PER_USD / SECONDS_PER_HOUR)
