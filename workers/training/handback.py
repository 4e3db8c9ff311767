"""A worker that is asked to stop puts its run back: at the next step's checkpoint, else when the grace is over."""

import random
import threading
from types import TracebackType
from typing import Self

import structlog

from infra.logs import bound
from ledger import LedgerError
from ledger.models import JobRecord
from ledger.outcomes import Requeued
from ledger.retries import Cause
from workers.resources import Resources
from workers.shutdown import StopRequest

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.2


class HandBack:
    """Watches for the request while a run goes on. A context manager.

    The engine asks `is_asked` at each step and saves. One that does not come to its next step within the grace loses
    its attempt: the job waits again, and goes on from its last checkpoint.
    """

    def __init__(self, open_ends: Resources, record: JobRecord, request: StopRequest) -> None:
        self._open = open_ends
        self._record = record
        self._request = request
        self._grace_s = open_ends.settings.train_stop_grace_s
        self._over = threading.Event()
        self._given_back = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"hand-back-{record.id}", daemon=True)

    def is_asked(self) -> bool:
        """Whether the run should save and end."""
        return self._request.is_made()

    def is_given_back(self) -> bool:
        """Whether the grace is over and the attempt is not ours any more."""
        return self._given_back.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(self._grace_s)

    def _run(self) -> None:
        with bound(**self._record.log_context()):
            while not self._over.wait(_LOOK_EVERY_S):
                if self.is_asked():
                    log.info("training.asked_to_stop", grace_s=self._grace_s)
                    if not self._over.wait(self._grace_s):
                        self._give_back()
                    return

    def _give_back(self) -> None:
        settings = self._open.settings
        try:
            outcome = self._open.ledger.attempts.fail(
                self._record.id,
                self._record.attempt,
                cause=Cause.PREEMPTED,
                message=f"its worker was asked to stop, and the run had not saved after {self._grace_s:g} s",
                max_attempts=settings.max_attempts_of(self._record.kind),
                jitter=random.random(),
            )
        except LedgerError as error:
            log.warning("training.not_given_back", error=str(error))  # its lease lapses
            return
        self._given_back.set()
        if isinstance(outcome, Requeued):
            log.info("job.requeued", cause=str(Cause.PREEMPTED))
            self._open.nudger.send(outcome.nudge)
