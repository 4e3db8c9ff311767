"""Ended jobs are forgotten whole after their time, what they have left is noted for deletion, and nothing else goes."""

import pytest

from ledger import JobNotFound, Kind, Ledger, TrainJob
from ledger.deletions import DeleteFolder, DeleteJobFiles, DeleteObject, Store, parse_deletion
from ledger.maintenance import Retired
from ledger.models import Artifact
from tests.support.ledgers import MODAL, ROOMY, claim_spawns, move_clock, place, start_inhouse, submit

#: Tens of milliseconds of Redis's one thread; maintenance has a tenth of it.
ATTEMPTS_IN_A_CALL = 20_000


def _retire(ledger: Ledger, kind: Kind = Kind.RENDER, *, older_than_s: float = 100, **arguments: object) -> Retired:
    return ledger.maintenance.retire(
        kind,
        older_than_s=older_than_s,
        bucket="b",
        **{"limit": 10, **arguments},  # type: ignore[arg-type]  # a test
    )


def _completed(ledger: Ledger, artifact: Artifact, **fields: object) -> str:
    job_id = submit(ledger, **fields)
    start_inhouse(ledger)
    ledger.attempts.begin_delivery(job_id, 1)
    ledger.attempts.complete(job_id, 1, artifact=artifact, measurements={}, cost_usd_micros=1)
    return job_id


def _artifact(bucket: str, key: str, thumbnail_key: str | None = None) -> Artifact:
    return Artifact(bucket=bucket, key=key, thumbnail_key=thumbnail_key, size_bytes=1, sha256="0")


def _deletions(ledger: Ledger, store: Store = Store.S3) -> set[object]:
    claim = ledger.deletions.claim(store, limit=100, lease_s=1)
    return {parse_deletion(text) for text in claim.entries}


def test_an_ended_job_leaves_nothing_behind_and_a_living_one_stays(ledger: Ledger) -> None:
    # Given an ended job and one that waits
    ended = _completed(ledger, _artifact("b", "k"), tenant="gone")
    waiting = submit(ledger)
    # When its time is not over yet, nothing happens
    assert _retire(ledger) == Retired([], kept=0, more=False)
    # When it is, the job is gone, and the books still agree
    move_clock(ledger, 101)
    assert _retire(ledger) == Retired([ended], kept=0, more=False)
    assert [key for key in ledger.client.scan_iter(f"{ledger.prefix}:*") if ended in key] == []
    assert ledger.audit() == []
    assert ledger.jobs.get(waiting).id == waiting
    with pytest.raises(JobNotFound):
        ledger.jobs.get(ended)


def test_everything_that_any_attempt_has_put_is_noted_for_deletion_by_the_script_that_drops_the_record(
    ledger: Ledger,
) -> None:
    # Given a job whose artifact lies where its attempts put it, and one of whom it lies elsewhere (another setting)
    here = _completed(ledger, _artifact("b", "render/x/1/video.mp4"))
    ledger.client.hset(
        f"{ledger.prefix}:job:{here}",
        "artifact",
        f'{{"bucket": "b", "key": "render/{here}/1/video.mp4", "thumbnail_key": "render/{here}/1/thumbnail.webp"}}',
    )
    there = _completed(ledger, _artifact("old bucket"[:3], "videos/1 of 2.mp4", "videos/1.webp"))
    # When they are retired
    move_clock(ledger, 101)
    assert set(_retire(ledger).ids) == {here, there}
    # Then their folders are to be deleted, and what lies outside of them
    assert _deletions(ledger) == {
        DeleteFolder("b", f"render/{here}/"),
        DeleteFolder("b", f"render/{there}/"),
        DeleteFolder("old", f"render/{there}/"),
        DeleteObject("old", "videos/1 of 2.mp4"),
        DeleteObject("old", "videos/1.webp"),
    }
    assert _deletions(ledger, Store.VOLUME) == set()


@pytest.mark.parametrize("on_volume", [True, False])
def test_a_train_job_may_have_files_on_modals_volume(ledger: Ledger, on_volume: bool) -> None:
    job_id = ledger.jobs.submit(TrainJob(recipe="image_classifier"), source="client").job_id
    ledger.jobs.cancel(job_id)
    move_clock(ledger, 101)
    assert _retire(ledger, Kind.TRAIN, on_volume=on_volume).ids == [job_id]
    assert _deletions(ledger) == {DeleteFolder("b", f"train/{job_id}/")}
    assert _deletions(ledger, Store.VOLUME) == ({DeleteJobFiles(job_id)} if on_volume else set())


def test_a_job_that_claims_millions_of_attempts_goes_in_bounded_calls(ledger: Ledger) -> None:
    # Given an ended job with a damaged number of attempts, of which it has had one, and another ended job
    greedy = _completed(ledger, _artifact("b", "k"))
    key = f"{ledger.prefix}:job:{greedy}"
    ledger.client.hset(key, "attempt", "2000000")
    other = _completed(ledger, _artifact("b", "k"))
    move_clock(ledger, 101)
    # When retirement is called again and again
    gone: list[str] = []
    left, more = 2_000_000, True
    while more:
        retired = _retire(ledger, attempts=ATTEMPTS_IN_A_CALL)
        gone, more = [*gone, *retired.ids], retired.more
        left -= ATTEMPTS_IN_A_CALL
        if left > 0:
            # Then each call goes on where the last one ended, and the record is there until all attempts are gone
            assert ledger.client.hget(key, "retire_from") == str(left)
            assert ledger.client.exists(f"{ledger.prefix}:attempt:{greedy}:1")
    # And both jobs are gone, whole
    assert -ATTEMPTS_IN_A_CALL <= left <= 0
    assert gone == [greedy, other]
    assert [name for name in ledger.client.scan_iter(f"{ledger.prefix}:*") if greedy in name] == []


@pytest.mark.parametrize("attempt", ["1e300", "inf", "nan", "-5", "high", ""])
def test_a_number_of_attempts_that_is_none_stops_nothing(ledger: Ledger, attempt: str) -> None:
    broken = _completed(ledger, _artifact("b", "k"))
    ledger.client.hset(f"{ledger.prefix}:job:{broken}", "attempt", attempt)
    other = _completed(ledger, _artifact("b", "k"))
    move_clock(ledger, 101)
    first = _retire(ledger)
    if first.more:  # it claims more than anyone believes, and its turn is over for now
        assert int(ledger.client.hget(f"{ledger.prefix}:job:{broken}", "retire_from") or "0") < 10_000_000
        ledger.client.hset(f"{ledger.prefix}:job:{broken}", "retire_from", "1")
        first = _retire(ledger)
    assert first.ids == [broken, other]


def test_a_record_of_another_type_is_retired_and_leaves_the_quarantine(ledger: Ledger) -> None:
    broken = _completed(ledger, _artifact("b", "k"))
    key = f"{ledger.prefix}:job:{broken}"
    ledger.client.delete(key)
    ledger.client.rpush(key, "x")
    ledger.placement.quarantine(broken, reason="a test")
    move_clock(ledger, 101)
    assert _retire(ledger).ids == [broken]
    assert ledger.jobs.quarantined() == {}
    assert not ledger.client.exists(key)


def test_a_job_whose_call_is_still_to_be_stopped_is_kept_and_those_behind_it_go(ledger: Ledger) -> None:
    # Given two cancelled jobs, of which the first has a call that is still to be stopped
    stopping = submit(ledger, priority=9)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    ledger.modal_calls.record_call(stopping, 1, call_id="fc", first_check_s=0, deadline_s=600)
    ledger.jobs.cancel(stopping)
    over = submit(ledger)
    ledger.jobs.cancel(over)
    move_clock(ledger, 101)
    # When a round of retirement goes on behind those that are kept, as it does
    first = _retire(ledger, limit=1)
    assert first == Retired([], kept=1, more=True)
    assert _retire(ledger, limit=1, skip=first.kept).ids == [over]
    # Then the first stays until its call is settled
    ledger.modal_calls.settle_cancel(stopping, 1, cost_usd_micros=5)
    assert _retire(ledger).ids == [stopping]
    assert ledger.audit(ROOMY) == []
