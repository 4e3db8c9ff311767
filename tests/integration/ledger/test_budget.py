"""The budget as people see and steer it: the month's book, the operator's hand, containers gone early, the true-up."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ledger import Kind, Ledger, State
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunInhouse, RunOnModal
from ledger.models import Artifact
from ledger.outcomes import EndedEarly, Refused, Superseded, TooEarly, TruedUp
from ledger.retries import Cause
from tests.support.ledgers import RECEIPT, ROOMY, claim_spawns, limited, move_clock, place, submit

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second.
RATE = 1_000_000
WINDOW_S = 60.0
MODAL = RunOnModal("H100", 500_000, usd_nanos_per_s=RATE)
HOUR_MS = 3_600_000


def _set_clock(ledger: Ledger, at: datetime) -> int:
    move_clock(ledger, at.timestamp() - _now_ms(ledger) / 1000)
    return round(at.timestamp() * 1000)


def _now_ms(ledger: Ledger) -> int:
    return ledger.placement.view().now_ms


def _call(ledger: Ledger, **fields: object) -> str:
    job_id = submit(ledger, **fields)
    place(ledger, MODAL)
    for record in claim_spawns(ledger, worker="o", limit=1, lease_s=10):
        ledger.modal_calls.record_call(record.id, 1, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600)
    return job_id


def _complete(ledger: Ledger, job_id: str, *uses: ContainerUse) -> None:
    ledger.attempts.begin_delivery(job_id, 1)
    usage = Usage(uses, usd_nanos_per_s=RATE, idle_window_s=WINDOW_S)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)


def _use(
    now_ms: int,
    name: str,
    began_s_ago: float,
    ended_s_ago: float = 0,
    *,
    ran_s: float | None = None,
    first: bool = True,
) -> ContainerUse:
    began, ended = round(now_ms - began_s_ago * 1000), round(now_ms - ended_s_ago * 1000)
    return ContainerUse(name, began, ended, False, None if ran_s is None else round(ended - ran_s * 1000), first)


# --- the book


def test_cold_start_execution_waiting_and_the_idle_tail_are_booked_apart(ledger: Ledger) -> None:
    # Given a container that took 10 s to start, ran a call for 20 s, waited 5 s, and ran another for 15 s
    now = _now_ms(ledger)
    first, second = _call(ledger, tenant="acme"), _call(ledger, tenant="beta")
    _complete(ledger, first, _use(now, "ta-1", 50, 20, ran_s=20))
    _complete(ledger, second, _use(now, "ta-1", 50, 0, ran_s=15, first=False))
    # And which then idled to its end
    move_clock(ledger, WINDOW_S + 1)
    ledger.maintenance.idle_containers(limit=10)
    month = datetime.fromtimestamp(_now_ms(ledger) / 1000, UTC).strftime("%Y-%m")
    book = {by: ledger.money.book(month, by=by).modal for by in ("component", "tenant", "kind", "class", "day")}
    assert book["component"] == {"cold_start": 10_000, "execution": 35_000, "between_calls": 5_000, "idle": 60_000}
    # The tail is the last call's tenant's
    assert book["tenant"] == {"acme": 30_000, "beta": 80_000}
    assert book["kind"] == {"render": 110_000}
    assert book["class"] == {"H100": 110_000}
    assert sum(book["day"].values()) == 110_000
    counters = ledger.counters()
    for component, micros in book["component"].items():
        assert counters[f"cost_usd_micros_total|component={component}|gpu=H100|kind=render|pool=modal"] == micros
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize("ending", ["failed", "cancelled", "lease_lost"])
def test_an_in_house_attempt_costs_its_seconds_however_it_ends(ledger: Ledger, ending: str) -> None:
    job_id = submit(ledger)
    place(ledger, RunInhouse())
    ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=10, usd_nanos_per_s=250_000)
    move_clock(ledger, 40)
    match ending:
        case "failed":
            ledger.attempts.fail(job_id, 1, cause=Cause.ERROR, message="", max_attempts=1, jitter=0)
        case "cancelled":
            ledger.jobs.cancel(job_id)
        case _:
            ledger.maintenance.expire_leases(limit=5, max_attempts=1)
    # 40 s and the milliseconds that the test took
    cost = ledger.jobs.get(job_id).cost_usd_micros
    assert 10_000 <= cost <= 10_500
    assert limited(ledger, ROOMY).money.view().inhouse_usd_micros == cost
    # In no cap of Modal's
    assert limited(ledger, ROOMY).money.view().month.spent_usd_micros == 0


def test_the_projection_goes_on_as_in_the_last_day(ledger: Ledger) -> None:
    # Given the middle of a month of thirty days, and 0.1 dollars spent in the last hour, the first ones ever
    now = _set_clock(ledger, datetime(2031, 6, 15, 12, 30, tzinfo=UTC))
    _complete(ledger, _call(ledger), _use(now, "ta-1", 100))
    view = limited(ledger, ROOMY).money.view()
    assert (view.month_name, view.month.spent_usd_micros) == ("2031-06", 100_000)
    # Then the 371.5 hours that are left are taken to go on at 0.1 dollars an hour
    assert view.projected_usd_micros == pytest.approx(100_000 * (1 + 371.5), rel=0.01)


# --- containers that are gone before their tail is over


def test_idle_containers_that_modal_does_not_have_any_more_are_paid_up_to_now_only(ledger: Ledger) -> None:
    now = _now_ms(ledger)
    for number in range(3):
        _complete(ledger, _call(ledger), _use(now, f"ta-{number}", 10))
    move_clock(ledger, 20)
    # When Modal says that one is left, then two are gone: 20 of their 60 s are booked
    ended = ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=1, asked_s_ago=1)
    assert ended.containers == 2
    assert ended.given_back_usd_micros == pytest.approx(2 * 40_000, abs=2_000)
    view = limited(ledger, ROOMY).money.view()
    assert view.month.reserved_usd_micros == 60_000
    assert view.month.spent_usd_micros == pytest.approx(30_000 + 2 * 20_000, abs=2_000)
    assert view.containers.used == 1
    assert ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=1, asked_s_ago=1) == EndedEarly(0, 0)
    assert ledger.audit(ROOMY) == []


def test_none_is_taken_for_gone_while_each_may_still_be_there(ledger: Ledger) -> None:
    now = _now_ms(ledger)
    for number in range(2):
        _complete(ledger, _call(ledger), _use(now, f"ta-{number}", 10))
    # As many as idle exist: all of them may be those that idle
    assert ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=2, asked_s_ago=0) == EndedEarly(0, 0)
    # Two exist, and one of these is known to work elsewhere: one of the idle ones is gone
    ended = ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=2, asked_s_ago=0, busy=["ta-elsewhere"])
    assert ended.containers == 1
    # One that began to idle after Modal was asked is not in its answer
    assert ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=0, asked_s_ago=600).containers == 0
    # Other classes and kinds are not meant
    assert ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H200", alive=0, asked_s_ago=0).containers == 0
    assert ledger.modal_calls.idle_ended(Kind.TRAIN, gpu="H100", alive=0, asked_s_ago=0).containers == 0


def test_one_that_was_taken_for_gone_and_works_again_is_charged_each_second_once(ledger: Ledger) -> None:
    began = _now_ms(ledger)
    _complete(ledger, _call(ledger), _use(began, "ta-1", 10))
    move_clock(ledger, 20)
    assert ledger.modal_calls.idle_ended(Kind.RENDER, gpu="H100", alive=0, asked_s_ago=0).containers == 1
    # When it is seen again, 35 s after its first call
    move_clock(ledger, 15)
    now = _now_ms(ledger)
    _complete(ledger, _call(ledger), _use(now, "ta-1", 10 + (now - began) / 1000, ran_s=5, first=False))
    # Then it was paid from its start to now, and its tail is set aside again
    view = limited(ledger, ROOMY).money.view()
    assert view.month.spent_usd_micros == pytest.approx(10_000 + (now - began), abs=3)
    assert view.month.reserved_usd_micros == 60_000
    assert ledger.audit(ROOMY) == []


# --- the operator's hand


def test_while_an_operator_says_off_nothing_is_placed_on_modal(ledger: Ledger) -> None:
    set_ = ledger.money.set_override("off", who="ann", why="the bill looks wrong", for_s=60)
    assert (set_.mode, set_.who, set_.why) == ("off", "ann", "the bill looks wrong")
    job_id = submit(ledger)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=600)
    assert limited(ledger, ROOMY).placement.place(claimed, MODAL, receipt=RECEIPT) == Refused("spill_off")
    assert ledger.placement.view().override == "off"
    assert 50 <= ledger.money.retry_after_s("spill_off") <= 60
    # Until its time is over
    move_clock(ledger, 61)
    assert (ledger.money.override().mode, ledger.placement.view().override) == ("auto", "auto")
    limited(ledger, ROOMY).placement.place(claimed, MODAL, receipt=RECEIPT)
    assert ledger.jobs.get(job_id).state is State.PLACED
    events = [row for _, row in ledger.client.xrange(f"{ledger.prefix}:events") if row["event"] == "spill.override"]  # type: ignore[union-attr, misc]  # redis-py is untyped here
    assert "ann: the bill looks wrong" in events[0]["detail"]


def test_a_wish_for_warm_containers_stands_until_it_is_over_or_taken_back(ledger: Ledger) -> None:
    ledger.money.set_prewarm(3, gpu="H100", for_s=1800, who="ann", why="launch")
    ledger.money.set_prewarm(1, gpu="H200", for_s=60, who="ann", why="launch")
    (wish,) = [one for one in ledger.money.prewarms() if one.gpu == "H100"]
    assert (wish.number, wish.kind, wish.who, wish.why) == (3, Kind.RENDER, "ann", "launch")
    move_clock(ledger, 61)
    assert [one.gpu for one in ledger.money.prewarms()] == ["H100"]
    assert ledger.money.set_prewarm(0, gpu="H100", for_s=0, who="bob", why="over") == []


# --- the true-up


def _hour(year: int, month: int, day: int, hour: int) -> int:
    return round(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def test_a_report_of_closed_hours_is_compared_with_what_was_used_in_them(ledger: Ledger) -> None:
    # Given a call that ran from 11:59:20 to 12:00:40, and whose tail ended at 12:01:40
    _set_clock(ledger, datetime(2031, 6, 15, 11, 59, tzinfo=UTC))
    job_id = _call(ledger)
    _set_clock(ledger, datetime(2031, 6, 15, 12, 0, 40, tzinfo=UTC))
    noon = _hour(2031, 6, 15, 12)
    _complete(ledger, job_id, ContainerUse("ta-1", noon - 40_000, noon + 40_000))
    # While the container may still idle, the hour that it idles in cannot be compared; the one before can
    assert isinstance(ledger.money.true_up("2031-06", 0, who="t", as_of_ms=noon + HOUR_MS), TooEarly)
    # When Modal billed 45,000 for the hour before noon, in which 40,000 were used
    assert ledger.money.true_up("2031-06", 45_000, who="t", as_of_ms=noon) == TruedUp(5_000, 40_000)
    assert limited(ledger, ROOMY).money.view().month.spent_usd_micros == 80_000 + 5_000
    # Then the same report changes nothing any more
    assert ledger.money.true_up("2031-06", 45_000, who="t", as_of_ms=noon) == TruedUp(already=True)
    # And a later one books only what is new: 140,000 were used, 5,000 corrected, 143,000 billed
    move_clock(ledger, 7200)
    ledger.maintenance.idle_containers(limit=5)
    later = ledger.money.true_up("2031-06", 143_000, who="t", as_of_ms=noon + HOUR_MS)
    assert later == TruedUp(-2_000, 145_000)
    assert limited(ledger, ROOMY).money.view().month.spent_usd_micros == 143_000
    assert ledger.money.true_up("2031-06", 1, who="t", as_of_ms=noon) == Superseded(noon + HOUR_MS)
    book = ledger.money.book("2031-06", by="component")
    assert book.modal["true_up"] == 3_000
    assert (book.true_up["billed_usd_micros"], book.true_up["who"]) == ("143000", "t")
    assert ledger.audit(ROOMY) == []


def test_a_call_that_is_still_running_must_be_settled_before_its_hours_are_compared(ledger: Ledger) -> None:
    placed_ms = _set_clock(ledger, datetime(2031, 6, 15, 11, 30, tzinfo=UTC))
    job_id = _call(ledger)
    _set_clock(ledger, datetime(2031, 6, 15, 13, 30, tzinfo=UTC))
    answer = ledger.money.true_up("2031-06", 0, who="t", as_of_ms=_hour(2031, 6, 15, 12))
    assert isinstance(answer, TooEarly)
    assert placed_ms <= answer.settled_until_ms <= placed_ms + 10_000
    # One that is being stopped is no different
    ledger.jobs.cancel(job_id)
    assert isinstance(ledger.money.true_up("2031-06", 0, who="t", as_of_ms=_hour(2031, 6, 15, 12)), TooEarly)
    ledger.modal_calls.settle_cancel(job_id, 1)
    assert ledger.money.true_up("2031-06", 0, who="t", as_of_ms=_hour(2031, 6, 15, 12)) == TruedUp(0, 0)


def test_what_a_wrong_clock_says_of_the_future_was_used_by_now(ledger: Ledger) -> None:
    # Given a container whose clock is an hour ahead
    now = _set_clock(ledger, datetime(2031, 6, 15, 12, 30, tzinfo=UTC))
    _complete(ledger, _call(ledger), _use(now + HOUR_MS, "ta-1", 10))
    hours = ledger.client.hgetall(f"{ledger.prefix}:hours:2031-06")
    assert hours == {"2031-06-15T12": "10000"}


def test_a_true_up_after_the_months_end_goes_to_its_month(ledger: Ledger) -> None:
    now = _set_clock(ledger, datetime(2031, 6, 30, 20, 0, tzinfo=UTC))
    _complete(ledger, _call(ledger), _use(now, "ta-1", 10))
    _set_clock(ledger, datetime(2031, 7, 1, 6, 0, tzinfo=UTC))
    ledger.maintenance.idle_containers(limit=5)
    end = _hour(2031, 7, 1, 0)
    # 10 s and the tail of 60 s were used in June (the tail was booked in July)
    assert ledger.money.true_up("2031-06", 75_000, who="t", as_of_ms=end) == TruedUp(5_000, 70_000)
    assert ledger.money.book("2031-06", by="component").modal == {"execution": 10_000, "true_up": 5_000}
    assert limited(ledger, ROOMY).money.view().month.spent_usd_micros == 60_000
    with pytest.raises(ValueError, match="whole hour of 2031-06"):
        ledger.money.true_up("2031-06", 1, who="t", as_of_ms=end + 1)


def test_on_demand_only_what_is_in_flight_cannot_explain_is_booked(ledger: Ledger) -> None:
    now = _now_ms(ledger)
    _complete(ledger, _call(ledger), _use(now, "ta-1", 10))
    # 10,000 are spent, 60,000 set aside: a bill of 65,000 may be all that there is
    assert ledger.money.true_up_month_to_date(65_000, who="t") == TruedUp(0, 10_000)
    assert ledger.money.true_up_month_to_date(75_000, who="t") == TruedUp(5_000, 10_000)
    assert ledger.money.true_up_month_to_date(75_000, who="t") == TruedUp(0, 15_000)
    # Less than the ledger has proves nothing: Modal's figures come late
    assert ledger.money.true_up_month_to_date(0, who="t") == TruedUp(0, 15_000)


def test_what_modal_billed_yesterday_is_booked_to_yesterday_and_today_keeps_its_cap(ledger: Ledger) -> None:
    # Given 10,000 used and booked today
    now = _set_clock(ledger, datetime(2031, 6, 15, 12, 0, tzinfo=UTC))
    _complete(ledger, _call(ledger), _use(now, "ta-1", 10))
    move_clock(ledger, 3600)
    ledger.maintenance.idle_containers(limit=5)
    # When Modal billed 90,000 this month, 75,000 of them today (60,000 are the tail's)
    ledger.money.true_up_month_to_date(90_000, who="t", billed_today_usd_micros=75_000)
    # Then 5,000 of the difference of 20,000 are today's
    assert ledger.money.book("2031-06", by="day").modal == {"2031-06-14": 15_000, "2031-06-15": 75_000}
    assert limited(ledger, ROOMY).money.view().day.spent_usd_micros == 75_000
    # And on the first of a month all of it is
    _set_clock(ledger, datetime(2031, 7, 1, 1, 0, tzinfo=UTC))
    ledger.money.true_up_month_to_date(7_000, who="t", billed_today_usd_micros=7_000)
    assert ledger.money.book("2031-07", by="day").modal == {"2031-07-01": 7_000}
    assert ledger.audit(ROOMY) == []


# --- when to come back


def test_what_is_full_has_room_when_the_first_call_ends(ledger: Ledger) -> None:
    # Given a call that may run for a day and was placed first, then one that may run for 500 s, then another long one
    limits = replace(ROOMY, month_cap_usd_micros=10**9)
    for seconds in (86_400, 500, 86_400):
        submit(ledger, tenant="acme" if seconds == 500 else "beta")
        place(ledger, replace(MODAL, reserve_usd_micros=seconds * 1000), limits=limits)
    # Then there is room when the short one ends; and dollars too, for hardly any are spent
    assert 495 <= ledger.money.retry_after_s("modal_calls_at_cap") <= 500
    assert 495 <= ledger.money.retry_after_s("month_budget") <= 500
    # And another tenant's dollars when one of its own ends
    capped = replace(limits, tenant_cap_usd_micros=10**9)
    submit(ledger, tenant="beta")
    place(ledger, replace(MODAL, reserve_usd_micros=700_000), limits=capped)
    assert 695 <= ledger.money.retry_after_s("tenant_budget", tenant="beta", kind="render") <= 700
    move_clock(ledger, 600)
    assert ledger.money.retry_after_s("modal_calls_at_cap") == 5
    _set_clock(ledger, datetime(2031, 6, 30, 23, 0, tzinfo=UTC))
    assert ledger.money.retry_after_s("day_budget") == pytest.approx(3600, abs=5)
