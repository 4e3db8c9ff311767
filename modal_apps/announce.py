"""A remote call announces itself before it works, so that a call whose spawn's answer was lost can be found.

The announcement is an entry in a `modal.Dict`, put if absent under job and attempt. The first call of an attempt works,
and goes on when Modal starts its input again after a preemption (the call id is the same); a second call of the same
attempt leaves at once. So an attempt costs one GPU run, whatever became of the answers to its spawns. The control
plane compares the entries with its ledger, with Modal's public API alone.
"""

import time
from dataclasses import dataclass
from typing import Any

import modal

#: The Dict of announcements, one per Modal environment.
ANNOUNCEMENTS_DICT = "overspill-announcements"


@dataclass(frozen=True)
class Announcement:
    """One call that has begun: whose it is, and its id."""

    job_id: str
    attempt: int
    call_id: str
    #: Seconds since 1970, by the container's clock.
    announced_at: float

    @property
    def key(self) -> str:
        """Under which it is kept."""
        return announcement_key(self.job_id, self.attempt)


def announcement_key(job_id: str, attempt: int) -> str:
    """The key of an attempt's announcement."""
    return f"{job_id}:{attempt}"


def announce(job_id: str, attempt: int) -> bool:
    """Say that this call works on an attempt. False: another call of the same attempt does already; leave.

    Runs inside a Modal container only.
    """
    mine = modal.current_function_call_id()
    book = modal.Dict.from_name(ANNOUNCEMENTS_DICT, create_if_missing=True)
    key = announcement_key(job_id, attempt)
    if book.put(key, {"call_id": mine, "announced_at": time.time()}, skip_if_exists=True):
        return True
    entry = book.get(key)
    return isinstance(entry, dict) and entry.get("call_id") == mine


def parse_entry(key: object, entry: Any) -> Announcement | None:
    """An entry of the Dict; None if somebody else wrote it."""
    job_id, _, attempt = str(key).rpartition(":")
    if not job_id or not attempt.isdigit() or not isinstance(entry, dict) or not isinstance(entry.get("call_id"), str):
        return None
    return Announcement(job_id, int(attempt), entry["call_id"], float(entry.get("announced_at") or 0))
