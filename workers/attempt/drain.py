"""Drain: a worker that is asked to stop requeues its run: saved at the next step, else when the grace is over."""

import threading
from types import TracebackType
from typing import Self

import structlog

from infra.logs import bound
from ledger import LedgerError
from ledger.models import JobRecord
from ledger.retries import Cause
from workers.attempt.ending import fail
from workers.attempt.results import Failure
from workers.delivery import AttemptOf
from workers.resources import Resources
from workers.shutdown import StopRequest

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.2


class Drain:
    """Watches for the request while a run goes on. A context manager.

    The engine asks `is_asked` at each step and saves. One that does not come to its next step within the grace loses
    its attempt: the job waits again, and goes on from its last checkpoint.
    """

    def __init__(self, resources: Resources, record: JobRecord, request: StopRequest) -> None:
        self._resources = resources
        self._record = record
        self._request = request
        self._grace_s = resources.settings.train.stop_grace_s
        self._over = threading.Event()
        self._requeued = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"drain-{record.id}", daemon=True)

    def is_asked(self) -> bool:
        """Whether the run should save and end."""
        return self._request.is_made()

    def has_requeued(self) -> bool:
        """Whether the grace is over and the attempt is not ours any more."""
        return self._requeued.is_set()

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
                        self._requeue()
                    return

    def _requeue(self) -> None:
        of = AttemptOf(self._record.id, self._record.attempt)
        message = f"its worker was asked to stop, and the run had not saved after {self._grace_s:g} s"
        try:
            fail(self._resources, of, self._record.kind, Failure(Cause.PREEMPTED, message), patience_s=0)
        except LedgerError as error:
            log.warning("training.not_requeued", error=str(error))  # its lease lapses
            return
        self._requeued.set()
