"""Artifacts on a real S3 server: written once, found again, replaced only when broken."""

import hashlib
import urllib.request

import boto3
import pytest

from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable, Video
from ledger.models import Artifact
from overspill.dev.s3_service import S3Service
from tests.support.settings import changed
from workers.resources import Resources

VIDEO = Video(mp4=b"\x00\x00\x00\x18ftypisom" + b"v" * 5000, thumbnail_webp=b"RIFF....WEBP", sha256="0" * 64)


def _client(s3: S3Service) -> "boto3.client":
    named = s3.environment
    return boto3.session.Session().client(
        "s3",
        endpoint_url=named["OVERSPILL_S3_ENDPOINT_URL"],
        region_name=named["OVERSPILL_S3_REGION"],
        aws_access_key_id=named["OVERSPILL_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=named["OVERSPILL_S3_SECRET_ACCESS_KEY"],
    )


def _body(s3: S3Service, artifact: Artifact) -> bytes:
    return _client(s3).get_object(Bucket=artifact.bucket, Key=artifact.key)["Body"].read()


def test_a_video_is_put_read_by_its_presigned_address_and_discarded(resources: Resources, s3: S3Service) -> None:
    store = resources.artifacts
    artifact = store.put_video("video_a", 1, VIDEO)
    assert artifact.key == "render/video_a/1/video.mp4"
    with urllib.request.urlopen(store.presigned_url(artifact, variant="video"), timeout=10) as answer:  # noqa: S310
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.read() == VIDEO.mp4
    store.delete_object(artifact.bucket, artifact.key)
    with pytest.raises(Exception, match="NoSuchKey"):
        _body(s3, artifact)
    store.delete_object(artifact.bucket, artifact.key)
    # And everything of its attempt with it
    assert store.delete_folder(artifact.bucket, "render/video_a/1/")
    assert store.delete_folder(artifact.bucket, "render/video_a/1/")


def test_a_put_that_had_succeeded_after_all_is_found_again(resources: Resources, s3: S3Service) -> None:
    # Given a put whose answer was lost, when it is done again, then it is the same object
    first = resources.artifacts.put_video("video_b", 1, VIDEO)
    before = _client(s3).head_object(Bucket=first.bucket, Key=first.key)["LastModified"]
    assert resources.artifacts.put_video("video_b", 1, VIDEO) == first
    assert _client(s3).head_object(Bucket=first.bucket, Key=first.key)["LastModified"] == before


def test_a_broken_object_under_the_key_is_replaced(resources: Resources, s3: S3Service) -> None:
    artifact = resources.artifacts.put_video("video_c", 1, VIDEO)
    _client(s3).put_object(Bucket=artifact.bucket, Key=artifact.key, Body=VIDEO.mp4[:-1] + b"x")
    resources.artifacts.put_video("video_c", 1, VIDEO)
    assert hashlib.sha256(_body(s3, artifact)).digest() == hashlib.sha256(VIDEO.mp4).digest()


def test_a_server_that_is_not_there_is_said_so(resources: Resources) -> None:
    nowhere = changed(resources.settings, s3_endpoint_url="http://127.0.0.1:9", s3_timeout_s=0.5)
    with pytest.raises(ArtifactStoreUnavailable, match="overspill doctor"):
        ArtifactStore(nowhere).put_video("video_d", 1, VIDEO)
