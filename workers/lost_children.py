"""A GPU worker's main process sees that a process of its pool has died, and gives its attempt up at once.

What a process dies of without a word (a crash in a driver, the kernel's out-of-memory killer) would else be noticed
when its lease lapses, and as no more than that. The lease stays what makes sure: of the death of a whole worker, and of
a ledger that is away just now, nobody tells.
"""

import random
import threading
from collections.abc import Callable
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery import signals

from infra.logs import bound
from ledger import LedgerError
from ledger.models import JobRecord
from ledger.nudges import INHOUSE_TASK
from ledger.retries import Cause
from workers.failures import after_failure
from workers.oom_kills import oom_kills
from workers.resources import Resources

log = structlog.get_logger(__name__)


class ChildWatch:
    """Listens from `start` to `stop`, which may be called twice."""

    def __init__(self, open_ends: Resources, *, kills: Callable[[], int | None] = oom_kills) -> None:
        """`kills`: how many processes the kernel has killed for memory so far; None: it does not say."""
        self._open_ends = open_ends
        self._kills = kills
        self._killed = kills() or 0
        self._telling: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to listen."""
        signals.task_failure.connect(self._on_failure)

    def stop(self) -> None:
        """Listen no more."""
        signals.task_failure.disconnect(self._on_failure)

    def wait(self) -> None:
        """Wait until the ledger knows of everything that was heard."""
        for thread in self._telling:
            thread.join()

    def _on_failure(self, *, sender: Any = None, task_id: str = "", exception: object = None, **_: Any) -> None:
        if not isinstance(exception, WorkerLostError) or sender.name != INHOUSE_TASK:
            return
        # (Celery's loop waits for whoever listens, and the ledger may be away.)
        for_memory = {"for_memory": self._was_killed_for_memory()}
        thread = threading.Thread(target=self.give_up, args=(task_id, str(exception)), kwargs=for_memory, daemon=True)
        self._telling = [*(one for one in self._telling if one.is_alive()), thread]
        thread.start()

    def _was_killed_for_memory(self) -> bool:
        before, self._killed = self._killed, self._kills() or 0
        return self._killed > before

    def give_up(self, nudge_id: str, died: str, *, for_memory: bool) -> None:
        """End the attempt that the process had which took a nudge.

        Args:
            nudge_id: the message's id.
            died: how the process ended, in Celery's words.
            for_memory: the kernel killed it because memory ran out.
        """
        try:
            record = self._open_ends.ledger.attempts.held_by(nudge_id)
            if record is not None:
                with bound(**record.log_context()):
                    self._fail(record, died, for_memory=for_memory)
        except LedgerError as error:
            log.warning("attempt.left_to_its_lease", error=str(error))

    def _fail(self, record: JobRecord, died: str, *, for_memory: bool) -> None:
        cause = Cause.OUT_OF_MEMORY if for_memory else Cause.CRASH
        why = "the kernel killed it because the host's memory ran out" if for_memory else died
        message = f"the process that worked on attempt {record.attempt} died: {why}"
        log.warning("attempt.failed", cause=str(cause), error=message)
        outcome = self._open_ends.ledger.attempts.fail(
            record.id,
            record.attempt,
            cause=cause,
            message=message,
            max_attempts=self._open_ends.settings.max_attempts_of(record.kind),
            jitter=random.random(),
            where="host" if for_memory else None,
        )
        after_failure(outcome, cause, self._open_ends.nudger)
