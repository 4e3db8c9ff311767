"""Ended jobs are forgotten whole after their time, and nothing else is."""

from ledger import JobNotFound, Kind, Ledger
from ledger.models import Artifact
from tests.support.ledgers import move_clock, start_inhouse, submit


def test_an_ended_job_leaves_nothing_behind_and_a_living_one_stays(ledger: Ledger) -> None:
    # Given an ended job and one that waits
    ended = submit(ledger, tenant="gone")
    start_inhouse(ledger)
    ledger.attempts.begin_delivery(ended, 1)
    artifact = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
    ledger.attempts.complete(ended, 1, artifact=artifact, measurements={}, cost_usd_micros=1)
    waiting = submit(ledger)
    # When its time is not over yet, nothing happens
    assert ledger.sweeps.retire(Kind.RENDER, older_than_s=100, limit=10) == (0, [])
    # When it is, the job is gone, its artifact is given back, and the books still agree
    move_clock(ledger, 101)
    assert ledger.sweeps.retire(Kind.RENDER, older_than_s=100, limit=10) == (1, [artifact])
    assert [key for key in ledger.client.scan_iter(f"{ledger.prefix}:*") if ended in key] == []
    assert ledger.audit() == []
    assert ledger.desk.get(waiting).id == waiting
    try:
        ledger.desk.get(ended)
    except JobNotFound:
        pass
    else:
        raise AssertionError("the job is still known")
