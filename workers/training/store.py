"""Checkpoints in S3, under keys made of job and attempt: `train/{job}/{attempt}/step-N/`.

`metadata.json` is put last: without it the checkpoint is not there. It holds the digests of the other files, which are
proven when a checkpoint comes back.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from engines.train import checkpoints
from engines.train.checkpoints import JOURNAL_FOLDER, METADATA_FILE, Checkpoint, read
from engines.train.contract import KEEP_LAST_CHECKPOINTS
from engines.train.errors import CheckpointProblem
from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable
from ledger.models import Artifact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

_KEY = re.compile(rf"^train/([^/]+)/(\d+)/step-(\d+)/{re.escape(METADATA_FILE)}$")
_UNFINISHED = ".unfinished-fetched-"
#: Of an attempt's TensorBoard files so much is kept, bytes: a million rows of numbers.
JOURNAL_BYTES = 64 * 1024**2
#: S3 removes so many objects in one request.
_REMOVED_AT_ONCE = 1000


@dataclass(frozen=True, order=True)
class StoredCheckpoint:
    """A whole checkpoint in S3. The order is by step, then by attempt."""

    step: int
    attempt: int
    job_id: str

    @property
    def prefix(self) -> str:
        """Its folder, with a slash at the end."""
        return f"train/{self.job_id}/{self.attempt}/step-{self.step}/"

    @property
    def key(self) -> str:
        """The object that makes it whole."""
        return self.prefix + METADATA_FILE


class CheckpointStore:
    """The bucket, as far as checkpoints go. Safe to share between threads."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    @property
    def _client(self) -> "S3Client":
        return self._artifacts.client

    @property
    def _bucket(self) -> str:
        return self._artifacts.bucket

    def put(self, job_id: str, attempt: int, folder: Path) -> StoredCheckpoint:
        """Put a `step-N` folder that is whole; one that is there already is left as it is.

        Raises:
            ArtifactStoreUnavailable: S3 did not take it, after boto3's own retries.
        """
        metadata = (folder / METADATA_FILE).read_bytes()
        facts = json.loads(metadata)
        stored = StoredCheckpoint(int(facts["step"]), attempt, job_id)
        with _answers("store", stored.key):
            if not self._has(stored):
                for name in facts["files"]:
                    self._client.upload_file(str(folder / name), self._bucket, stored.prefix + name)
                self._client.put_object(
                    Bucket=self._bucket, Key=stored.key, Body=metadata, ContentType="application/json"
                )
        return stored

    def put_journal(self, job_id: str, attempt: int, folder: Path) -> None:
        """Put an attempt's TensorBoard files, the newest first, as far as a bound. Failing to is only logged."""
        files = sorted((folder / JOURNAL_FOLDER).glob("*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        left_bytes = JOURNAL_BYTES
        prefix = f"train/{job_id}/{attempt}/{JOURNAL_FOLDER}/"
        try:
            with _answers("store", prefix):
                for path in files:
                    left_bytes -= path.stat().st_size
                    if left_bytes >= 0:
                        self._client.upload_file(str(path), self._bucket, prefix + path.name)
        except ArtifactStoreUnavailable as error:
            log.warning("training.journal_not_kept", error=str(error))

    def artifact(self, stored: StoredCheckpoint) -> Artifact:
        """What a completed job points to: the metadata, which names the other files and their digests.

        Raises:
            ArtifactStoreUnavailable: S3 did not show it.
        """
        with _answers("show", stored.key):
            metadata = self._client.get_object(Bucket=self._bucket, Key=stored.key)["Body"].read()
            size_bytes = sum(size for _, size in self._list(stored.prefix))
        digest = hashlib.sha256(metadata).hexdigest()
        return Artifact(self._bucket, stored.key, None, size_bytes, digest, content_type="application/json")

    def whole(self, job_id: str) -> list[StoredCheckpoint]:
        """A job's checkpoints, of all attempts, newest first.

        Raises:
            ArtifactStoreUnavailable: S3 did not list them.
        """
        prefix = f"train/{job_id}/"
        with _answers("list", prefix):
            keys = [key for key, _ in self._list(prefix)]
        found = [_KEY.match(key) for key in keys]
        stored = [StoredCheckpoint(int(match[3]), int(match[2]), match[1]) for match in found if match]
        return sorted(stored, reverse=True)

    def fetch(self, stored: StoredCheckpoint, folder: Path) -> Checkpoint:
        """Bring a checkpoint into a job's folder as `step-N`, proven, whole or not at all.

        Raises:
            CheckpointProblem: what lies in S3 is torn.
            ArtifactStoreUnavailable: S3 did not give it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: another slot of this host may be fetching the same into the same folder.
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        try:
            with _answers("give", stored.key):
                for key, _ in self._list(stored.prefix):
                    self._client.download_file(self._bucket, key, str(unfinished / key.removeprefix(stored.prefix)))
            read(unfinished)
            return checkpoints.install(unfinished, folder / f"step-{stored.step}")
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def fetch_newest(self, job_id: str, folder: Path, *, above_step: int = -1) -> Checkpoint | None:
        """Bring the newest whole checkpoint of a job; a torn one is passed over. None: none is beyond `above_step`.

        Raises:
            ArtifactStoreUnavailable: S3 did not answer.
        """
        for stored in self.whole(job_id):
            if stored.step <= above_step:
                return None
            try:
                return self.fetch(stored, folder)
            except CheckpointProblem as problem:
                log.warning("checkpoint.torn_in_store", key=stored.key, error=str(problem))
        return None

    def best(self, job_id: str) -> StoredCheckpoint | None:
        """The checkpoint with the highest score, else the newest; None: there is none.

        Raises:
            ArtifactStoreUnavailable: S3 did not answer.
        """
        return max(self.whole(job_id), key=lambda one: (self._score(one), one), default=None)

    def prune(self, job_id: str, *, keep_last: int = KEEP_LAST_CHECKPOINTS) -> None:
        """Remove all but the newest few and the best, as the engine does on disk. Failing to is only logged."""
        try:
            stored = self.whole(job_id)
            surplus = stored[keep_last:]
            if surplus:
                best = max(stored, key=lambda one: (self._score(one), one))
                for one in surplus:
                    if one != best:
                        self._remove(one.key, first=one.key)
                        self._remove(one.prefix)
        except ArtifactStoreUnavailable as error:
            log.warning("checkpoint.not_pruned", error=str(error))

    def _score(self, stored: StoredCheckpoint) -> float:
        with _answers("show", stored.key):
            facts = json.loads(self._client.get_object(Bucket=self._bucket, Key=stored.key)["Body"].read())
        score = facts.get("score")
        return float("-inf") if score is None else float(score)

    def _has(self, stored: StoredCheckpoint) -> bool:
        return any(key == stored.key for key, _ in self._list(stored.prefix))

    def _list(self, prefix: str) -> Iterator[tuple[str, int]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], int(entry["Size"])

    def _remove(self, prefix: str, *, first: str | None = None) -> None:
        """Remove what lies under a prefix. The metadata goes first: what is half removed must not look whole."""
        with _answers("remove", prefix):
            keys = [first] if first else [key for key, _ in self._list(prefix)]
            for start in range(0, len(keys), _REMOVED_AT_ONCE):
                batch: list[Any] = [{"Key": key} for key in keys[start : start + _REMOVED_AT_ONCE]]
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})


@contextmanager
def _answers(operation: str, key: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise ArtifactStoreUnavailable(operation, key, str(error)) from error
