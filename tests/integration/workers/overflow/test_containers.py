"""The deployed renderer in real containers: results inline and straight to S3, bounded, and its peak memory told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from modal.exception import ServiceError

from infra.artifacts import ArtifactStore
from ledger import Ledger, State
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import settings_for
from tests.support.modal_local import start_modal_local
from tests.support.overflow import Plane, client_of, deploy_renderer
from workers.overflow.modal_sdk import client as sdk
from workers.overflow.modal_sdk.port import PollFailed, Returned


@pytest.fixture(scope="module")
def containers() -> Iterator[tuple[dict[str, str], Any]]:
    server = start_modal_local(max_containers=2)
    try:
        deploy_renderer(server.env)
        yield server.env, client_of(server.env)
    finally:
        server.stop()


def _plane(ledger: Ledger, s3: S3Service, containers: tuple[dict[str, str], Any], **fields: object) -> Plane:
    environment, client = containers
    store = ArtifactStore(settings_for(ledger, s3))
    return Plane.on(ledger, environment, client, artifacts=store, spawn_timeout_s=60, **fields)


def _object(s3: S3Service, key: str) -> bytes:
    named = s3.environment
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=named["OVERSPILL_S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=named["OVERSPILL_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=named["OVERSPILL_S3_SECRET_ACCESS_KEY"],
    )
    try:
        return client.get_object(Bucket=named.get("OVERSPILL_S3_BUCKET", "overspill"), Key=key)["Body"].read()
    finally:
        client.close()


def test_a_video_goes_straight_to_s3_by_an_address_that_we_signed(
    ledger: Ledger, s3: S3Service, containers: tuple[dict[str, str], Any]
) -> None:
    # Given a plane whose results go straight to S3, and a follower that could hold none of them
    plane = _plane(ledger, s3, containers, result_transport="presigned", max_result_bytes=8_192)
    job_id = plane.placed("a lighthouse")
    # When a real container renders
    assert plane.spawn() == {"spawned": 1}
    with plane.following():
        done = plane.ended(job_id, timeout_s=60)
    # Then the video lies in S3, whole, and the record has its true size and checksum
    assert done.state is State.COMPLETED, done.error_message
    artifact = done.artifact
    assert artifact is not None
    body = _object(s3, artifact.key)
    assert len(body) == artifact.size_bytes > 8_192
    assert body[4:8] == b"ftyp"
    assert artifact.thumbnail_key is not None
    assert _object(s3, artifact.thumbnail_key)[:4] == b"RIFF"


def test_a_result_beyond_our_bound_is_not_fetched(
    ledger: Ledger, s3: S3Service, containers: tuple[dict[str, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a follower that holds no result of more than eight kilobytes
    plane = _plane(ledger, s3, containers, max_result_bytes=8_192)
    job_id = plane.placed("a lighthouse")
    # When a video comes back inline
    plane.spawn()
    with plane.following():
        done = plane.ended(job_id, timeout_s=60)
    # Then it is not fetched, and the job says so
    assert (done.state, done.error_code) == (State.FAILED, "result_too_large")
    assert "OVERSPILL_RESULT_TRANSPORT" in (done.error_message or "")
    # And when a follower that holds more polls while Modal's store is away, it is known that the call has a result
    roomy = _plane(ledger, s3, containers)
    call_id = ledger.jobs.attempt(job_id, 1)["call_id"]
    roomy.admin.inject("unavailable", methods=["BlobGet"])
    result = asyncio.run(roomy.modal.poll(call_id))
    roomy.admin.clear()
    assert isinstance(result, PollFailed)
    assert (type(result.error), result.has_result) == (ServiceError, True)
    # And while its bytes come, who waits for them is told, out of the SDK's own thread
    told: list[int] = []
    monkeypatch.setattr(sdk, "_extending", lambda *_: lambda: told.append(1))
    assert isinstance(asyncio.run(roomy.modal.poll(call_id)), Returned)
    assert told
