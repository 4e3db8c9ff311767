"""When the books of a call that is stopped are closed, and what it is charged then."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from modal import exception as modal_errors

from infra.settings import Settings
from ledger.containers import Usage
from ledger.models import Kind
from ledger.outcomes import DueCancel
from modal_apps.announce import Announcement, ContainerStart
from workers.overflow.canceller import ASKED_FOR_S, LONGEST_CALL_S, Canceller
from workers.overflow.completer import Completer
from workers.overflow.modal_sdk.port import PollFailed, PollResult, Raised, StillRunning
from workers.resources import Resources

#: Spawned at 100 s; its stop is taken up at 160 s; its deadline is at 700 s.
CANCEL = DueCancel(
    job_id="video_1", attempt=1, kind=Kind.RENDER, call_id="fc-1", gpu="H100", now_ms=160_000, spawned_ms=100_000,
    spawn_intent_ms=99_000, call_deadline_ms=700_000,
)  # fmt: skip
LATE = replace(CANCEL, now_ms=700_000 + round(ASKED_FOR_S * 1000))
AWAY = modal_errors.ServiceError("away")
STOPPED = Raised(modal_errors.RemoteError("Function call was cancelled by user or a failure."))
BEGAN = Announcement("video_1", 1, "fc-1", 110.0, (ContainerStart("ta-1", 110.0),))


class _Ledger:
    def __init__(self) -> None:
        self.modal_calls = self
        self.settled: list[Usage] = []

    def settle_cancel(self, *_: object, usage: Usage) -> None:
        self.settled.append(usage)


class _Modal:
    """Answers as it was told, after a while; an exception is raised."""

    def __init__(
        self, result: PollResult, announced: Announcement | BaseException | None, refusal: BaseException | None
    ) -> None:
        self.answers = result, announced, refusal
        self.takes_s = 0.0

    async def cancel(self, _: str) -> BaseException | None:
        await asyncio.sleep(self.takes_s)
        return self.answers[2]

    async def poll(self, _: str) -> PollResult:
        return self.answers[0]

    async def announcement(self, *_: object) -> Announcement | None:
        announced = self.answers[1]
        if isinstance(announced, BaseException):
            raise announced
        return announced


def _stopped(
    cancel: DueCancel,
    result: PollResult,
    announced: Announcement | BaseException | None = BEGAN,
    *,
    refusal: BaseException | None = None,
    takes_s: float = 0.0,
) -> float | None:
    """Stop a call once: the seconds that it is charged for; None: it falls due again."""
    settings, ledger, modal = Settings(), _Ledger(), _Modal(result, announced, refusal)
    modal.takes_s = takes_s
    completer = Completer(Resources(settings, ledger, None, None))  # type: ignore[arg-type]  # nothing is delivered

    async def once() -> None:
        books: Any = ledger
        port: Any = modal
        await Canceller(books, port, completer, settings).cancel(cancel)

    asyncio.run(once())
    if not ledger.settled:
        return None
    (usage,) = ledger.settled
    return sum(use.finished_ms - use.started_ms for use in usage.containers) / 1000


def test_it_is_charged_until_it_had_stopped_not_until_the_stop_was_taken_up() -> None:
    charged_s = _stopped(CANCEL, STOPPED, takes_s=0.3)
    assert charged_s is not None
    assert 50.3 <= charged_s < 52


def test_one_that_never_began_costs_nothing() -> None:
    assert _stopped(CANCEL, STOPPED, None) == 0


@pytest.mark.parametrize("cancel", [CANCEL, LATE])
def test_one_that_runs_falls_due_again(cancel: DueCancel) -> None:
    assert _stopped(cancel, StillRunning()) is None


@pytest.mark.parametrize(
    ("result", "announced", "refusal"),
    [
        (STOPPED, AWAY, None),  # whether it began cannot be asked: it is not taken for one that never did
        (PollFailed(AWAY), BEGAN, None),  # how it stands cannot be asked
        (PollFailed(AWAY), BEGAN, AWAY),
        (
            PollFailed(modal_errors.ExecutionError("503"), has_result=True),
            BEGAN,
            None,
        ),  # what it answered is not to be had
    ],
)
def test_one_that_cannot_be_asked_about_falls_due_again(
    result: PollResult, announced: Any, refusal: BaseException | None
) -> None:
    assert _stopped(CANCEL, result, announced, refusal=refusal) is None


@pytest.mark.parametrize(
    ("result", "announced", "charged_s"),
    [
        (STOPPED, AWAY, 600),  # from its spawn to its deadline: the most that it can have cost
        (PollFailed(AWAY), BEGAN, 590),
        (PollFailed(modal_errors.ExecutionError("503"), has_result=True), BEGAN, 590),
    ],
)
def test_long_after_its_deadline_one_whose_stop_was_taken_is_settled(
    result: PollResult, announced: Any, charged_s: float
) -> None:
    assert _stopped(LATE, result, announced) == pytest.approx(charged_s)


def test_one_whose_stop_was_not_taken_is_stopped_until_modal_itself_must_have_ended_it() -> None:
    assert _stopped(LATE, PollFailed(AWAY), refusal=AWAY) is None
    over = replace(CANCEL, now_ms=700_000 + round(LONGEST_CALL_S * 1000))
    assert _stopped(over, PollFailed(AWAY), AWAY, refusal=AWAY) == pytest.approx(600)


def test_one_that_was_found_late_has_as_long_as_any_of_its_kind() -> None:
    deadline_ms = 100_000 + Settings().modal.call_deadline_s * 1000
    orphan = replace(CANCEL, call_deadline_ms=None, now_ms=round(deadline_ms + ASKED_FOR_S * 1000))
    assert _stopped(orphan, PollFailed(AWAY)) == pytest.approx(Settings().modal.call_deadline_s - 10)
    assert _stopped(replace(orphan, now_ms=orphan.now_ms - 1_000), PollFailed(AWAY)) is None
