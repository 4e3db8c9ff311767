"""The nightly true-up on a real ledger; only Modal's bill itself is said by the tests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from infra.settings import Settings
from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunOnModal
from ledger.models import Artifact
from tests.support.ledgers import claim_spawns, move_clock, place, submit
from workers.overflow import true_up
from workers.overflow.true_up import NightlyTrueUp

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second.
MODAL = RunOnModal("H100", 500_000, usd_nanos_per_s=1_000_000)


@dataclass
class _Open:
    """What the nightly true-up needs of a process's resources."""

    settings: Settings
    ledger: Ledger


def _set_clock(ledger: Ledger, at: datetime) -> None:
    move_clock(ledger, at.timestamp() - ledger.placement.view().now_ms / 1000)


def _call(ledger: Ledger) -> str:
    job_id = submit(ledger)
    place(ledger, MODAL)
    (record,) = claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(record.id, 1, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600)
    return job_id


def _complete(ledger: Ledger, job_id: str, began: datetime, ended: datetime) -> None:
    ledger.attempts.begin_delivery(job_id, 1)
    use = ContainerUse(f"ta-{job_id}", round(began.timestamp() * 1000), round(ended.timestamp() * 1000), gone=True)
    usage = Usage([use], usd_nanos_per_s=MODAL.usd_nanos_per_s, idle_window_s=60)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)


@dataclass
class _Bill:
    """What Modal says: so much whatever is asked, and nothing while it is away."""

    usd_micros: int
    is_away: bool = False
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    def __call__(self, settings: Settings, *, start: datetime, end: datetime) -> int:
        self.asked.append((start, end))
        if self.is_away:
            raise ConnectionError("Modal is away")
        return self.usd_micros


@pytest.fixture
def bill(monkeypatch: pytest.MonkeyPatch) -> _Bill:
    said = _Bill(45_000)
    monkeypatch.setattr(true_up, "billed_usd_micros", said)
    return said


def _nightly(ledger: Ledger, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> NightlyTrueUp:
    resources: Any = _Open(Settings(), ledger)
    return NightlyTrueUp(resources, now=now)


def _used_40_s(ledger: Ledger, at: datetime) -> None:
    """Forty seconds of use, from then on."""
    _set_clock(ledger, at)
    job_id = _call(ledger)
    _set_clock(ledger, at + timedelta(minutes=1))
    _complete(ledger, job_id, at, at + timedelta(seconds=40))


def test_under_constant_load_the_bill_is_booked_up_to_the_hour_in_which_all_is_settled(
    ledger: Ledger, bill: _Bill
) -> None:
    # Given forty seconds of use, a call that was placed at five past twelve and still runs, and the night after
    day, night = datetime(2031, 6, 15, tzinfo=UTC), datetime(2031, 6, 16, 3, tzinfo=UTC)
    _used_40_s(ledger, day.replace(hour=10, minute=30))
    _set_clock(ledger, day.replace(hour=12, minute=5))
    _call(ledger)
    _set_clock(ledger, night)
    # When the ledger is compared
    assert asyncio.run(_nightly(ledger).compare(night.date()))
    # Then not up to midnight, for the call reaches back before it, but up to noon
    assert [end for _, end in bill.asked] == [night.replace(hour=0), day.replace(hour=12)]
    # And the difference is booked, and moves no cap of the day that has begun
    assert ledger.money.book("2031-06", by="component").modal == {"execution": 40_000, "true_up": 5_000}
    assert ledger.money.book("2031-06", by="day").modal == {"2031-06-15": 45_000}


def test_the_last_hours_of_a_month_are_compared_until_it_is_closed(ledger: Ledger, bill: _Bill) -> None:
    # Given use in the last hour of June, and a call that was placed before it and still runs on the first of July
    last = datetime(2031, 6, 30, tzinfo=UTC)
    _set_clock(ledger, last.replace(hour=20, minute=5))
    running = _call(ledger)
    _used_40_s(ledger, last.replace(hour=23, minute=30))
    first, june = last + timedelta(days=1), (datetime(2031, 6, 1, tzinfo=UTC), datetime(2031, 7, 1, tzinfo=UTC))
    _set_clock(ledger, first.replace(hour=3))
    # When it is compared in the first night, then as far as that goes
    nightly = _nightly(ledger)
    assert asyncio.run(nightly.compare(first.date()))
    assert bill.asked == [june, (june[0], last.replace(hour=20))]
    # When the call has ended, then the next night closes June
    _complete(ledger, running, first.replace(hour=2), first.replace(hour=2, second=10))
    second, bill.usd_micros = first + timedelta(days=1), 42_000
    _set_clock(ledger, second.replace(hour=3))
    bill.asked.clear()
    assert asyncio.run(nightly.compare(second.date()))
    july = (june[1], second)
    assert bill.asked == [june, july]
    assert sum(ledger.money.book("2031-06", by="day").modal.values()) == 42_000
    # And the one after asks about July only
    bill.asked.clear()
    third = second + timedelta(days=1)
    _set_clock(ledger, third.replace(hour=3))
    assert asyncio.run(nightly.compare(third.date()))
    assert bill.asked == [(june[1], third)]


def test_a_month_of_which_the_ledger_knows_nothing_is_left_alone(ledger: Ledger, bill: _Bill) -> None:
    _set_clock(ledger, datetime(2031, 6, 1, 4, tzinfo=UTC))
    assert asyncio.run(_nightly(ledger).compare(date(2031, 6, 1)))
    assert bill.asked == []


def test_what_did_not_work_is_tried_again_every_ten_minutes_until_it_went_well_that_day(
    ledger: Ledger, bill: _Bill
) -> None:
    # Given a Modal that is away from three to four
    hours_minutes = [(2, 59), (3, 0), (3, 9), (3, 10), (4, 0), (4, 10), (15, 0)]
    times = [datetime(2031, 6, 15, hour, minute, tzinfo=UTC) for hour, minute in hours_minutes]
    clock = [times[0]]
    nightly, tried = _nightly(ledger, lambda: clock[0]), []
    # When it is looked again and again whether it is due
    for clock[0] in [*times, times[-1] + timedelta(days=1)]:
        _set_clock(ledger, clock[0])
        bill.is_away = clock[0].hour == 3
        asyncio.run(nightly.if_due())
        tried.append(len(bill.asked))
    # Then it is tried from three on, ten minutes apart, until it went well; and once on the next day
    assert tried == [0, 1, 1, 2, 3, 3, 3, 4]


def test_a_month_whose_bill_makes_no_sense_does_not_keep_the_next_from_being_compared(
    ledger: Ledger, bill: _Bill, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given use in June and in July, and a bill for June that cannot be read
    _used_40_s(ledger, datetime(2031, 6, 30, 10, tzinfo=UTC))
    _used_40_s(ledger, datetime(2031, 7, 1, 10, tzinfo=UTC))
    _set_clock(ledger, datetime(2031, 7, 2, 3, tzinfo=UTC))

    def odd(settings: Settings, *, start: datetime, end: datetime) -> int:
        if start.month == 6:
            raise KeyError("cost")
        return bill(settings, start=start, end=end)

    monkeypatch.setattr(true_up, "billed_usd_micros", odd)
    # When both are compared, then it is to be tried again, and July is booked
    assert not asyncio.run(_nightly(ledger).compare(date(2031, 7, 2)))
    assert sum(ledger.money.book("2031-07", by="day").modal.values()) == 45_000
