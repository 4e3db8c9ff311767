"""When Modal is asked about a call that fell due, and when what the call says of itself is enough."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
from modal import exception as modal_errors

from infra.settings import Settings
from ledger.errors import UnknownOutcome
from ledger.models import Kind
from ledger.outcomes import DueCall, Refused, ToppedUp
from modal_apps.announce import SUPERSEDED, Announcement, ContainerStart
from modal_apps.envelope import Envelope, Timings
from workers.overflow.breaker import FailureReason
from workers.overflow.completer import Completer
from workers.overflow.modal_sdk.port import PollFailed, PollResult, Raised, Returned, StillRunning
from workers.overflow.poller import CONCURRENCY, FETCH_GRACE_S, Poller
from workers.overflow.reservations import TopUps
from workers.overflow.schedule import Pace, Schedule
from workers.resources import Resources

#: Half done after 40 s of work, and said so a second ago; its reservation covers an hour.
HALF_DONE = DueCall(
    job_id="video_1", attempt=1, kind=Kind.RENDER, gpu="H100", call_id="fc-1", now_ms=50_000, spawned_ms=0,
    call_deadline_ms=10**9, begun_ms=9_000, hinted_ms=49_000, progress=50, reserved_usd_micros=3_600_000,
    usd_nanos_per_s=1_000_000,
)  # fmt: skip
#: What it has is used up.
USED_UP = replace(HALF_DONE, reserved_usd_micros=60_000)


#: Silent, and past its deadline.
OVERDUE = replace(HALF_DONE, now_ms=10**9, hinted_ms=None)
AWAY = PollFailed(modal_errors.ServiceError("away"))


class _Ledger:
    """Answers for the budget, and notes how attempts failed and which calls were adopted."""

    def __init__(self, answer: ToppedUp | Refused) -> None:
        self.modal_calls = self.attempts = self
        self.answer = answer
        self.asked: list[int] = []
        self.failed: list[str] = []
        self.call_may_run: list[bool] = []
        self.adopted: list[str] = []

    def top_up(self, *_: object, reserve_usd_micros: int, **__: object) -> ToppedUp | Refused:
        self.asked.append(reserve_usd_micros)
        return self.answer

    def fail(self, *_: object, cause: object, call_may_run: bool, **__: object) -> object:
        self.failed.append(str(cause))
        self.call_may_run.append(call_may_run)
        return None

    def stop_orphan(self, *_: object, call_id: str, **__: object) -> str:
        self.adopted.append(call_id)
        return "adopted"


class _Modal:
    """Says of every call what it was told; `announced` None: it cannot be asked who announced itself."""

    def __init__(self, result: PollResult, announced: str | None = "") -> None:
        self.answer = result
        self.announced = announced
        self.polled: list[str] = []
        self.takes_s = 0.0

    async def poll(self, call_id: str) -> PollResult:
        self.polled.append(call_id)
        await asyncio.sleep(self.takes_s)
        return self.answer

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        if self.announced is None:
            raise modal_errors.ServiceError("away")
        here = ContainerStart("ta-1", 9.0)
        return Announcement(job_id, attempt, self.announced, 9.0, (here,)) if self.announced else None


class _Gate:
    """Notes what the breaker is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, FailureReason]] = []

    def poll_failed(self, call_id: str, trouble: FailureReason) -> None:
        self.told.append((call_id, trouble))

    def poll_answered(self, call_id: str) -> None:
        pass


def _polled(
    call: DueCall, answer: ToppedUp | Refused | _Ledger, modal: _Modal | None = None, gate: Any = None
) -> tuple[_Ledger, _Modal, Any]:
    """Let one call fall due. What the ledger and Modal were asked, and what is given back."""
    settings = Settings()
    ledger, modal = answer if isinstance(answer, _Ledger) else _Ledger(answer), modal or _Modal(StillRunning())
    schedule: Any = Schedule(ledger, Pace(0.5, 5, 30, 100))  # type: ignore[arg-type]  # nothing is claimed
    resources = Resources(settings, ledger, None, None)  # type: ignore[arg-type]  # only the ledger's verbs are used

    async def poll() -> None:
        with ThreadPoolExecutor(1) as threads:
            top_ups = TopUps(ledger, settings)  # type: ignore[arg-type]  # the same
            port: Any = modal
            poller = Poller(port, schedule, Completer(resources), gate or _Gate(), top_ups, settings, threads)
            await poller.poll(call)

    asyncio.run(poll())
    return ledger, modal, schedule._to_reschedule


def test_an_error_about_its_money_does_not_keep_a_call_from_being_polled() -> None:
    # Given a call whose reservation is used up, and a ledger whose answer about it cannot be read
    class _Odd(_Ledger):
        def top_up(self, *_: object, **__: object) -> ToppedUp | Refused:
            raise UnknownOutcome("top_up", "odd")

    # When it falls due / then Modal is asked, and the call is given back
    _, modal, rescheduled = _polled(replace(USED_UP, hinted_ms=None), _Odd(ToppedUp(0)))
    assert (modal.polled, len(rescheduled)) == (["fc-1"], 1)


@pytest.mark.parametrize(
    ("beyond_s", "failed", "rescheduled"),
    [(-60, [], 1), (FETCH_GRACE_S - 1, [], 1), (FETCH_GRACE_S, ["result_lost"], 0)],
)
def test_a_result_that_an_error_of_ours_keeps_from_delivery_is_tried_again_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, beyond_s: float, failed: list[str], rescheduled: int
) -> None:
    # Given a call that has ended, and an error of ours while it is completed
    def odd(*_: object, **__: object) -> bool:
        raise ValueError("odd")

    monkeypatch.setattr(Completer, "complete", odd)
    silent = replace(OVERDUE, now_ms=OVERDUE.call_deadline_ms + round(beyond_s * 1000))
    # When it falls due / then it is tried again; long after its deadline its attempt ends
    ledger, _, again = _polled(silent, ToppedUp(0), _Modal(Raised(ValueError("its own")), "fc-1"))
    assert (ledger.failed, len(again)) == (failed, rescheduled)


def test_a_call_whose_hints_come_is_given_back_without_asking_modal() -> None:
    # When a call falls due that has just said that it is half done
    ledger, modal, rescheduled = _polled(HALF_DONE, ToppedUp(0))
    # Then Modal is not asked, nor the budget, and it falls due again after its predicted end
    assert (modal.polled, ledger.asked) == ([], [])
    assert [release.again_in_s > 39 for _, release in rescheduled] == [True]


@pytest.mark.parametrize("silent", [replace(HALF_DONE, now_ms=79_001), replace(HALF_DONE, progress=0)])
def test_a_call_that_fell_silent_or_does_not_say_how_far_it_is_is_polled(silent: DueCall) -> None:
    _, modal, rescheduled = _polled(silent, ToppedUp(0))
    assert (modal.polled, len(rescheduled)) == (["fc-1"], 1)


def test_its_reservation_is_topped_up_without_asking_modal() -> None:
    ledger, modal, rescheduled = _polled(USED_UP, ToppedUp(120_000))
    assert (modal.polled, len(ledger.asked), len(rescheduled)) == ([], 1, 1)


def test_before_a_call_is_stopped_for_its_money_modal_is_asked_whether_it_has_ended() -> None:
    ledger, modal, rescheduled = _polled(USED_UP, Refused("month_cap"))
    assert (modal.polled, ledger.failed, len(rescheduled)) == (["fc-1"], ["budget"], 0)


def test_a_call_that_cannot_be_asked_about_keeps_its_reservation_ahead_and_is_not_stopped_for_its_money() -> None:
    # Given a call whose reservation is used up, while Modal is away
    silent = replace(USED_UP, hinted_ms=None)
    gate = _Gate()
    # When it falls due, then it gets more
    ledger, _, rescheduled = _polled(silent, ToppedUp(120_000), _Modal(AWAY), gate)
    assert (len(ledger.asked), ledger.failed, len(rescheduled)) == (1, [], 1)
    # And the breaker is told why
    assert gate.told == [("fc-1", FailureReason.UNAVAILABLE)]
    # And where there is no more for it, it goes on nevertheless: nothing is known about it
    ledger, _, rescheduled = _polled(silent, Refused("month_cap"), _Modal(AWAY))
    assert (ledger.failed, len(rescheduled)) == ([], 1)


def test_while_modal_is_away_one_poll_at_a_time_finds_out_and_all_calls_keep_their_money() -> None:
    # Given a Modal that lets every poll wait, and then answers none; and many calls whose reservations are used up
    settings = Settings()
    ledger, modal, schedule = (
        _Ledger(ToppedUp(120_000)),
        _Modal(AWAY),
        Schedule(cast("Any", None), Pace(0.5, 5, 30, 100)),
    )
    resources = Resources(settings, ledger, None, None)  # type: ignore[arg-type]  # only the ledger's verbs are used
    crowd = [replace(USED_UP, call_id=f"fc-{number}", hinted_ms=None) for number in range(40)]

    async def follow() -> list[int]:
        top_ups: Any = TopUps(cast("Any", ledger), settings)
        port: Any = modal
        gate: Any = _Gate()
        polled = []
        with ThreadPoolExecutor(1) as threads:
            poller = Poller(port, cast("Any", schedule), Completer(resources), gate, top_ups, settings, threads)
            for answer in (AWAY, AWAY, StillRunning(), StillRunning()):
                modal.answer = answer
                before = len(modal.polled)
                await asyncio.gather(*(poller.poll(call) for call in crowd))
                polled.append(len(modal.polled) - before)
        return polled

    modal.takes_s = 0.01
    # When they fall due, again and again
    first, second, third, fourth = asyncio.run(follow())
    # Then at first they ask, afterwards one does for all, until it is answered; and all had their money seen to
    assert first >= CONCURRENCY
    assert (second, third, fourth) == (1, 1, 40)
    assert (len(ledger.asked), ledger.failed, len(schedule._to_reschedule)) == (160, [], 160)


def test_a_call_that_cannot_be_asked_about_ends_with_its_deadline_and_is_stopped() -> None:
    ledger, _, rescheduled = _polled(OVERDUE, ToppedUp(0), _Modal(AWAY))
    assert (ledger.failed, ledger.call_may_run, rescheduled) == (["timeout"], [True], [])


def test_a_result_that_cannot_be_fetched_is_waited_for_a_while_longer() -> None:
    # Given a call that has ended, and a store of results that is away
    no_store, gate = _Modal(PollFailed(modal_errors.ExecutionError("503"), has_result=True)), _Gate()
    # When its deadline is over, it is asked for again, and that is nobody else's trouble
    ledger, _, rescheduled = _polled(OVERDUE, ToppedUp(0), no_store, gate)
    assert (ledger.failed, len(rescheduled), gate.told) == ([], 1, [])
    # And when that has lasted, its result is lost
    much_later = replace(OVERDUE, now_ms=OVERDUE.now_ms + round(FETCH_GRACE_S * 1000))
    ledger, _, rescheduled = _polled(much_later, ToppedUp(0), no_store)
    assert (ledger.failed, rescheduled) == (["result_lost"], [])


@pytest.mark.parametrize(
    ("result", "announced", "outcome"),
    [
        (Raised(modal_errors.ServiceError("raised by the method")), "fc-1", ("error", False)),
        (Raised(modal_errors.RemoteError("exit code: 1")), "", ("crash", False)),
        # That Modal does not know it, is no proof
        (PollFailed(modal_errors.NotFoundError("n")), "fc-1", ("result_lost", True)),
        # It has ended, and what it cost cannot be told yet: the job goes on, and whoever stops calls asks again
        (Raised(modal_errors.RemoteError("exit code: 1")), None, ("crash", True)),
    ],
)
def test_a_call_that_ended_without_an_envelope(
    result: PollResult, announced: str | None, outcome: tuple[str, bool]
) -> None:
    silent = replace(HALF_DONE, hinted_ms=None)
    ledger, _, rescheduled = _polled(silent, ToppedUp(0), _Modal(result, announced))
    assert (ledger.failed, ledger.call_may_run, rescheduled) == ([outcome[0]], [outcome[1]], [])


LEFT = Returned(Envelope(Timings(1, 2, 3), "ta-1", cold_start=True, peak_memory_bytes=1, error=SUPERSEDED).to_wire())


@pytest.mark.parametrize(
    ("announced", "adopted", "failed"),
    [
        ("fc-other", ["fc-other"], []),  # that one works: it is followed
        (None, [], []),  # which one works cannot be asked: it is asked again
        ("", [], ["spawn_lost"]),  # none does: the attempt is run again
    ],
)
def test_a_recorded_call_that_left_for_another_is_followed_by_it(
    announced: str | None, adopted: list[str], failed: list[str]
) -> None:
    silent = replace(HALF_DONE, hinted_ms=None)
    ledger, _, rescheduled = _polled(silent, ToppedUp(0), _Modal(LEFT, announced))
    assert (ledger.adopted, ledger.failed) == (adopted, failed)
    assert len(rescheduled) == (0 if failed else 1)


def test_salvage_runs_in_a_pool_of_its_own_inside_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a train call past its deadline
    seen: list[tuple[str, int]] = []
    kept: list[Schedule] = []
    made = Schedule.__init__

    def remembered(self: Schedule, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        kept.append(self)

    def salvage(_: object, call: DueCall) -> None:
        seen.append((threading.current_thread().name.split("_")[0], len(kept[0]._completing)))

    monkeypatch.setattr(Schedule, "__init__", remembered)
    monkeypatch.setattr("workers.training.following.TrainFollowing.salvage", salvage)
    # When it is stopped
    ledger, _, _ = _polled(replace(OVERDUE, job_id="train_1", kind=Kind.TRAIN), ToppedUp(1))
    # Then what it left was brought home by a thread of that pool, while its claim was renewed
    assert (seen, ledger.failed) == ([("salvage", 1)], ["timeout"])
