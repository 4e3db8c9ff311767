"""The spawner: writes the intent into the ledger before a call exists, spawns it, records its id right after.

Many spawns go out at once, each under its own lease from the moment that it is claimed, so a slow one never eats into
another's. All overflow workers share one rate of spawns, and one circuit breaker (see breaker).
"""

import asyncio
import contextvars
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from engines.render.errors import InvalidRenderRequest
from infra.logs import bound
from infra.retrying import retry_while_unavailable
from infra.tracing import of_job, tracing
from ledger import LedgerFull, LedgerUnavailable
from ledger.errors import ModelNotFound
from ledger.models import JobRecord, Kind
from ledger.polling import SpawnClaim, SpawnRate
from ledger.retries import Cause
from modal_apps.uploads import UploadAddress
from workers.attempt.ending import after_failure
from workers.overflow.breaker import REQUEUE_PAUSE_S, FailureReason, Gate, Phase
from workers.overflow.classify import MaybeCall, NoCall, classify_spawn_error
from workers.overflow.modal_sdk.port import ModalCalls
from workers.requests import NoEngine, check_used_model, render_request
from workers.resources import Resources
from workers.training.spawning import NotSpawned, TrainSpawning

#: Spawns at once in one process; Modal's client stalls near 100 requests.
CONCURRENCY = 20
#: Longest that one overflow task spawns; the next nudge goes on, seconds.
RUN_S = 60.0

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: How long a claim lasts beyond its spawn, seconds: room for the ledger's own calls.
_CLAIM_MARGIN_S = 5.0
#: Longest nap while the rate allows nothing, seconds.
_NAP_S = 0.5
#: Hints work if one came within this time, seconds.
HINTS_WORK_S = 120.0
#: An upload address outlives its call's deadline by this, seconds.
EXPIRY_MARGIN_S = 600.0


class Spawner:
    """Turns placed Modal attempts into calls. One in each process; nudges that come while it works join it."""

    def __init__(self, resources: Resources, calls: ModalCalls, gate: Gate) -> None:
        self._resources = resources
        self._ledger = resources.ledger
        self._calls = calls
        self._gate = gate
        self._settings = resources.settings
        self._train = TrainSpawning(resources)
        self._rate = SpawnRate(
            per_s=self._settings.spawn.rate_per_s,
            burst=max(1.0, self._settings.spawn.rate_per_s * self._settings.spawn.burst_s),
        )
        self._working = threading.Lock()
        self._again = threading.Event()

    def run(self, *, worker: str) -> dict[str, int]:
        """Spawn everything that waits for it. Returns how often each thing happened."""
        tally: Counter[str] = Counter()
        while True:
            self._again.set()
            if not self._working.acquire(blocking=False):
                # The thread that works sees the mark when it is done, and claims once more.
                return dict(tally) or {"joined": 1}
            try:
                self._again.clear()
                with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="spawn") as threads:
                    asyncio.run(self._spawn_all(worker, tally, threads))
            finally:
                self._working.release()
            if not self._again.is_set():
                return dict(tally)

    async def _spawn_all(self, worker: str, tally: "Counter[str]", threads: ThreadPoolExecutor) -> None:
        """Claim as many as can begin at once, begin them, and so on until none waits or the time is over."""
        until = time.monotonic() + RUN_S
        in_flight: set[asyncio.Task[None]] = set()

        async def one(record: JobRecord, claim: SpawnClaim) -> None:
            parent = of_job(record.id, record.traceparent)
            facts = {"job_id": record.id, "attempt": record.attempt, "gpu": record.gpu}
            with bound(**record.log_context(), gpu=record.gpu), tracing().span("spawn", parent=parent, **facts) as span:
                try:
                    outcome = await self._spawn(record, claim, threads)
                except Exception:
                    # An error about one spawn does not reach the others. Its claim lapses; a sweep ends the attempt.
                    log.exception("spawn.crashed")
                    outcome = "crashed"
                span.note(outcome=outcome)
            tally[outcome] += 1

        await self._in(threads, self._gate.read)
        try:
            while time.monotonic() < until:
                claim = await self._claim(worker, len(in_flight), threads)
                in_flight |= {asyncio.create_task(one(record, claim)) for record in claim.records}
                if claim.phase == Phase.OPEN:
                    tally["requeued"] += len(await self._requeue(None, "breaker_open", threads))
                    break
                if not claim.records and not in_flight and not claim.waiting:
                    break
                if not claim.records or len(in_flight) >= CONCURRENCY:
                    in_flight -= await self._pause(in_flight, claim)
        finally:
            if in_flight:
                await asyncio.wait(in_flight)

    async def _claim(self, worker: str, busy: int, threads: ThreadPoolExecutor) -> SpawnClaim:
        most = CONCURRENCY
        if self._gate.phase is Phase.HALF_OPEN:
            most = min(most, self._gate.rules.probes)
        return await self._in(
            threads,
            lambda: self._ledger.modal_calls.claim_spawns(
                worker=worker,
                limit=max(0, most - busy),
                lease_s=self._settings.spawn.timeout_s + _CLAIM_MARGIN_S,
                rate=self._rate,
            ),
        )

    async def _pause(self, in_flight: set[asyncio.Task[None]], claim: SpawnClaim) -> set[asyncio.Task[None]]:
        """Until a spawn has ended or the rate allows another; returns what has ended."""
        nap_s = min(_NAP_S, max(claim.wait_s, 0.01)) if claim.waiting else _NAP_S
        if not in_flight:
            await asyncio.sleep(nap_s)
            return set()
        done, _ = await asyncio.wait(in_flight, timeout=nap_s, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _spawn(self, record: JobRecord, claim: SpawnClaim, threads: ThreadPoolExecutor) -> str:
        try:
            start = await self._prepared(record, threads)
        except NotSpawned as error:
            return await self._not_spawned(record, error, threads)
        except (NoEngine, InvalidRenderRequest, ModelNotFound) as error:
            return await self._in(threads, self._failing(record, Cause.INVALID_REQUEST, str(error)))
        except (LedgerUnavailable, LedgerFull) as error:
            log.info("call.not_spawned", cause="ledger_away", error=str(error))
            await self._requeue([(record.id, record.attempt)], "ledger_away", threads)
            return "ledger_away"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and ends the attempt
            # Nothing was sent to Modal: no call exists, whatever went wrong here. (A record that cannot be read is set
            # aside by the dispatcher that claims it next; by then nothing is reserved for it.)
            return await self._not_prepared(record, error, threads)
        try:
            call_id = await start()
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; each is classified
            return await self._spawn_failed(record, error, threads)
        outcome = await self._in(threads, lambda: self._record(record, claim, call_id))
        if self._gate.phase is not Phase.CLOSED:
            await self._in(threads, self._gate.succeeded)
        return outcome

    async def _prepared(self, record: JobRecord, threads: ThreadPoolExecutor) -> Callable[[], Awaitable[str]]:
        """The spawn itself, with everything prepared.

        Raises:
            NotSpawned: a train job cannot be begun, or not now.
            NoEngine, InvalidRenderRequest, ModelNotFound: it cannot be asked for.
        """
        attempt_of, gpu, timeout_s = (record.id, record.attempt), record.gpu or "", self._settings.spawn.timeout_s
        await self._in(threads, lambda: check_used_model(self._ledger, record))
        if record.kind is Kind.TRAIN:
            wire = await self._in(threads, lambda: self._train.request_for(record))
            return lambda: self._calls.spawn_train(wire, attempt_of=attempt_of, gpu=gpu, timeout_s=timeout_s)
        request = render_request(record, self._settings)
        upload_to = upload_addresses(self._resources, record)
        return lambda: self._calls.spawn(
            request.to_wire(), attempt_of=attempt_of, gpu=gpu, timeout_s=timeout_s, upload_to=upload_to
        )

    async def _not_spawned(self, record: JobRecord, error: NotSpawned, threads: ThreadPoolExecutor) -> str:
        if error.cause is None:
            log.info("call.not_spawned", cause="away", error=str(error))
            await self._requeue([(record.id, record.attempt)], "store_away", threads)
            return "away"
        return await self._in(threads, self._failing(record, error.cause, str(error)))

    async def _not_prepared(self, record: JobRecord, error: BaseException, threads: ThreadPoolExecutor) -> str:
        """This machine's fault: nothing stays reserved, and the job comes again, by a count of retries of its own."""
        log.error("spawn.not_prepared", exc_info=error)
        await self._in(threads, lambda: self._ledger.tally("spawn_errors_total", "reason=not_prepared"))
        message = f"the spawn could not be prepared: {type(error).__name__}: {error}"
        return await self._in(threads, self._failing(record, Cause.SPAWN_NOT_PREPARED, message))

    def _record(self, record: JobRecord, claim: SpawnClaim, call_id: str) -> str:
        hints_work = claim.hint_age_s is not None and claim.hint_age_s < HINTS_WORK_S
        wanted = retry_while_unavailable(
            lambda: self._ledger.modal_calls.record_call(
                record.id,
                record.attempt,
                call_id=call_id,
                first_check_s=self._settings.poll.hinted_s if hints_work else self._settings.poll.first_s,
                deadline_s=self._settings.call_deadline_of(record.kind),
            ),
            for_s=self._settings.spawn.timeout_s,
        )
        log.info("call.spawned" if wanted else "call.unwanted", call_id=call_id)
        return "spawned" if wanted else "unwanted"

    async def _spawn_failed(self, record: JobRecord, error: BaseException, threads: ThreadPoolExecutor) -> str:
        failure = classify_spawn_error(error)
        if failure.reason is FailureReason.NOT_DEPLOYED and await self._is_deployed():
            # What this one job asks for is missing (a GPU class, the trainer's app): that concerns no other job.
            failure = NoCall(f"{failure.message} (the renderer is deployed)")
        if isinstance(failure, NoCall) and failure.is_local:
            return await self._not_prepared(record, error, threads)
        label = str(failure.reason or "error")
        await self._in(threads, lambda: self._ledger.tally("spawn_errors_total", f"reason={label}"))
        if failure.reason is not None:
            reason: FailureReason = failure.reason
            await self._in(threads, lambda: self._gate.failed(reason))
        match failure:
            case NoCall(message, None):
                return await self._in(threads, self._failing(record, Cause.SPAWN_REFUSED, message))
            case NoCall(message, _):
                # Not the job's fault, and no call exists: it is decided about again, and no retry is used up.
                log.info("call.not_spawned", cause=label, error=message)
                await self._requeue([(record.id, record.attempt)], label, threads)
                return label
            case MaybeCall(message):
                return await self._in(threads, self._failing(record, Cause.SPAWN_LOST, message))

    async def _is_deployed(self) -> bool:
        try:
            await self._calls.probe()
        except Exception:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known to be there
            return False
        return True

    async def _requeue(
        self, attempts: list[tuple[str, int]] | None, reason: str, threads: ThreadPoolExecutor
    ) -> list[str]:
        return await self._in(
            threads,
            lambda: retry_while_unavailable(
                lambda: self._ledger.modal_calls.reschedule_spawns(attempts, reason=reason, pause_s=REQUEUE_PAUSE_S),
                for_s=self._settings.spawn.timeout_s,
            ),
        )

    def _failing(self, record: JobRecord, cause: Cause, message: str) -> Callable[[], str]:
        """The work of ending an attempt without a call, or with one of unknown id."""

        def fail() -> str:
            log.warning("call.not_spawned", cause=str(cause), error=message)
            outcome = retry_while_unavailable(
                lambda: self._ledger.attempts.fail(
                    record.id,
                    record.attempt,
                    cause=cause,
                    message=message,
                    max_attempts=self._settings.attempts.max_attempts_of(record.kind),
                    jitter=random.random(),
                    call_may_run=cause is Cause.SPAWN_LOST,
                ),
                for_s=self._settings.spawn.timeout_s,
            )
            after_failure(outcome, cause, self._resources.nudger)
            return str(cause)

        return fail

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Blocking work in a thread of the spawner's own pool, which no other work fills."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(work))


def upload_addresses(resources: Resources, record: JobRecord) -> Mapping[str, UploadAddress] | None:
    """Where an attempt's container puts its files; None: they come back as the function's result."""
    settings = resources.settings
    if settings.modal.result_transport == "inline":
        return None
    return resources.artifacts.upload_addresses(
        record.id, record.attempt, expires_in_s=settings.modal.call_deadline_s + EXPIRY_MARGIN_S
    )
