"""What other services import: submit a job, read its state, wait for its end, cancel it.

    import overspill

    job_id = overspill.submit(prompt="a red ball", seconds=4)
    record = overspill.wait(job_id, timeout_s=600)
    print(record.artifact)

The functions use one client made from the environment (`OVERSPILL_LEDGER_URL`, `OVERSPILL_BROKER_URL`); `Client` and
`AsyncClient` are the same verbs with settings of your own. When `submit` has returned, the job is in the ledger and
will end. The Celery message that follows is only a nudge: if the broker is away, the job starts some seconds later.

Light to import: the ledger and nothing else of ours; Celery is imported when the first nudge is sent.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Self

from ledger.errors import LedgerUnavailable
from ledger.models import Job, JobRecord, Kind, parse_job
from ledger.outcomes import AlreadyEnded, Cancelled
from ledger.settings import LedgerSettings
from ledger.states import State
from ledger.store import Ledger
from overspill.nudging import NUDGE_WAIT_S, CelerySender, NudgeSender, Nudging

# The standard library's logger, unlike elsewhere in this project: this module lives in other people's processes, where
# structlog may not be configured and would print to their stdout.
log = logging.getLogger("overspill.client")

KindName = Literal["render", "train"] | Kind

#: Interval between two polls, as a share of the time waited so far: a job's end is noticed after a tenth of its length.
POLL_SHARE = 0.1
#: Bounds of the interval between two polls, seconds.
POLL_MIN_S, POLL_MAX_S = 0.1, 5.0


class ClientError(Exception):
    """What the client itself raises. The ledger's errors (`LedgerUnavailable`, `JobNotFound`, ...) pass as they are."""


class WaitTimeout(ClientError, TimeoutError):
    """The job had not ended in time. It goes on; wait again, or cancel it.

    Attributes:
        job_id: the job.
        timeout_s: the timeout, seconds.
        record: its record at the last poll; None if the ledger could not be asked.
    """

    def __init__(self, job_id: str, timeout_s: float, record: JobRecord | None) -> None:
        self.job_id = job_id
        self.timeout_s = timeout_s
        self.record = record
        stands = f"it is {record.state}" if record else "the ledger did not answer"
        super().__init__(
            f"expected job {job_id} to end within {timeout_s:g} s; {stands}. It goes on: wait again, or cancel it."
        )


class JobFailed(ClientError):
    """The job ended without a result: it failed, was refused, or was cancelled (code `cancelled`).

    Attributes:
        job_id: the job.
        code: why, in one word: `out_of_memory`, `budget_exhausted`, `cancelled`, ...
        message: why, in a sentence.
        record: the whole record.
    """

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.job_id = record.id
        self.code = record.error_code or "unknown"
        self.message = record.error_message or "no reason was recorded"
        super().__init__(f"expected job {record.id} to complete; it {record.state} ({self.code}): {self.message}")


def poll_interval_s(waited_s: float) -> float:
    """Interval before the next poll of a job after `waited_s` seconds of waiting."""
    return min(max(waited_s * POLL_SHARE, POLL_MIN_S), POLL_MAX_S)


def _ended(record: JobRecord) -> bool:
    """Whether the job has completed; False while it goes on.

    Raises:
        JobFailed: it failed or was cancelled.
    """
    match record.state:
        case State.COMPLETED:
            return True
        case State.FAILED | State.CANCELLED:
            raise JobFailed(record)
        case State.QUEUED | State.HELD | State.PLACED | State.RUNNING | State.DELIVERING:
            return False


def _next_sleep_s(job_id: str, waited_s: float, timeout_s: float | None, record: JobRecord | None) -> float:
    """Time until the next poll; the last poll is at the very end of the timeout.

    Raises:
        WaitTimeout: the time is over.
    """
    if timeout_s is None:
        return poll_interval_s(waited_s)
    if waited_s >= timeout_s:
        raise WaitTimeout(job_id, timeout_s, record)
    return min(poll_interval_s(waited_s), timeout_s - waited_s)


def _job_of(job: Job | None, kind: KindName | None, fields: dict[str, Any]) -> Job:
    if job is None:
        return parse_job(Kind(kind or Kind.RENDER), fields)
    if kind is not None or fields:
        raise TypeError(f"expected a job or its fields, got both: {', '.join(['kind'] * bool(kind) + sorted(fields))}")
    return job


def _current_trace() -> str | None:
    """The caller's trace, if its process uses OpenTelemetry; nothing is imported for it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class Client:
    """A connection to the system. Safe to share between threads; make one per process, after a fork.

    Args:
        settings: where the ledger and the broker are; None reads the environment.
        sender: sends nudges; None: by Celery.
        nudge_wait_s: longest that `submit` waits for its nudge to be sent, seconds.
        clock: seconds on a clock that never jumps.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        settings: LedgerSettings | None = None,
        *,
        sender: NudgeSender | None = None,
        nudge_wait_s: float = NUDGE_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        settings = settings or LedgerSettings()
        self._ledger = Ledger(settings)
        by_celery = CelerySender(settings.broker_url.get_secret_value(), keys=settings.keys_of_nudges)
        self._nudging = Nudging(sender or by_celery, nudge_wait_s)
        self._clock = clock
        self._sleep = sleep

    def submit(
        self,
        job: Job | None = None,
        /,
        *,
        kind: KindName | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> str:
        """Submit a job. When this returns, the job is accepted and will end.

        Args:
            job: a `RenderJob` or a `TrainJob`; or leave it out and give its fields as keywords.
            kind: with fields: `render` (the default) or `train`.
            idempotency_key: the same key, tenant and job within a day: the same job back, never a second one.
            **fields: what the job is, e.g. `prompt="a red ball", seconds=4`.

        Returns:
            The job's id.

        Raises:
            pydantic.ValidationError: a field is missing, unknown, or out of its bounds.
            IdempotencyConflict: the key stands for another job.
            TenantQuotaExceeded: the tenant has as much as it may have at once.
            ModelNotFound: it names the model of a train job that its tenant does not have.
            LedgerUnavailable, LedgerFull: the job was not accepted. (If only Redis's answer was lost, it was accepted
                whole: send it again with the same idempotency key.)
        """
        submitted = self._ledger.jobs.submit(
            _job_of(job, kind, fields),
            source="client",
            idempotency_key=idempotency_key,
            traceparent=_current_trace(),
        )
        self._nudging.send(submitted.nudge)
        return submitted.job_id

    def status(self, job_id: str) -> JobRecord:
        """A job's record.

        Raises:
            JobNotFound: no job has this id.
            LedgerUnavailable: the ledger did not answer.
        """
        return self._ledger.jobs.get(job_id)

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> JobRecord:
        """Wait until a job has completed. An unavailable ledger is waited for, too.

        Args:
            job_id: the job.
            timeout_s: longest wait, seconds; None: for ever.

        Returns:
            The record of the completed job; `artifact` says where its result is.

        Raises:
            JobFailed: the job failed or was cancelled.
            WaitTimeout: it had not ended in time; it goes on.
            JobNotFound: no job has this id.
        """
        began = self._clock()
        while True:
            record = _poll(self, job_id)
            if record is not None and _ended(record):
                return record
            self._sleep(_next_sleep_s(job_id, self._clock() - began, timeout_s, record))

    def cancel(self, job_id: str) -> Cancelled | AlreadyEnded:
        """Cancel a job, in any state; a GPU that works on it stops. `AlreadyEnded`: there was nothing to cancel.

        Raises:
            JobNotFound: no job has this id.
            LedgerUnavailable: the ledger did not answer.
        """
        return self._ledger.jobs.cancel(job_id)

    def close(self) -> None:
        """Close the connections to Redis and the broker. May be called twice."""
        self._nudging.close()
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _poll(client: Client, job_id: str) -> JobRecord | None:
    """The record, or None while the ledger is away."""
    try:
        return client.status(job_id)
    except LedgerUnavailable as error:
        log.warning("ledger.unavailable", extra={"job_id": job_id, "reason": error.reason})
        return None


class AsyncClient:
    """`Client` for asyncio: the same verbs, arguments and errors. The work is done in threads; `wait` holds none."""

    def __init__(
        self,
        settings: LedgerSettings | None = None,
        *,
        sender: NudgeSender | None = None,
        nudge_wait_s: float = NUDGE_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = Client(settings, sender=sender, nudge_wait_s=nudge_wait_s, clock=clock)
        self._clock = clock

    async def submit(
        self,
        job: Job | None = None,
        /,
        *,
        kind: KindName | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> str:
        """See `Client.submit`."""
        return await asyncio.to_thread(
            lambda: self._client.submit(job, kind=kind, idempotency_key=idempotency_key, **fields)
        )

    async def status(self, job_id: str) -> JobRecord:
        """See `Client.status`."""
        return await asyncio.to_thread(self._client.status, job_id)

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> JobRecord:
        """See `Client.wait`."""
        began = self._clock()
        while True:
            record = await asyncio.to_thread(_poll, self._client, job_id)
            if record is not None and _ended(record):
                return record
            await asyncio.sleep(_next_sleep_s(job_id, self._clock() - began, timeout_s, record))

    async def cancel(self, job_id: str) -> Cancelled | AlreadyEnded:
        """See `Client.cancel`."""
        return await asyncio.to_thread(self._client.cancel, job_id)

    async def close(self) -> None:
        """See `Client.close`."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_lock = threading.Lock()
_default: Client | None = None


def _default_client() -> Client:
    global _default  # noqa: PLW0603 - one client per process is what the module's functions are about
    with _lock:
        if _default is None:
            _default = Client()
        return _default


def _forget_default_client() -> None:
    global _default, _lock
    # A forked child has the parent's sockets and none of its threads; the lock may have been held by one of those.
    _default, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_default_client)


def submit(
    job: Job | None = None,
    /,
    *,
    kind: KindName | None = None,
    idempotency_key: str | None = None,
    **fields: Any,
) -> str:
    """Submit a job, by the client of the environment; see `Client.submit`."""
    return _default_client().submit(job, kind=kind, idempotency_key=idempotency_key, **fields)


def status(job_id: str) -> JobRecord:
    """A job's record; see `Client.status`."""
    return _default_client().status(job_id)


def wait(job_id: str, *, timeout_s: float | None = None) -> JobRecord:
    """Wait until a job has completed; see `Client.wait`."""
    return _default_client().wait(job_id, timeout_s=timeout_s)


def cancel(job_id: str) -> Cancelled | AlreadyEnded:
    """Cancel a job; see `Client.cancel`."""
    return _default_client().cancel(job_id)
