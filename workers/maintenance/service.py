"""One duty in a thread of its own: leader lease, error boundary, health. And all duties of a process together."""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from infra.background import BackgroundService
from ledger import Ledger, LedgerError
from ledger.errors import LedgerFull, LedgerUnavailable
from workers.maintenance.duties import DutyName, Pace

log = structlog.get_logger(__name__)

#: The longest pause after rounds that crashed, seconds: it doubles with each, so a lasting bug does not fill the logs.
LONGEST_PAUSE_S = 30.0


class StoreAway(Exception):
    """A store that a round needs did not answer. What is left to do is in the ledger; a later round does it."""


@dataclass(frozen=True)
class Duty:
    """Something that one process at a time does again and again."""

    name: DutyName
    #: One bounded round. It raises what it likes.
    work: Callable[[], object]
    pace: Pace


class MaintenanceService(BackgroundService):
    """Does one duty while it leads it, until it is stopped. Ready when it has first asked for its lease."""

    #: A round that hangs is left behind, seconds; its thread ends with the process.
    STOP_TIMEOUT_S = 5.0

    def __init__(self, duty: Duty, ledger: Ledger, *, owner: str) -> None:
        super().__init__(f"maintenance-{duty.name}")
        self.duty = duty
        self._ledger = ledger
        self._owner = owner
        self._crashed_rounds = 0
        self._is_ledger_away = False

    def run(self) -> None:
        """Round after round; then the lease is given up."""
        while not self.stopping.is_set():
            self.stopping.wait(self.round())
        try:
            self._ledger.maintenance.resign(self.duty.name, owner=self._owner)
        except LedgerError as error:
            log.warning("maintenance.not_resigned", duty=self.duty.name, error=str(error))

    def round(self) -> float:
        """One round, if the lease is ours. Whatever it raises ends here. Returns the pause until the next, seconds."""
        try:
            leads = self._ledger.maintenance.lead(self.duty.name, owner=self._owner, lease_s=self.duty.pace.lease_s)
            self.is_ready.set()
            if leads:
                self.duty.work()
                self._ledger.maintenance.done(self.duty.name)
        except (LedgerUnavailable, LedgerFull) as error:
            # It is the same for all duties, and has an alert of its own: one line for an outage.
            self.is_ready.set()
            if not self._is_ledger_away:
                log.warning("maintenance.ledger_away", duty=self.duty.name, error=str(error))
            self._is_ledger_away = True
            return self.duty.pace.interval_s
        except StoreAway as error:
            log.warning("maintenance.store_away", duty=self.duty.name, failed_rounds=self._count(), error=str(error))
        except Exception:
            self._crashed_rounds += 1
            log.exception("maintenance.round_crashed", duty=self.duty.name, failed_rounds=self._count())
        else:
            self._crashed_rounds = 0
        self._is_ledger_away = False
        interval_s = self.duty.pace.interval_s
        return min(interval_s * 2.0 ** min(self._crashed_rounds, 30), max(interval_s, LONGEST_PAUSE_S))

    def _count(self) -> int | None:
        """How many rounds have failed in a row; None: the ledger does not say."""
        try:
            return self._ledger.maintenance.failed(self.duty.name)
        except Exception as error:  # noqa: BLE001 - the boundary itself must not raise
            log.warning("maintenance.failure_not_counted", duty=self.duty.name, error=str(error))
            return None


class Maintenance:
    """All maintenance services of a process. start, ready, stop; may be stopped twice."""

    def __init__(self, duties: Sequence[Duty], ledger: Ledger, *, close: Callable[[], object] = lambda: None) -> None:
        """`close` lets go of what the duties hold open; it is called when all have stopped."""
        # A process that is started again under its old number is another owner.
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.services = [MaintenanceService(duty, ledger, owner=owner) for duty in duties]
        self._close = close

    def start(self) -> None:
        """Begin all."""
        for service in self.services:
            service.start()

    def ready(self, timeout_s: float) -> bool:
        """Wait until each has asked for its lease. False: one had not within `timeout_s` seconds."""
        return all(service.ready(timeout_s) for service in self.services)

    def stop(self) -> None:
        """End all, and give up their leases. One that hangs is left behind."""
        for service in self.services:
            service.stopping.set()
        for service in self.services:
            service.stop()
        self._close()
