"""Objects in S3 that nothing points to any more are deleted, from the ledger's durable list, until S3 confirms each."""

import re
import time

import structlog

from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable, ObjectNotDeleted
from ledger.deletions import (
    Claim,
    DeleteFolder,
    DeleteJobFiles,
    DeleteObject,
    Deletion,
    Deletions,
    Result,
    Store,
    parse_deletion,
)
from workers.maintenance.service import StoreAway
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Entries that are claimed at a time.
CLAIMED_AT_ONCE = 50
#: No further entry is begun in a round after this, seconds.
ROUND_S = 10.0
#: What may be deleted by a prefix: all of a job, or of one of its attempts.
_FOLDER = re.compile(r"(render|train)/[A-Za-z0-9_-]+/(\d+/)?")


def delete_objects(resources: Resources) -> int:
    """One round; returns how many entries are done with.

    Raises:
        StoreAway: S3 does not answer. The entry comes again after a pause, the others in the next round.
    """
    deletions = resources.ledger.deletions
    # A claim outlives its round and the one answer that S3 may keep waiting for.
    lease_s = ROUND_S + 2 * resources.settings.s3.timeout_s
    until, done = time.monotonic() + ROUND_S, 0
    while time.monotonic() < until:
        claim = deletions.claim(Store.S3, limit=CLAIMED_AT_ONCE, lease_s=lease_s)
        if not claim.entries:
            break
        done += _delete(deletions, claim, resources.artifacts, until)
    return done


def _delete(deletions: Deletions, claim: Claim, store: ArtifactStore, until: float) -> int:
    left, done = list(claim.entries), 0
    try:
        while left and time.monotonic() < until:
            entry = left.pop(0)
            try:
                result = _delete_one(entry, store)
            except ArtifactStoreUnavailable as error:
                deletions.end(claim, [entry], Result.FAILED)
                raise StoreAway(str(error)) from error
            deletions.end(claim, [entry], result)
            done += result is Result.DELETED
    finally:
        deletions.end(claim, left, Result.UNFINISHED)
    return done


def _delete_one(entry: str, store: ArtifactStore) -> Result:
    try:
        deletion = parse_deletion(entry)
    except ValueError as error:
        log.error("deletion.refused", entry=entry[:200], reason=str(error))  # noqa: TRY400 - the sentence says it all
        return Result.REFUSED
    try:
        return _at(deletion, store)
    except ObjectNotDeleted as error:
        log.warning("deletion.failed", key=error.key, error=error.reason)
        return Result.FAILED


def _at(deletion: Deletion, store: ArtifactStore) -> Result:
    match deletion:
        case DeleteObject(bucket, key):
            store.delete_object(bucket, key)
            return Result.DELETED
        case DeleteFolder(bucket, prefix) if _FOLDER.fullmatch(prefix):
            return Result.DELETED if store.delete_folder(bucket, prefix) else Result.UNFINISHED
        case DeleteFolder() | DeleteJobFiles():
            log.error("deletion.refused", entry=str(deletion), reason="it is not the folder of a job")
            return Result.REFUSED
