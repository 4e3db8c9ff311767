"""The orphan sweep: calls that run on Modal are compared with the ledger, and those that nobody waits for are stopped.

A spawn whose answer was lost, or whose spawner died before it wrote the id, leaves a call that the ledger does not
know. Before it works such a call announces itself (modal_apps/announce.py), so it is found here, within one sweep of
its beginning. One process at a time has the duty, by lease.
"""

import asyncio
import os
import socket
import time

import structlog

from ledger import Ledger, LedgerError
from modal_apps.announce import Announcement
from workers.logs import bound
from workers.overflow.calls import ModalCalls

log = structlog.get_logger(__name__)

DUTY = "orphan-sweep"


class OrphanSweep:
    """Compares announcements with the ledger, now and then."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, *, every_s: float) -> None:
        self._ledger = ledger
        self._calls = calls
        self._every_s = every_s
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._next_at = 0.0

    async def if_due(self) -> None:
        """Sweep, if the time has come and the duty is ours. Modal being away is logged and tried again."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._every_s
        if not await asyncio.to_thread(
            self._ledger.sweeps.lead, DUTY, owner=self._owner, lease_s=max(5.0, 2 * self._every_s)
        ):
            return
        try:
            found = await self._calls.announced()
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that Modal cannot be asked now
            log.warning("orphans.not_asked", error=f"{type(error).__name__}: {error}")
            return
        for announcement in found:
            with bound(job_id=announcement.job_id, attempt=announcement.attempt, call_id=announcement.call_id):
                try:
                    await self._compare(announcement)
                except LedgerError:
                    raise
                except Exception as error:  # noqa: BLE001 - the same: one entry's trouble is not another's
                    log.warning("orphans.not_compared", error=f"{type(error).__name__}: {error}")

    async def _compare(self, announcement: Announcement) -> None:
        outcome = await asyncio.to_thread(
            self._ledger.calls.stop_orphan,
            announcement.job_id,
            announcement.attempt,
            call_id=announcement.call_id,
            announced_at=announcement.announced_at,
        )
        match outcome:
            case "stopping":
                log.warning("orphan.found")
            case "unknown":
                # A job that this ledger never had, or has retired: nobody will ever fetch the result.
                log.warning("orphan.of_unknown_job")
                if await self._calls.stop(announcement.call_id) is None:
                    await self._calls.forget(announcement)
            case "known":
                if await asyncio.to_thread(self._ledger.calls.is_settled, announcement.job_id, announcement.attempt):
                    await self._calls.forget(announcement)
