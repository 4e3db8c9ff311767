"""A remote call announces itself before it works, so that a call whose spawn's answer was lost can be found.

The announcement is an entry in a `modal.Dict`, put if absent under job and attempt. The first call of an attempt works,
and goes on when Modal starts its input again after a preemption (the call id is the same); a second call of the same
attempt leaves at once. So an attempt costs one GPU run, whatever became of the answers to its spawns. The control
plane compares the entries with its ledger, with Modal's public API alone.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import modal

from modal_apps.envelope import RemoteError, starts
from modal_apps.hints import Hinter
from modal_apps.signing import AttemptOf, KeyOf, is_signed, no_key, signature
from modal_apps.wire import WrongPart, fields, moment, name

#: What a second call of the same attempt answers.
SUPERSEDED = RemoteError("superseded", "another call of the same attempt works already", retryable=True)
#: What a call answers that could not announce itself: the word of its error.
NOT_ANNOUNCED = "not_announced"

#: The Dict of announcements, one per Modal environment.
ANNOUNCEMENTS_DICT = "overspill-announcements"


@dataclass(frozen=True)
class ContainerStart:
    """A container that worked on a call, and when it began: seconds since 1970, by its own clock."""

    container_id: str
    started_at: float


@dataclass(frozen=True)
class Announcement:
    """One call that has begun: whose it is, its id, and the containers that it has run in, in order."""

    job_id: str
    attempt: int
    call_id: str
    #: Seconds since 1970, by the container's clock.
    announced_at: float
    containers: tuple[ContainerStart, ...] = ()

    @property
    def key(self) -> str:
        """Under which it is kept."""
        return announcement_key(self.job_id, self.attempt)


def announcement_key(job_id: str, attempt: int) -> str:
    """The key of an attempt's announcement."""
    return f"{job_id}:{attempt}"


def announce(job_id: str, attempt: int, here: ContainerStart, key: str = "") -> Announcement | None:
    """Say that this call works on an attempt. None: another call of the same attempt does already; leave.

    When Modal starts the call's input again in another container, the announcement grows by that container. An entry
    that this attempt's key has not signed is somebody else's, and is written over. Runs inside a Modal container only.
    """
    book = modal.Dict.from_name(ANNOUNCEMENTS_DICT, create_if_missing=True)
    mine = Announcement(job_id, attempt, str(modal.current_function_call_id()), time.time(), (here,))
    if book.put(mine.key, entry_of(mine, key), skip_if_exists=True):
        return mine
    found = parse_entry(mine.key, book.get(mine.key), lambda *_: key or None)
    if found is None and key:
        book.put(mine.key, entry_of(mine, key))
        return mine
    if found is None or found.call_id != mine.call_id:
        return None
    if here not in found.containers:
        found = replace(found, containers=(*found.containers, here))
        book.put(found.key, entry_of(found, key))
    return found


def announce_or_leave(
    attempt_of: AttemptOf | None, here: ContainerStart
) -> tuple[Announcement | None, RemoteError | None]:
    """The same, and what a call that must not work answers instead. One that runs by hand (None) announces nothing.

    A call that cannot announce itself leaves: it would not be known from a second one of its attempt. What went wrong
    is answered in words, as all errors are: raised, it would look to the control plane as if Modal could not be asked.
    """
    if attempt_of is None:
        return None, None
    try:
        announced = announce(attempt_of.job_id, attempt_of.attempt, here, attempt_of.key)
    except Exception as error:  # noqa: BLE001 - the SDK raises many types
        message = f"the call could not announce itself: {type(error).__name__}: {error}"
        return None, RemoteError(NOT_ANNOUNCED, message, retryable=True)
    return announced, None if announced is not None else SUPERSEDED


def hinter_of(announced: Announcement | None, of: AttemptOf | None) -> Hinter | None:
    """Tells the followers of a call that has announced itself, from now on."""
    if announced is None or of is None:
        return None
    hinter = Hinter(announced.job_id, announced.attempt, announced.call_id, key=of.key)
    hinter.start()
    return hinter


def entry_of(announcement: Announcement, key: str = "") -> dict[str, Any]:
    """An announcement as it stands in the Dict, signed with its attempt's key if there is one."""
    containers = [[start.container_id, start.started_at] for start in announcement.containers]
    parts = [announcement.key, announcement.call_id, announcement.announced_at, containers]
    return {
        "call_id": announcement.call_id,
        "announced_at": announcement.announced_at,
        "containers": containers,
        "signature": signature(key, "announcement", parts) if key else None,
    }


def parse_entry(key: object, entry: Any, key_of: KeyOf = no_key) -> Announcement | None:
    """An entry of the Dict; None if there is none, or somebody else wrote it than the attempt that it names."""
    try:
        job_id, _, attempt = name("key", key).rpartition(":")
        entry = fields("entry", entry)
        found = Announcement(
            name("job_id", job_id),
            attempt_number(attempt),
            name("call_id", entry["call_id"]),
            moment("announced_at", entry.get("announced_at", 0)),
            tuple(ContainerStart(*one) for one in starts("containers", entry.get("containers", ()))),
        )
    except (KeyError, WrongPart):
        return None
    containers = [[start.container_id, start.started_at] for start in found.containers]
    parts = [found.key, found.call_id, found.announced_at, containers]
    signed_by = key_of(found.job_id, found.attempt)
    return found if is_signed(signed_by, "announcement", parts, entry.get("signature")) else None


def attempt_number(digits: str) -> int:
    """The attempt in a key.

    Raises:
        WrongPart: it is no number.
    """
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6):  # noqa: PLR2004 - no job has a million
        raise WrongPart("attempt", "a number", digits)
    return int(digits)
