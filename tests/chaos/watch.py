"""Asks `Ledger.audit()` again and again while faults strike: what must always hold must hold then too."""

import threading

from pydantic import SecretStr
from redis.exceptions import RedisError

from ledger import Ledger, LedgerError
from ledger.limits import Limits
from tests.support.settings import ledger_settings_of

#: Between two audits, seconds. Each reads every job.
EVERY_S = 10.0
#: The limits of the settings' defaults, which the runs use.
LIMITS = Limits(month_cap_usd_micros=100_000_000_000, max_modal_attempts=100)
#: So many different violations are kept.
_MOST_KEPT = 200


class AuditWatch:
    """Audits in a thread of its own. start, stop; may be stopped twice.

    Attributes:
        audits: how often it could ask.
        found: every violation that was ever seen, once, with when it was seen first.
    """

    def __init__(self, url: str) -> None:
        self._ledger = Ledger(ledger_settings_of(ledger_url=SecretStr(url), ledger_timeout_s=10))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-watch", daemon=True)
        self.audits = 0
        self.found: dict[str, str] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and let go of the connection."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._ledger.close()

    def audit(self) -> None:
        """Ask once, now.

        Raises:
            LedgerError: Redis does not answer.
        """
        for one in self._ledger.audit(LIMITS):
            if len(self.found) < _MOST_KEPT:
                self.found.setdefault(f"{one.invariant} {one.job_id} {one.what}", f"audit {self.audits + 1}")
        self.audits += 1

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self.audit()
            except (LedgerError, RedisError):
                continue  # Redis is one of those that are struck
