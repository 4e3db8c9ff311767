"""The nightly true-up on a real ledger; only Modal's bill itself is said by the test."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunOnModal
from ledger.models import Artifact
from tests.support.ledgers import move_clock, place, submit
from workers.overflow import trueup
from workers.overflow.trueup import NightlyTrueUp
from workers.settings import Settings

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
#: A thousand micro-dollars a second.
MODAL = RunOnModal("H100", 500_000, usd_nanos_per_s=1_000_000)


@dataclass
class _Open:
    """What the nightly true-up needs of a process's resources."""

    settings: Settings
    ledger: Ledger


def _set_clock(ledger: Ledger, at: datetime) -> None:
    move_clock(ledger, at.timestamp() - ledger.placing.view().now_ms / 1000)


def _call(ledger: Ledger) -> str:
    job_id = submit(ledger)
    place(ledger, MODAL)
    (record,) = ledger.calls.claim_spawns(worker="o", limit=1, lease_s=10)
    ledger.calls.record_call(record.id, 1, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600)
    return job_id


def _complete(ledger: Ledger, job_id: str, began: datetime, ended: datetime) -> None:
    ledger.attempts.begin_delivery(job_id, 1)
    use = ContainerUse(f"ta-{job_id}", round(began.timestamp() * 1000), round(ended.timestamp() * 1000), gone=True)
    usage = Usage([use], usd_nanos_per_s=MODAL.usd_nanos_per_s, idle_window_s=60)
    ledger.attempts.complete(job_id, 1, artifact=ARTIFACT, measurements={}, usage=usage)


def test_under_constant_load_the_bill_is_booked_up_to_the_hour_in_which_all_is_settled(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given forty seconds of use before eleven, and a call that was placed at noon and still runs at four
    day = datetime(2031, 6, 15, tzinfo=UTC)
    _set_clock(ledger, day.replace(hour=10, minute=30))
    job_id = _call(ledger)
    _set_clock(ledger, day.replace(hour=10, minute=31))
    _complete(ledger, job_id, day.replace(hour=10, minute=30), day.replace(hour=10, minute=30, second=40))
    _set_clock(ledger, day.replace(hour=12, minute=5))
    _call(ledger)
    _set_clock(ledger, day.replace(hour=16))
    # And Modal's bill, which says 45,000 micro-dollars whatever its end
    asked: list[datetime] = []

    def bill(settings: Settings, *, start: datetime, end: datetime) -> int:
        asked.append(end)
        return 45_000

    monkeypatch.setattr(trueup, "billed_usd_micros", bill)
    open_ends: Any = _Open(Settings(), ledger)
    # When the ledger is compared at four
    done = asyncio.run(NightlyTrueUp(open_ends).compare(day.replace(hour=16)))
    # Then not up to two, for the call reaches back before it, but up to noon; and the difference is booked
    assert done
    assert [end.hour for end in asked] == [14, 12]
    assert ledger.budget.book("2031-06", by="component").modal == {"execution": 40_000, "true_up": 5_000}
