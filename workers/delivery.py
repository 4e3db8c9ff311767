"""Delivery: the result into S3, then the pointer into the ledger. In-house workers and followers deliver alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from infra.artifacts import ArtifactStore, Stored, Uploaded, UploadTooLarge, Video
from infra.mp4 import NotTheVideo, VideoWanted
from infra.retrying import retry_while_unavailable
from infra.tracing import tracing
from ledger import Ledger, LedgerError
from ledger.containers import Usage
from ledger.deletions import DeleteObject, Store
from ledger.models import Artifact
from ledger.outcomes import Completed, Delivering, Stale

log = structlog.get_logger(__name__)

#: A finished result waits so long for a ledger that is away, seconds.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class AttemptOf:
    """Whose result it is."""

    job_id: str
    #: The fencing token.
    attempt: int


@dataclass(frozen=True)
class Delivered:
    """The artifact is published."""


@dataclass(frozen=True)
class TooLate:
    """The attempt is not the newest any more; what it made is deleted."""


def deliver(
    ledger: Ledger,
    artifacts: ArtifactStore,
    of: AttemptOf,
    result: Video | Uploaded | Stored,
    *,
    measurements: Mapping[str, object],
    wanted: VideoWanted | None = None,
    cost_usd_micros: int = 0,
    usage: Usage | None = None,
) -> Delivered | TooLate:
    """Publish the result of an attempt, if it is still the newest. `wanted`: what `Uploaded` files are checked against.

    Raises:
        ArtifactStoreUnavailable: S3 did not take the files.
        UploadNotWhole, KeyError: what the container says that it had put is not there.
        UploadTooLarge, NotTheVideo: it has put something else; it is deleted.
        LedgerUnavailable: the ledger stayed away; a later attempt or follower does it again.
    """
    begun = retry_while_unavailable(lambda: ledger.attempts.begin_delivery(of.job_id, of.attempt), for_s=PATIENCE_S)
    match begun:
        case Stale(state, attempt):
            log.info("delivery.too_late", job_state=state, newest_attempt=attempt)
            return TooLate()
        case Delivering():
            log.info("job.delivering")
    with tracing().span("put into S3", job_id=of.job_id, attempt=of.attempt):
        artifact = _stored(ledger, artifacts, of, result, wanted)
    published = retry_while_unavailable(
        lambda: ledger.attempts.complete(
            of.job_id,
            of.attempt,
            artifact=artifact,
            measurements=measurements,
            cost_usd_micros=cost_usd_micros,
            usage=usage,
        ),
        for_s=PATIENCE_S,
    )
    match published:
        case Completed():
            log.info("job.completed", size_bytes=artifact.size_bytes)
            return Delivered()
        case Stale(state, attempt):
            log.info("delivery.lost_the_race", job_state=state, newest_attempt=attempt)
            if not isinstance(result, Stored):  # a checkpoint is no waste: whoever is the newest attempt may need it
                _delete_later(ledger, artifact)
            return TooLate()


def _delete_later(ledger: Ledger, artifact: Artifact) -> None:
    """Nothing points to it. If that cannot be noted, it goes with everything of its job when the job is retired."""
    _delete_keys_later(ledger, artifact.bucket, list(filter(None, (artifact.key, artifact.thumbnail_key))))


def _delete_keys_later(ledger: Ledger, bucket: str, keys: Sequence[str]) -> None:
    try:
        ledger.deletions.add(Store.S3, [DeleteObject(bucket, key) for key in keys])
    except LedgerError as error:
        log.warning("artifact.deletion_not_noted", key=keys[0], error=str(error))


def _stored(
    ledger: Ledger,
    artifacts: ArtifactStore,
    of: AttemptOf,
    result: Video | Uploaded | Stored,
    wanted: VideoWanted | None,
) -> Artifact:
    match result:
        case Video():
            return artifacts.put_video(of.job_id, of.attempt, result)
        case Uploaded(files):
            try:
                return artifacts.uploaded_video(of.job_id, of.attempt, files, wanted)
            except (NotTheVideo, UploadTooLarge):
                _delete_keys_later(ledger, artifacts.bucket, artifacts.uploaded_keys(of.job_id, of.attempt))
                raise
        case Stored(artifact):
            return artifact
