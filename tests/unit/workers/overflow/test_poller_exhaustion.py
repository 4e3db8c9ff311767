"""When a call is given up because no GPU of its class comes, and when it goes on waiting."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from modal.exception import ServiceError

from ledger.models import Kind
from ledger.outcomes import DueCall
from modal_apps.announce import Announcement
from tests.support.settings import settings_of
from workers.overflow.modal_sdk.port import PoolStats
from workers.overflow.poller import Exhaustion

WAITING = DueCall(
    job_id="ftjob_1", attempt=1, kind=Kind.TRAIN, gpu="L4", call_id="fc-1", now_ms=200_000, spawned_ms=0,
    call_deadline_ms=10**9,
)  # fmt: skip


@dataclass
class _Modal:
    """Of Modal, what is asked: how many wait, and whether the call has said that it began."""

    backlog: int = 1
    announcement_of: Announcement | None = None
    book_is_away: bool = False
    asked: list[tuple[Kind, str]] = field(default_factory=list)

    async def pool(self, gpu: str, *, kind: Kind = Kind.RENDER) -> PoolStats:
        self.asked.append((kind, gpu))
        return PoolStats(self.backlog, runners=0, running_inputs=0)

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        if self.book_is_away:
            raise ServiceError("away")
        return self.announcement_of


def given_up(modal: Any, call: DueCall = WAITING, *, may_move: bool = True, **settings: Any) -> bool:
    async def ask() -> bool:
        return await Exhaustion(modal, settings_of(settings), lambda _: may_move).has_no_gpu(call)

    return asyncio.run(ask())


def test_a_train_call_that_waits_in_its_class_takes_another() -> None:
    # Given a call that has waited for longer than 180 s, and a class that has a backlog; when it is asked about
    modal = _Modal()
    assert given_up(modal)
    # Then it was the trainer's class that was asked about, not the renderer's
    assert modal.asked == [(Kind.TRAIN, "L4")]


def test_a_run_whose_class_was_named_waits_for_it() -> None:
    assert not given_up(_Modal(), may_move=False)


@pytest.mark.parametrize(
    ("modal", "call"),
    [
        (_Modal(), replace(WAITING, now_ms=179_000)),  # not for long enough
        (_Modal(), replace(WAITING, begun_ms=5_000)),  # it has begun
        (_Modal(backlog=0), WAITING),  # nobody waits in its class
        (_Modal(announcement_of=Announcement("ftjob_1", 1, "fc-1", 5.0, ())), WAITING),  # its hint was lost
        (_Modal(book_is_away=True), WAITING),  # whether it has begun is not known
    ],
)
def test_a_call_that_need_not_wait_goes_on(modal: _Modal, call: DueCall) -> None:
    assert not given_up(modal, call)


def test_a_render_waits_where_there_is_no_other_class() -> None:
    render = replace(WAITING, kind=Kind.RENDER, gpu="H100")
    assert given_up(_Modal(), render, modal_render_classes=("H100", "H200"))
    assert given_up(_Modal(), render, modal_render_classes=("H100",), modal_render_fallbacks=("B200",))
    assert not given_up(_Modal(), render, modal_render_classes=("H100",))
