"""One bad announcement is not the end of an orphan sweep."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

from infra.settings import Settings
from ledger.errors import UnknownOutcome
from ledger.polling import Announced
from modal_apps.announce import Announcement, parse_entry
from workers.overflow.orphans import OrphanSweep


class _Modal:
    """Three announcements, of which the first cannot be removed."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
        for number in range(3):
            yield [Announcement(f"video_{number}", 1, f"fc-{number}", 9.0, ())]

    async def forget(self, announcement: Announcement) -> None:
        if announcement.job_id == "video_0":
            raise ValueError("bad entry")
        self.forgotten.append(announcement.job_id)


def test_an_entry_that_cannot_be_removed_does_not_end_the_sweep() -> None:
    # Given three announcements of settled attempts, the first of which makes trouble
    modal: Any = _Modal()
    done: list[str] = []
    ledger: Any = SimpleNamespace(
        modal_calls=SimpleNamespace(compare_announced=lambda page: ["settled"] * len(page)),
        maintenance=SimpleNamespace(done=done.append),
    )
    # When they are swept
    seen = asyncio.run(OrphanSweep(ledger, modal, Settings(), owner="f").sweep())
    # Then all were seen, and the others removed
    assert (seen, modal.forgotten, len(done)) == (3, ["video_1", "video_2"], 1)


def test_an_entry_that_cannot_be_compared_does_not_end_the_sweep() -> None:
    # Given pages of announcements, one of which the ledger cannot compare
    class _Pages(_Modal):
        async def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
            for first in (0, 4):
                yield [Announcement(f"video_{n}", 1, f"fc-{n}", 9.0, ()) for n in range(first, first + 4)]

    def compare(page: Sequence[Announced]) -> list[str]:
        if any(one.job_id == "video_2" for one in page):
            raise UnknownOutcome("announced", "odd")
        return ["settled"] * len(page)

    modal: Any = _Pages()
    done: list[str] = []
    ledger: Any = SimpleNamespace(
        modal_calls=SimpleNamespace(compare_announced=compare), maintenance=SimpleNamespace(done=done.append)
    )
    # When they are swept
    seen = asyncio.run(OrphanSweep(ledger, modal, Settings(), owner="f").sweep())
    # Then the sweep came to its end, and all others that could be removed were
    assert (seen, len(done)) == (8, 1)
    assert modal.forgotten == [f"video_{n}" for n in (1, 3, 4, 5, 6, 7)]


def test_an_entry_with_an_impossible_time_is_nobodys() -> None:
    # When an entry's time is larger than any number of seconds can be
    entry = {"call_id": "fc-1", "announced_at": 10**400, "containers": []}
    # Then it is passed over
    assert parse_entry("video_1:1", entry) is None
