"""Artifacts in S3, under a key made of job and attempt, so that no two attempts ever write the same object."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.settings import Settings
from ledger.models import Artifact
from modal_apps.uploads import UploadAddress

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

Variant = Literal["video", "thumbnail"]

#: S3's own bound of a presigned address, seconds.
LONGEST_PRESIGN_S = 604_800
#: What is read of an object at a time, bytes.
READ_BYTES = 1024 * 1024


class ArtifactStoreUnavailable(Exception):
    """S3 did not take or give an object."""

    def __init__(self, operation: str, key: str, reason: str) -> None:
        self.operation = operation
        self.key = key
        self.reason = reason
        super().__init__(f"expected S3 to {operation} {key}, got: {reason}. `overspill doctor` checks the S3 settings.")


class ObjectNotDeleted(Exception):
    """S3 answered, and refused to delete an object."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"expected S3 to delete {key}, got: {reason}.")


class UploadNotWhole(Exception):
    """A container said that it had put an object, and something else lies there."""

    def __init__(self, key: str, found: str) -> None:
        self.key = key
        self.found = found
        super().__init__(f"expected {key} as the container said it had put it, found {found}; it is rendered again.")


@dataclass(frozen=True)
class Video:
    """A finished render in memory."""

    mp4: bytes
    thumbnail_webp: bytes | None
    sha256: str


@dataclass(frozen=True)
class Uploaded:
    """A finished render whose container has put its files into the bucket itself.

    File (`video`, `thumbnail`) -> `bytes`, `sha256`, `md5` and `was_there`, as `modal_apps.uploads.upload` says them.
    """

    files: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Stored:
    """A result that lies in the bucket already, under its attempt's own keys: a training run's last checkpoint."""

    artifact: Artifact


class ArtifactStore:
    """The bucket. Safe to share between threads; boto3's clients are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.bucket = settings.s3.bucket

    @cached_property
    def _client(self) -> "S3Client":
        return self._connect(self._settings.s3.endpoint_url)

    @property
    def client(self) -> "S3Client":
        """For the stores that keep other things in the same bucket."""
        return self._client

    @cached_property
    def _deleting_client(self) -> "S3Client":
        """One try each: the ledger's list of deletions has the pauses."""
        return self._connect(self._settings.s3.endpoint_url, attempts=1)

    @cached_property
    def _public_client(self) -> "S3Client":
        return self._connect(self._settings.s3.public_endpoint_url or self._settings.s3.endpoint_url)

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

    def upload_addresses(self, job_id: str, attempt: int, *, expires_in_s: float) -> dict[str, UploadAddress]:
        """Addresses at which a container may put an attempt's files, each once. No request is made.

        Args:
            job_id: the job.
            attempt: its attempt, which the keys hold, so no other attempt can write there.
            expires_in_s: their life, seconds; S3 allows a week at most.
        """
        folder = f"render/{job_id}/{attempt}"
        files = {"video": ("video.mp4", "video/mp4"), "thumbnail": ("thumbnail.webp", "image/webp")}
        return {
            file: UploadAddress(
                url=self._public_client.generate_presigned_url(
                    "put_object",
                    Params={
                        "Bucket": self.bucket,
                        "Key": f"{folder}/{name}",
                        "ContentType": content_type,
                        "IfNoneMatch": "*",
                    },
                    ExpiresIn=min(LONGEST_PRESIGN_S, int(expires_in_s)),
                ),
                headers={"Content-Type": content_type, "If-None-Match": "*"},
            )
            for file, (name, content_type) in files.items()
        }

    def uploaded_video(self, job_id: str, attempt: int, uploaded: Mapping[str, Mapping[str, Any]]) -> Artifact:
        """The artifact that a container put itself, checked against what it said of it.

        Args:
            job_id: the job.
            attempt: its attempt.
            uploaded: file -> `bytes`, `sha256`, `md5`, as `modal_apps.uploads.upload` returns them.

        Raises:
            UploadNotWhole: what lies there is not what was said to be put.
            ArtifactStoreUnavailable: S3 did not answer.
            KeyError: a part is missing.
        """
        folder = f"render/{job_id}/{attempt}"
        key = f"{folder}/video.mp4"
        thumbnail_key = f"{folder}/thumbnail.webp" if "thumbnail" in uploaded else None
        size_bytes, sha256 = self._checked(key, uploaded["video"])
        if thumbnail_key is not None:
            self._checked(thumbnail_key, uploaded["thumbnail"])
        return Artifact(bucket=self.bucket, key=key, thumbnail_key=thumbnail_key, size_bytes=size_bytes, sha256=sha256)

    def _checked(self, key: str, said: Mapping[str, Any]) -> tuple[int, str]:
        """Size and SHA-256 of what that somebody else put: by its ETag, or, where that is no MD5, by reading it."""
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=key)
            if head["ContentLength"] == said["bytes"] and head["ETag"].strip('"') == said["md5"]:
                return int(said["bytes"]), str(said["sha256"])
            body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
            digest, size_bytes = hashlib.sha256(), 0
            for chunk in body.iter_chunks(READ_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:
                raise UploadNotWhole(key, "nothing") from error
            raise ArtifactStoreUnavailable("show", key, str(error)) from error
        except BotoCoreError as error:
            raise ArtifactStoreUnavailable("show", key, str(error)) from error
        # An object that an earlier run of the same attempt had put is whole, as S3 has no others, and may differ.
        if digest.hexdigest() != said["sha256"] and not said.get("was_there"):
            raise UploadNotWhole(key, f"{size_bytes} bytes with another checksum")
        return size_bytes, digest.hexdigest()

    def delete_object(self, bucket: str, key: str) -> None:
        """Delete an object, by one try. One that is not there counts as deleted.

        Raises:
            ObjectNotDeleted: S3 said no.
            ArtifactStoreUnavailable: S3 did not answer.
        """
        with _deletes(key):
            self._deleting_client.delete_object(Bucket=bucket, Key=key)

    def delete_folder(self, bucket: str, prefix: str) -> bool:
        """Delete what lies under a prefix, at most a thousand objects, by one try.

        Returns:
            Whether S3 has confirmed that nothing of it is left. False: there is more.

        Raises:
            ObjectNotDeleted: S3 said no.
            ArtifactStoreUnavailable: S3 did not answer.
        """
        with _deletes(prefix):
            page = self._deleting_client.list_objects_v2(Bucket=bucket, Prefix=prefix)
            keys: list[Any] = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if not keys:
                return True
            answer = self._deleting_client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        # (S3 answers 200 to a request of which it has refused a part.)
        for error in answer.get("Errors", []):
            raise ObjectNotDeleted(str(error.get("Key", prefix)), f"{error.get('Code')}: {error.get('Message')}")
        return not page.get("IsTruncated", False)

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
            ExpiresIn=self._settings.s3.presign_ttl_s,
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

    def _connect(self, endpoint_url: str | None, *, attempts: int = 4) -> "S3Client":
        secret = self._settings.s3.secret_access_key
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=self._settings.s3.region,
            aws_access_key_id=self._settings.s3.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=min(5.0, self._settings.s3.timeout_s),
                read_timeout=self._settings.s3.timeout_s,
                retries={"mode": "standard", "total_max_attempts": attempts},
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
            ),
        )
        return client


@contextmanager
def _deletes(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise ObjectNotDeleted(key, str(error)) from error
    except BotoCoreError as error:
        raise ArtifactStoreUnavailable("delete", key, str(error)) from error
