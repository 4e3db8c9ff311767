"""A container speaks for its own attempt alone: what it announces or hints in another's name is passed over."""

import asyncio
import json
from typing import Any

import pytest

from ledger import Ledger, LedgerUnavailable
from modal_apps import announce
from modal_apps.announce import Announcement, ContainerStart, entry_of, parse_entry
from modal_apps.hints import CallHint, parse_hint
from modal_apps.signing import attempt_key
from tests.support.ledgers import claim_spawns
from tests.support.overflow import Plane
from workers.overflow.modal_sdk import client
from workers.overflow.modal_sdk.client import ModalSdk
from workers.overflow.orphans import OrphanSweep

SECRET = b"s" * 32
HERE = ContainerStart("ta-1", 1.0)
MINE = Announcement("video_mine", 1, "fc-1", 2.0, (HERE,))
HINT = CallHint("video_mine", 1, "fc-1", "done", 100, 7, 9)
KEY = attempt_key(SECRET, "video_mine", 1)
OTHERS = {
    "of another job": attempt_key(SECRET, "video_other", 1),
    "of another attempt": attempt_key(SECRET, "video_mine", 2),
    "of another ledger": attempt_key(b"t" * 32, "video_mine", 1),
    "none": "",
}


def key_of(job_id: str, attempt: int) -> str:
    return attempt_key(SECRET, job_id, attempt)


def test_what_an_attempt_signs_is_its_own() -> None:
    assert parse_entry(MINE.key, entry_of(MINE, KEY), key_of) == MINE
    assert parse_hint(HINT.to_wire(KEY), key_of) == HINT


@pytest.mark.parametrize("name", OTHERS)
def test_what_another_key_signs_is_passed_over(name: str) -> None:
    assert parse_entry(MINE.key, entry_of(MINE, OTHERS[name]), key_of) is None
    assert parse_hint(HINT.to_wire(OTHERS[name]), key_of) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"call_id": "fc-2"}, {"announced_at": 3.0}, {"containers": []}, {"containers": [["ta-2", 1.0]]},
        {"signature": None}, {"signature": "0" * 64}, {"signature": "\u0661" * 64}, {"signature": b"0" * 64},
        {"signature": True},
    ],
)  # fmt: skip
def test_what_was_changed_after_it_was_signed_is_passed_over(changed: dict[str, Any]) -> None:
    assert parse_entry(MINE.key, {**entry_of(MINE, KEY), **changed}, key_of) is None
    # And so is a good entry under another attempt's key, which anybody can copy
    assert parse_entry("video_other:1", entry_of(MINE, KEY), key_of) is None


@pytest.mark.parametrize(
    ("place", "value"), [(0, "video_other"), (1, 2), (2, "fc-2"), (3, "started"), (4, 1), (5, 1), (6, 1), (7, "0" * 64)]
)
def test_a_hint_that_was_changed_is_passed_over(place: int, value: object) -> None:
    parts = json.loads(HINT.to_wire(KEY))
    parts[place] = value
    assert parse_hint(json.dumps(parts), key_of) is None


def test_a_signature_of_a_hint_is_none_of_an_announcement() -> None:
    signed = json.loads(HINT.to_wire(KEY))[-1]
    assert parse_entry(MINE.key, {**entry_of(MINE, KEY), "signature": signed}, key_of) is None


def test_an_entry_that_somebody_else_wrote_under_an_attempts_key_does_not_keep_its_call_from_working(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a book in which another container has written under our attempt's key
    class Book(dict[str, Any]):
        def put(self, key: str, value: Any, *, skip_if_exists: bool = False) -> bool:
            if skip_if_exists and key in self:
                return False
            self[key] = value
            return True

    squatted = entry_of(Announcement("video_mine", 1, "fc-evil", 2.0), OTHERS["of another job"])
    for there in (squatted, "no entry", {"call_id": "fc-evil"}):
        book = Book({"video_mine:1": there})
        monkeypatch.setattr(announce.modal.Dict, "from_name", lambda *_, book=book, **__: book)
        monkeypatch.setattr(announce.modal, "current_function_call_id", lambda: "fc-1")
        # When our call announces itself, then it works, and stands there
        mine = announce.announce("video_mine", 1, HERE, KEY)
        assert mine is not None
        assert parse_entry("video_mine:1", book["video_mine:1"], key_of) == mine
        # And a second call of the same attempt leaves
        monkeypatch.setattr(announce.modal, "current_function_call_id", lambda: "fc-2")
        assert announce.announce("video_mine", 1, HERE, KEY) is None


def test_the_secret_is_made_once_and_each_ledger_has_its_own(ledger: Ledger) -> None:
    secret = ledger.container_secret()
    assert len(secret) == 32
    assert ledger.container_secret() == secret
    assert ledger.audit() == []


def test_a_container_cannot_have_another_call_stopped_or_followed(plane: Plane) -> None:
    # Given a call that is at work, and one that the ledger waits for
    victim = plane.placed("works 0")
    assert plane.spawn() == {"spawned": 1}
    victims_call = plane.ledger.jobs.attempt(victim, 1)["call_id"]
    waiting = plane.placed("waits 0")
    claim_spawns(plane.ledger, worker="t", limit=1, lease_s=60)
    # When a container that knows only its own key announces in the name of others: of a job that was never, so that the
    # victim's call would be stopped as nobody's; of the waiting attempt, and of the victim's, to be followed instead
    own = attempt_key(plane.ledger.container_secret(), "video_own", 1)
    book = plane.modal._announcements()
    for forged in (
        Announcement("video_never", 1, victims_call, 1.0),
        Announcement(waiting, 1, "fc-evil", 1.0),
        Announcement(victim, 1, "fc-evil", 1.0),
    ):
        for key in (own, ""):
            book[forged.key] = entry_of(forged, key)
            asyncio.run(OrphanSweep(plane.ledger, plane.modal, plane.settings, owner="test").sweep())
            assert asyncio.run(plane.modal.announcement(forged.job_id, forged.attempt)) is None
    # Then nothing has come of it
    assert plane.ledger.jobs.attempt(victim, 1)["call_id"] == victims_call
    assert "call_id" not in plane.ledger.jobs.attempt(waiting, 1)
    cancelled = [event.event for event in plane.ledger.jobs.history(victim) if event.event.startswith("call.")]
    assert "call.orphan_found" not in cancelled
    assert plane.admin.call(victims_call)["state"] != "cancelled"


def test_a_ledger_that_was_wiped_has_another_secret_and_that_one_is_soon_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a way to Modal that has asked for the secret
    secrets: list[Any] = [b"a" * 32, LedgerUnavailable("redis", "away"), b"b" * 32]

    def secret() -> bytes:
        found = secrets.pop(0)
        if isinstance(found, Exception):
            raise found
        return bytes(found)

    sdk = ModalSdk(app_name="a", environment=None, max_result_bytes=1, secret=secret)

    def key() -> str | None:
        return asyncio.run(sdk._key_of())("video_1", 1)

    first = key()
    assert (first, key()) == (attempt_key(b"a" * 32, "video_1", 1), first)
    # When it is asked for again while the ledger is away, then the known one is good; and after that, the new one
    monkeypatch.setattr(client, "SECRET_GOOD_FOR_S", -1.0)
    assert key() == first
    assert key() == attempt_key(b"b" * 32, "video_1", 1)
