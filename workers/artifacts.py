"""Artifacts in S3, under a key made of job and attempt, so that no two attempts ever write the same object."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ledger.models import Artifact
from workers.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

Variant = Literal["video", "thumbnail"]


class ArtifactStoreUnavailable(Exception):
    """S3 did not take or give an object."""

    def __init__(self, operation: str, key: str, reason: str) -> None:
        self.operation = operation
        self.key = key
        self.reason = reason
        super().__init__(f"expected S3 to {operation} {key}, got: {reason}. `overspill doctor` checks the S3 settings.")


@dataclass(frozen=True)
class Video:
    """A finished render in memory."""

    mp4: bytes
    thumbnail_webp: bytes | None
    sha256: str


class ArtifactStore:
    """The bucket. Safe to share between threads; boto3's clients are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.bucket = settings.s3_bucket

    @cached_property
    def _client(self) -> "S3Client":
        return self._connect(self._settings.s3_endpoint_url)

    @cached_property
    def _public_client(self) -> "S3Client":
        return self._connect(self._settings.s3_public_endpoint_url or self._settings.s3_endpoint_url)

    def put_video(self, job_id: str, attempt: int, video: Video) -> Artifact:
        """Put a render's files; the artifact is published only when the ledger points to it.

        Raises:
            ArtifactStoreUnavailable: S3 did not take them, after boto3's own retries.
        """
        folder = f"render/{job_id}/{attempt}"
        key = f"{folder}/video.mp4"
        thumbnail_key = f"{folder}/thumbnail.webp" if video.thumbnail_webp else None
        if thumbnail_key is not None and video.thumbnail_webp is not None:
            self._put_once(thumbnail_key, video.thumbnail_webp, "image/webp")
        self._put_once(key, video.mp4, "video/mp4")
        return Artifact(
            bucket=self.bucket,
            key=key,
            thumbnail_key=thumbnail_key,
            size_bytes=len(video.mp4),
            sha256=video.sha256,
        )

    def discard(self, artifact: Artifact) -> None:
        """Remove the files of an attempt that lost. Failing to is only logged: nothing points to them."""
        for key in filter(None, (artifact.key, artifact.thumbnail_key)):
            try:
                self._client.delete_object(Bucket=artifact.bucket, Key=key)
            except (BotoCoreError, ClientError) as error:
                log.warning("artifact.not_discarded", key=key, error=str(error))

    def presigned_url(self, artifact: Artifact, *, variant: Variant) -> str:
        """An address at which anyone may read the object for `presign_ttl_s` seconds. No request is made.

        Raises:
            KeyError: the artifact has no such variant.
        """
        key = artifact.key if variant == "video" else artifact.thumbnail_key
        if key is None:
            raise KeyError(variant)
        return self._public_client.generate_presigned_url(
            "get_object",
            Params={"Bucket": artifact.bucket, "Key": key},
            ExpiresIn=self._settings.presign_ttl_s,
        )

    def check(self) -> None:
        """Write, read and remove a small object.

        Raises:
            ArtifactStoreUnavailable: one of the three did not work.
        """
        key = "doctor/check"
        self._put(key, b"ok", "text/plain")
        try:
            self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self._client.delete_object(Bucket=self.bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise ArtifactStoreUnavailable("read and remove", key, str(error)) from error

    def _put_once(self, key: str, body: bytes, content_type: str) -> None:
        """Put an object that is written once: a put that succeeded though it was said to have failed is found again."""
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != HTTPStatus.PRECONDITION_FAILED:
                raise ArtifactStoreUnavailable("store", key, str(error)) from error
            self._replace_unless_whole(key, body, content_type)
        except BotoCoreError as error:
            raise ArtifactStoreUnavailable("store", key, str(error)) from error

    def _replace_unless_whole(self, key: str, body: bytes, content_type: str) -> None:
        """The key is taken, by an earlier try of the same attempt: keep it if it is whole and the same."""
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise ArtifactStoreUnavailable("show", key, str(error)) from error
        same = head["ETag"].strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()
        if head["ContentLength"] == len(body) and same:
            log.info("artifact.was_there", key=key)
            return
        log.warning("artifact.replaced", key=key, found_bytes=head["ContentLength"], expected_bytes=len(body))
        self._put(key, body, content_type)

    def _put(self, key: str, body: bytes, content_type: str) -> None:
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)
        except (BotoCoreError, ClientError) as error:
            raise ArtifactStoreUnavailable("store", key, str(error)) from error

    def _connect(self, endpoint_url: str | None) -> "S3Client":
        secret = self._settings.s3_secret_access_key
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=self._settings.s3_region,
            aws_access_key_id=self._settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=min(5.0, self._settings.s3_timeout_s),
                read_timeout=self._settings.s3_timeout_s,
                retries={"mode": "standard", "total_max_attempts": 4},
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
            ),
        )
        return client
