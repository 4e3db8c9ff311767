"""An S3 that hangs stops no repair, and no object without a pointer is forgotten, whatever becomes of S3 and of us."""

from collections.abc import Iterator

import pytest

from infra.artifacts import ArtifactStore, ObjectNotDeleted, Video
from infra.broker import Broker
from ledger import Kind, Ledger, State
from ledger.decisions import Hold, RunInhouse
from ledger.deletions import DeleteFolder, DeleteObject, Store
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.ledgers import RECEIPT, ROOMY, limited, move_clock, place, start_inhouse, submit
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from workers.delivery import AttemptOf, TooLate, deliver
from workers.maintenance.deletions import delete_objects
from workers.maintenance.retirement import retire_jobs
from workers.maintenance.service import MaintenanceService, StoreAway
from workers.maintenance.wiring import maintenance
from workers.resources import Resources

VIDEO = Video(mp4=b"\x00\x00\x00\x18ftypisom" + b"v" * 50, thumbnail_webp=b"RIFF....WEBP", sha256="0" * 64)
#: How soon everything must be repaired, seconds; with deletions in the same loop it took a multiple of S3's timeouts.
SOON_S = 10.0


@pytest.fixture
def way_to_s3(s3: S3Service) -> Iterator[TcpProxy]:
    proxy = TcpProxy(int(s3.url.rpartition(":")[2]))
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def behind(ledger: Ledger, s3: S3Service, way_to_s3: TcpProxy) -> Resources:
    """A process that reaches S3 through the proxy. S3 may keep it waiting for long."""
    values = settings_for(
        ledger, s3, s3_endpoint_url=f"http://127.0.0.1:{way_to_s3.port}", s3_timeout_s=20, sweep_every_s=0.1
    )
    return Resources(values, ledger, ArtifactStore(values), RecordingNudger())  # type: ignore[arg-type]  # the port


def keys(resources: Resources, job_id: str) -> list[str]:
    """What lies in S3 of a job, asked past the proxy."""
    found = resources.artifacts.client.list_objects_v2(Bucket=resources.artifacts.bucket, Prefix=f"render/{job_id}/")
    return [entry["Key"] for entry in found.get("Contents", [])]


def completed(ledger: Ledger, resources: Resources) -> str:
    job_id = submit(ledger)
    record = start_inhouse(ledger)
    assert record.id == job_id
    # (An earlier attempt that died between its put and its word leaves objects, too.)
    resources.artifacts.put_video(job_id, 7, VIDEO)
    deliver(ledger, resources.artifacts, AttemptOf(job_id, 1), VIDEO, measurements={})
    assert len(keys(resources, job_id)) == 4
    return job_id


def hangs(way_to_s3: TcpProxy, behind: Resources) -> None:
    """S3 keeps connections open and answers nothing."""
    behind.artifacts.delete_object(behind.artifacts.bucket, "nothing")  # a connection that is open already hangs, too
    way_to_s3.hold()


def test_while_s3_hangs_leases_held_jobs_and_nudges_are_repaired_and_afterwards_nothing_is_left_in_s3(
    ledger: Ledger, behind: Resources, resources: Resources, way_to_s3: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job to be retired, whose deletion hangs
    monkeypatch.setattr(MaintenanceService, "STOP_TIMEOUT_S", 0.5)
    old = completed(ledger, resources)
    move_clock(ledger, behind.settings.maintenance.retention_s + 60)
    hangs(way_to_s3, behind)
    process = maintenance(behind, Broker(behind.settings))
    process.start()
    assert process.ready(10)
    until(lambda: ledger.deletions.pending(Store.S3), lambda number: number == 1, timeout_s=SOON_S)
    # When a worker dies, a held job falls due, and a nudge is lost
    dead = start_a_job(ledger)
    held = hold_a_job(ledger)
    lost = submit(ledger)
    move_clock(ledger, ledger.settings.nudge_again_s + 30)
    # Then all of them are repaired soon
    sent: RecordingNudger = behind.nudger  # type: ignore[assignment]  # it is one
    until(lambda: ledger.jobs.get(dead).state, lambda state: state is State.QUEUED, timeout_s=SOON_S)
    until(lambda: ledger.jobs.get(held).state, lambda state: state is State.QUEUED, timeout_s=SOON_S)
    until(lambda: {nudge.queue for nudge in sent.sent}, lambda queues: "render" in queues, timeout_s=SOON_S)
    assert ledger.jobs.get(lost).state is State.QUEUED
    assert ledger.deletions.pending(Store.S3) == 1
    assert len(keys(resources, old)) == 4
    # And when S3 answers again, nothing of the retired job is left, of any attempt
    way_to_s3.heal()
    until(lambda: keys(resources, old), lambda left: left == [], timeout_s=30)
    until(lambda: ledger.deletions.pending(Store.S3), lambda number: number == 0, timeout_s=SOON_S)
    process.stop()


def start_a_job(ledger: Ledger) -> str:
    job_id = submit(ledger, priority=9)
    place(ledger, RunInhouse())
    assert ledger.attempts.start_inhouse(Kind.RENDER, worker="dead", lease_s=1) is not None
    return job_id


def hold_a_job(ledger: Ledger) -> str:
    job_id = submit(ledger, priority=9)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    hold = Hold("modal_calls_at_cap", again_in_s=5, timeout_s=3600)
    limited(ledger, ROOMY).placement.place(claimed, hold, receipt=RECEIPT)
    return job_id


def test_a_deletion_that_failed_is_done_after_a_restart(
    ledger: Ledger, behind: Resources, resources: Resources, way_to_s3: TcpProxy
) -> None:
    # Given a retired job whose objects could not be deleted, by a process that is gone
    old = completed(ledger, resources)
    move_clock(ledger, behind.settings.maintenance.retention_s + 60)
    retire_jobs(behind)
    way_to_s3.refuse()
    with pytest.raises(StoreAway):
        delete_objects(behind)
    assert ledger.counters()["deletions_total|outcome=failed|store=s3"] == 1
    assert len(keys(resources, old)) == 4
    # When another process goes on after the pause
    way_to_s3.heal()
    assert delete_objects(behind) == 0
    move_clock(ledger, 10)
    fresh = Resources(behind.settings, Ledger(behind.settings.ledger), ArtifactStore(behind.settings), behind.nudger)
    # Then they are gone, and S3 has said so
    assert delete_objects(fresh) == 1
    assert keys(resources, old) == []
    assert ledger.deletions.pending(Store.S3) == 0
    fresh.ledger.close()


def test_what_an_attempt_that_lost_the_race_has_put_is_deleted(ledger: Ledger, resources: Resources) -> None:
    # Given an attempt that is cancelled while its files go to S3
    job_id = submit(ledger)
    start_inhouse(ledger)

    class CancelledMeanwhile(ArtifactStore):
        def put_video(self, *arguments: object) -> object:  # type: ignore[override]  # the same, and a cancel
            artifact = resources.artifacts.put_video(*arguments)  # type: ignore[arg-type]
            ledger.jobs.cancel(job_id)
            return artifact

    store = CancelledMeanwhile(resources.settings)
    # When it comes too late, then its files are to be deleted, without a word with S3 in between
    assert deliver(ledger, store, AttemptOf(job_id, 1), VIDEO, measurements={}) == TooLate()
    assert ledger.deletions.pending(Store.S3) == 2
    assert delete_objects(resources) == 2
    assert keys(resources, job_id) == []


def test_an_entry_that_s3_refuses_or_that_is_none_of_ours_stops_no_other(ledger: Ledger, resources: Resources) -> None:
    # Given entries that S3 refuses, that would delete too much, and that are no entry at all, before a good one
    bucket = resources.artifacts.bucket
    job_id = completed(ledger, resources)
    ledger.deletions.add(Store.S3, [DeleteObject("no-such-bucket-here", "x"), DeleteFolder(bucket, "render/")])
    ledger.client.zadd(f"{ledger.prefix}:deletions:s3", {"rm -rf /": 1})
    ledger.deletions.add(Store.S3, [DeleteFolder(bucket, f"render/{job_id}/")])
    # When a round is done, then the good one is gone, what is none of ours is dropped, and the other comes again
    delete_objects(resources)
    assert keys(resources, job_id) == []
    counters = ledger.counters()
    assert counters["deletions_total|outcome=refused|store=s3"] == 2
    assert ledger.deletions.pending(Store.S3) <= 1


def test_a_folder_of_more_than_a_thousand_objects_is_emptied_over_several_requests(
    ledger: Ledger, resources: Resources
) -> None:
    store = resources.artifacts
    for number in range(1100):
        store.client.put_object(Bucket=store.bucket, Key=f"train/ftjob_many/1/{number}", Body=b"")
    ledger.deletions.add(Store.S3, [DeleteFolder(store.bucket, "train/ftjob_many/")])
    assert delete_objects(resources) == 1
    assert store.client.list_objects_v2(Bucket=store.bucket, Prefix="train/ftjob_many/").get("KeyCount", 0) == 0
    assert ledger.counters()["deletions_total|outcome=unfinished|store=s3"] >= 1


def test_a_part_of_a_request_that_s3_refuses_is_no_success(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = resources.artifacts
    store.client.put_object(Bucket=store.bucket, Key="train/ftjob_kept/1/x", Body=b"")
    refusal = {"Errors": [{"Key": "train/ftjob_kept/1/x", "Code": "AccessDenied", "Message": "locked"}]}
    monkeypatch.setattr(store._deleting_client, "delete_objects", lambda **_: refusal)
    with pytest.raises(ObjectNotDeleted, match="AccessDenied"):
        store.delete_folder(store.bucket, "train/ftjob_kept/")
