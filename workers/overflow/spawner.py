"""Spawning: the intent is in the ledger before the call exists, the call's id right after."""

import random
from collections import Counter

import structlog

from engines.render.errors import InvalidRenderRequest
from ledger import Ledger
from ledger.models import JobRecord
from ledger.outcomes import Failed, Requeued, Stale
from ledger.retries import Cause
from workers.logs import bound
from workers.nudging import CeleryNudger
from workers.overflow.calls import ModalCalls
from workers.overflow.endings import MaybeCall, NoCall, classify_spawn_error
from workers.patience import patiently
from workers.requests import NoEngine, render_request
from workers.settings import Settings

log = structlog.get_logger(__name__)

#: How long a claim lasts beyond its spawn, seconds: room for the ledger's own calls.
_CLAIM_MARGIN_S = 5.0


class Spawner:
    """Turns placed Modal attempts into calls. Any number of them may run at once."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, nudger: CeleryNudger, settings: Settings) -> None:
        self._ledger = ledger
        self._calls = calls
        self._nudger = nudger
        self._settings = settings

    def run(self, *, worker: str) -> dict[str, int]:
        """Spawn everything that waits for it, a batch at a time. Returns how often each thing happened."""
        tally: Counter[str] = Counter()
        # One at a time under its own claim: a slow answer of Modal never eats into another attempt's lease.
        lease_s = self._settings.spawn_timeout_s + _CLAIM_MARGIN_S
        for _ in range(self._settings.spawn_batch):
            claimed = self._ledger.calls.claim_spawns(worker=worker, limit=1, lease_s=lease_s)
            if not claimed:
                break
            for record in claimed:
                with bound(**record.log_context(), gpu=record.gpu):
                    tally[self._spawn(record)] += 1
        return dict(tally)

    def _spawn(self, record: JobRecord) -> str:
        try:
            request = render_request(record, self._settings)
        except (NoEngine, InvalidRenderRequest) as error:
            return self._fail(record, Cause.INVALID_REQUEST, message=str(error), call_may_run=False)
        try:
            call_id = self._calls.spawn(
                request.to_wire(),
                attempt_of=(record.id, record.attempt),
                gpu=record.gpu or "",
                timeout_s=self._settings.spawn_timeout_s,
            )
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; each is classified
            return self._spawn_failed(record, error)
        return self._record(record, call_id)

    def _record(self, record: JobRecord, call_id: str) -> str:
        wanted = patiently(
            lambda: self._ledger.calls.record_call(
                record.id,
                record.attempt,
                call_id=call_id,
                first_check_s=self._settings.poll_first_s,
                deadline_s=self._settings.call_deadline_s,
            ),
            for_s=self._settings.spawn_timeout_s,
        )
        if wanted:
            log.info("call.spawned", call_id=call_id)
            return "spawned"
        log.info("call.unwanted", call_id=call_id)
        return "unwanted"

    def _spawn_failed(self, record: JobRecord, error: BaseException) -> str:
        match classify_spawn_error(error):
            case NoCall(message):
                return self._fail(record, Cause.SPAWN_REFUSED, message=message, call_may_run=False)
            case MaybeCall(message):
                return self._fail(record, Cause.SPAWN_LOST, message=message, call_may_run=True)

    def _fail(self, record: JobRecord, cause: Cause, *, message: str, call_may_run: bool) -> str:
        log.warning("call.not_spawned", cause=str(cause), error=message)
        outcome = patiently(
            lambda: self._ledger.attempts.fail(
                record.id,
                record.attempt,
                cause=cause,
                message=message,
                max_attempts=self._settings.max_attempts,
                jitter=random.random(),
                call_may_run=call_may_run,
            ),
            for_s=self._settings.spawn_timeout_s,
        )
        match outcome:
            case Requeued(nudge):
                self._nudger.send(nudge)
                return str(cause)
            case Failed() | Stale():
                return str(cause)
