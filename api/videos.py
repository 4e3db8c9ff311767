"""`/v1/videos`, as openai-python 3.54.0 calls it.

What DELETE means here: a job that has not ended is cancelled, and its GPU stops. The record stays (it is the
proof of what was spent) and a finished video stays too; `deleted` says honestly whether there is no video: true for
a job that was cancelled or has failed, false for one that had completed. Asking twice gives the same answer.
"""

import re
import time
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bound_contextvars

from api import creation, presentation
from api.bodies import read_fields
from api.errors import Conflict, NotFound, video_not_found
from api.messages import public_error
from api.ports import Variant
from api.state import AppState, CurrentState, Tenant
from api.submission import Accepted, submit_once
from infra.tracing import tracing, valid
from ledger.errors import JobNotFound
from ledger.models import JobRecord, Kind
from ledger.outcomes import AlreadyEnded, Cancelled
from ledger.states import State
from ledger.store import Ledger

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/videos")

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
POLL_AFTER = "openai-poll-after-ms"


@router.post("")
async def create(request: Request, app: CurrentState, tenant: Tenant) -> Response:
    """Accept a job. When this has answered 200, the job is in the ledger and will end."""
    key = creation.idempotency_key(request.headers.get("idempotency-key"))
    is_retry = creation.is_retry(request.headers.get("x-stainless-retry-count"))
    fields = await read_fields(request, max_bytes=app.settings.api.max_body_bytes)
    refuse_unknown = app.settings.api.unknown_fields == "refuse"
    # In a thread: a long prompt's digest and checks are milliseconds that others need not wait for.
    job = await run_in_threadpool(creation.render_job, fields, tenant=tenant, refuse_unknown=refuse_unknown)

    def accept(ledger: Ledger) -> Accepted:
        app.admission.check(ledger, job, idempotency_key=key, is_retry=is_retry)
        return submit_once(
            ledger.jobs, job, idempotency_key=key, is_retry=is_retry, now_ms=_now_ms(), traceparent=span.traceparent
        )

    asked = request.headers.get("traceparent")
    with tracing().span("POST /v1/videos", parent=asked if valid(asked) else None, tenant=tenant) as span:
        accepted = await app.ledger.call(accept)
        span.note(job_id=accepted.record.id, created=accepted.created)
    app.outbox.put(accepted.nudge)
    with bound_contextvars(**accepted.record.log_context()):
        log.info("job.accepted", tenant=tenant, created=accepted.created)
    headers = {} if accepted.created else {"idempotent-replayed": "true"}
    return JSONResponse(presentation.video(accepted.record), headers=headers)


@router.api_route("", methods=["GET", "HEAD"])
async def index(
    app: CurrentState,
    tenant: Tenant,
    after: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=0, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """A page of the tenant's videos."""

    def read(ledger: Ledger) -> Response:
        if after is not None:
            _own(ledger, after, tenant, param="after")
        page = ledger.jobs.page(Kind.RENDER, tenant=tenant, after=after, limit=limit, newest_first=order == "desc")
        return JSONResponse(presentation.video_list(page.records, has_more=page.has_more))

    return await app.ledger.call(read)  # written out in the ledger's thread, too


@router.api_route("/{video_id}", methods=["GET", "HEAD"])
async def retrieve(video_id: str, app: CurrentState, tenant: Tenant) -> Response:
    """How a job stands, and when to look again."""
    record = await _find(app, video_id, tenant)
    return JSONResponse(presentation.video(record), headers=_poll_header(record))


@router.delete("/{video_id}")
async def delete(video_id: str, app: CurrentState, tenant: Tenant) -> Response:
    """Cancel a job if it has not ended; see the module's docstring for what deletion means."""

    def cancel(ledger: Ledger) -> tuple[JobRecord, State]:
        record = _own(ledger, video_id, tenant)
        match ledger.jobs.cancel(video_id, reason="cancelled by request"):
            case Cancelled():
                return record, State.CANCELLED
            case AlreadyEnded(state):
                return record, State(state)

    record, state = await app.ledger.call(cancel)
    with bound_contextvars(**record.log_context()):
        log.info("job.deletion", tenant=tenant, state=str(state))
    return JSONResponse(presentation.deletion(video_id, state))


@router.api_route("/{video_id}/content", methods=["GET", "HEAD"])
async def content(
    video_id: str, app: CurrentState, tenant: Tenant, variant: Literal["video", "thumbnail"] = "video"
) -> Response:
    """Send the client to the result in S3. The client drops its key on the way to another host."""
    record = await _find(app, video_id, tenant)
    artifact = record.artifact
    if not record.is_terminal:
        raise Conflict(
            f"The video is not ready: its job is {record.status}. Ask for its status until that is `completed`.",
            code="video_not_ready",
            param="video_id",
            headers=_poll_header(record),
        )
    if artifact is None:
        code = public_error(record.error_code)["code"]
        raise NotFound(
            f"There is no video: its job ended as {record.status} ({code}).",
            code=code,
            param="video_id",
        )
    if variant == "thumbnail" and artifact.thumbnail_key is None:
        raise NotFound("This video has no thumbnail.", code="no_thumbnail", param="variant")
    address = await run_in_threadpool(_sign, app, record, variant)
    return RedirectResponse(address, status_code=302, headers={"Cache-Control": "no-store"})


def _sign(app: AppState, record: JobRecord, variant: Variant) -> str:
    if record.artifact is None:
        raise ValueError(f"expected a job with an artifact, got {record.id}")
    return app.signer.presigned_url(record.artifact, variant=variant)


async def _find(app: AppState, video_id: str, tenant: str) -> JobRecord:
    return await app.ledger.call(lambda ledger: _own(ledger, video_id, tenant))


def _own(ledger: Ledger, video_id: str, tenant: str, *, param: str = "video_id") -> JobRecord:
    """The tenant's render job of this id.

    Raises:
        NotFound: there is none; another tenant's counts as none.
    """
    if not _ID.fullmatch(video_id):
        raise video_not_found(param)
    try:
        record = ledger.jobs.get(video_id)
    except JobNotFound:
        raise video_not_found(param) from None
    if record.tenant != tenant or record.kind is not Kind.RENDER:
        raise video_not_found(param)
    return record


def _poll_header(record: JobRecord) -> dict[str, str]:
    wait_ms = presentation.poll_after_ms(record, _now_ms())
    return {} if wait_ms is None else {POLL_AFTER: str(wait_ms)}


def _now_ms() -> int:
    return int(time.time() * 1000)
