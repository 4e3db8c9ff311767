"""Keeps an in-house lease alive while the engine runs, and says when it is lost.

A lease ends `lease_s` after its last renewal, by Redis's clock. It is renewed three times in that time, from a thread
of its own, so an engine that computes for minutes holds it. Two ways to lose it: the ledger says so (the job was
cancelled, or given to another attempt), and then the engine is asked to stop. The ledger being away is not a loss:
the work goes on, and the fencing token decides at the end.
"""

import threading
from types import TracebackType
from typing import Self

import structlog

from infra.logs import bound
from ledger import Ledger, LedgerError
from ledger.models import JobRecord
from ledger.outcomes import Lost, Renewed

log = structlog.get_logger(__name__)

#: Renewals in one lease time.
RENEWALS_PER_LEASE = 3


class LeaseKeeper:
    """Renews one attempt's lease in the background. A context manager; leaving it twice is fine."""

    def __init__(self, ledger: Ledger, record: JobRecord, *, lease_s: float) -> None:
        self._ledger = ledger
        self._record = record
        self._lease_s = lease_s
        self._progress = 0
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{record.id}", daemon=True)

    def note_progress(self, share: float) -> None:
        """Remember how far the engine is (0.0 to 1.0); the next renewal tells the ledger."""
        self._progress = int(share * 98)

    def is_lost(self) -> bool:
        """Whether the attempt is not ours any more: stop."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=self._lease_s)

    def _run(self) -> None:
        with bound(**self._record.log_context()):
            while not self._stopped.wait(self._lease_s / RENEWALS_PER_LEASE):
                try:
                    outcome = self._ledger.attempts.renew(
                        self._record.id, self._record.attempt, lease_s=self._lease_s, progress=self._progress
                    )
                except LedgerError as error:
                    log.warning("lease.not_renewed", error=str(error))
                    continue
                match outcome:
                    case Renewed():
                        continue
                    case Lost(state, attempt):
                        log.warning("lease.lost", job_state=state, newest_attempt=attempt)
                        self._lost.set()
                        return
