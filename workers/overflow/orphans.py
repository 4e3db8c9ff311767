"""The orphan sweep: calls that run on Modal are compared with the ledger, and each has an owner afterwards, or an end.

A spawn whose answer was lost, or whose spawner died before it wrote the id, leaves a call that the ledger does not
know. Before it works such a call announces itself (modal_apps/announce.py), so it is found here, within one sweep of
its start. If its attempt still waits for the spawner's answer, the call is adopted, and nothing is paid twice. Else it
is stopped. Announcements of settled attempts are removed. One process at a time has the duty, by lease.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog

from infra.logs import bound
from infra.settings import Settings
from ledger import Ledger, LedgerFull, LedgerUnavailable
from ledger.models import kind_of
from ledger.polling import Announced, Standing
from modal_apps.announce import Announcement
from workers.isolation import isolated_batch
from workers.overflow.modal_sdk.port import ModalCalls

log = structlog.get_logger(__name__)

DUTY = "orphan-sweep"
#: Announcements that are compared by one script, and those that are removed at once.
PAGE, REMOVALS_AT_ONCE = 250, 8
#: A sweep that lasts longer is broken off, seconds: a stream that has died says nothing.
SWEEP_TIMEOUT_S = 300.0
#: The next sweep is this much later for each announcement that the last one saw, seconds: a sweep reads them all.
_LATER_FOR_EACH_S = 0.004


def adopt_or_stop(ledger: Ledger, announcement: Announcement, settings: Settings) -> str:
    """Have a call that announced itself followed, if its attempt waits for one, else stopped. What the ledger says."""
    return ledger.modal_calls.stop_orphan(
        announcement.job_id,
        announcement.attempt,
        call_id=announcement.call_id,
        announced_at=announcement.announced_at,
        first_check_s=settings.poll.first_s,
        deadline_s=settings.call_deadline_of(kind_of(announcement.job_id)),
    )


class OrphanSweep:
    """Compares announcements with the ledger, now and then."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, settings: Settings, *, owner: str) -> None:
        self._ledger = ledger
        self._calls = calls
        self._settings = settings
        self._every_s = settings.maintenance.orphan_sweep_every_s
        self._owner = owner
        self._next_at = 0.0

    async def if_due(self) -> None:
        """Sweep, if the time has come and the duty is ours. Modal being away is logged and tried again.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._every_s
        lease_s = max(5.0, 2 * self._every_s)
        if await asyncio.to_thread(self._ledger.maintenance.lead, DUTY, owner=self._owner, lease_s=lease_s):
            seen = await self.sweep()
            self._next_at = time.monotonic() + max(self._every_s, seen * _LATER_FOR_EACH_S)

    async def sweep(self) -> int:
        """One round; returns how many announcements there were."""
        seen = 0
        try:
            async with asyncio.timeout(SWEEP_TIMEOUT_S):
                async for page in self._calls.announced(page=PAGE):
                    seen += len(page)
                    await self._compare(page)
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that Modal cannot be asked now
            log.warning("orphans.not_read", error=f"{type(error).__name__}: {error}")
        else:
            await asyncio.to_thread(self._ledger.maintenance.done, DUTY)
        return seen

    async def compare_unrecorded(self, found: Sequence[Announced]) -> None:
        """Calls of which a hint came, and that the ledger has not recorded yet: compared at once."""
        for one in found:
            try:
                announcement = await self._calls.announcement(one.job_id, one.attempt)
            except Exception as error:  # noqa: BLE001 - the SDK raises many types; the next sweep finds the call
                log.info("announcement.not_read", job_id=one.job_id, error=f"{type(error).__name__}: {error}")
                continue
            if announcement is not None and announcement.call_id == one.call_id:
                await self._adopt_or_stop_one(announcement)

    async def _compare(self, page: Sequence[Announcement]) -> None:
        compared = await asyncio.to_thread(isolated_batch, page, self._standings, _not_compared)
        standings = [one for part in compared for one in part]
        settled = [one for one, standing in standings if standing == "settled"]
        for start in range(0, len(settled), REMOVALS_AT_ONCE):
            await asyncio.gather(*(self._forget(one) for one in settled[start : start + REMOVALS_AT_ONCE]))
        for one, standing in standings:
            if standing == "stranger":
                await self._adopt_or_stop_one(one)

    def _standings(self, page: Sequence[Announcement]) -> list[tuple[Announcement, Standing]]:
        asked = [Announced(one.job_id, one.attempt, one.call_id) for one in page]
        return list(zip(page, self._ledger.modal_calls.compare_announced(asked), strict=True))

    async def _forget(self, announcement: Announcement) -> None:
        """Remove it, now or in the next sweep. An error about one entry does not reach the others."""
        try:
            await self._calls.forget(announcement)
        except Exception as error:  # noqa: BLE001 - the SDK raises many types
            _not_compared(announcement, error)

    async def _adopt_or_stop_one(self, announcement: Announcement) -> None:
        """Adopt it or have it stopped. An error about one entry does not reach the others."""
        with bound(job_id=announcement.job_id, attempt=announcement.attempt, call_id=announcement.call_id):
            try:
                await self._adopt_or_stop(announcement)
            except (LedgerUnavailable, LedgerFull):
                raise
            except Exception as error:  # noqa: BLE001 - the SDK raises many types
                _not_compared(announcement, error)

    async def _adopt_or_stop(self, announcement: Announcement) -> None:
        outcome = await asyncio.to_thread(adopt_or_stop, self._ledger, announcement, self._settings)
        match outcome:
            case "adopted":
                log.warning("orphan.adopted")
            case "stopping":
                log.warning("orphan.found")
            case "unknown":
                # A job that this ledger never had, or has retired: nobody will ever fetch the result.
                log.warning("orphan.of_unknown_job")
                if await self._calls.cancel(announcement.call_id) is None:
                    await self._calls.forget(announcement)
            case "settled":
                await self._calls.forget(announcement)
            case "known":
                pass


def _not_compared(announcement: Announcement, error: Exception) -> None:
    log.warning("orphans.not_compared", job_id=announcement.job_id, error=f"{type(error).__name__}: {error}")
