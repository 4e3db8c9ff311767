"""A container cannot run code in the control plane, by none of the four ways in which the SDK unpickles."""

import asyncio
from pathlib import Path

import modal
import pytest

from ledger.models import State
from modal_apps.announce import Announcement, entry_of
from modal_apps.hints import CallHint
from modal_apps.signing import attempt_key
from tests.support.overflow import Plane
from workers.overflow.orphans import OrphanSweep


@pytest.mark.parametrize(
    ("way", "outcomes"),
    [
        # What a method returns, at the top and inside
        ("returned", {"bad_envelope"}),
        ("nested", {"bad_envelope"}),
        ("exits", {"bad_envelope"}),
        # What it raises, and what hangs on that
        ("raised", {"crash"}),
        ("attribute", {"crash"}),
        ("cause", {"crash"}),
        ("system_exit", {"crash"}),
        # (One that would confuse whoever raises it again)
        ("stop_iteration", {"error"}),
        # What it puts into the queue of hints, and into the book of announcements
        ("queue", {"bad_envelope"}),
        ("dict_value", {"bad_envelope"}),
        ("dict_key", {"bad_envelope"}),
    ],
)
def test_nothing_that_a_container_sends_is_run(plane: Plane, tmp_path: Path, way: str, outcomes: set[str]) -> None:
    # Given a container that sends something which makes a directory where it is unpickled
    mark = tmp_path / "was_run"
    job_id = plane.placed(f"{way} {mark}")
    assert plane.spawn() == {"spawned": 1}
    with plane.following():
        # When its call has ended, and the book of announcements has been read
        attempt = plane.attempt_ended(job_id, timeout_s=40)
        asyncio.run(OrphanSweep(plane.ledger, plane.modal, plane.settings, owner="test").sweep())
        # Then the attempt has a clear end
        assert attempt["outcome"] in outcomes
        # And the follower lives: it ends the next call, too
        again = plane.placed(f"returned {mark}")
        assert plane.spawn()["spawned"] >= 1
        plane.attempt_ended(again, timeout_s=40)
    # And nothing was run
    assert not mark.exists()
    assert plane.ledger.jobs.get(again).state is State.FAILED


def test_one_poisoned_item_does_not_take_the_others_of_its_batch(plane: Plane, tmp_path: Path) -> None:
    # Given a queue and a book of announcements that hold poisoned items, and a good one behind each
    mark = tmp_path / "was_run"
    ids = [plane.placed(f"{way} {mark}") for way in ("queue", "dict_value", "dict_key")]
    assert plane.spawn() == {"spawned": 3}
    for job_id in ids:
        call_id = plane.ledger.jobs.attempt(job_id, 1)["call_id"]
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it is, it has ended then
            assert modal.FunctionCall.from_id(call_id, client=plane.modal._client).get(timeout=40) is None
    secret = plane.ledger.container_secret()
    hint = CallHint("render_x", 1, "fc-1", "started").to_wire(attempt_key(secret, "render_x", 1))
    plane.modal._hints().put(hint, partition="p0")
    good = Announcement("render_y", 2, "fc-2", 1.0)
    plane.modal._announcements()[good.key] = entry_of(good, attempt_key(secret, "render_y", 2))

    async def read() -> tuple[list[str], list[str]]:
        hints = await plane.modal.hints(0, limit=10, wait_s=1)
        pages = [page async for page in plane.modal.announced(page=1)]
        return [hint.job_id for hint in hints], [one.job_id for page in pages for one in page]

    # When they are read, then the good ones come, and nothing was run
    hints, announced = asyncio.run(read())
    assert hints == ["render_x"]
    assert "render_y" in announced
    assert not mark.exists()
