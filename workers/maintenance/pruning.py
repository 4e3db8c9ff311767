"""What retired train jobs have left on Modal's volume is deleted, from the ledger's durable list, until Modal confirms.

It runs where Modal's token is. That Modal is away, or a restart, only delays it.
"""

import datetime as dt
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from engines.train.contract import RECIPES
from infra.settings import Settings
from ledger.deletions import DeleteFolder, DeleteJobFiles, Result, Store, parse_deletion
from workers.maintenance.service import StoreAway
from workers.resources import Resources

if TYPE_CHECKING:
    from workers.training.volume import CheckpointVolume

log = structlog.get_logger(__name__)

#: No further job is begun in a round after this, seconds.
ROUND_S = 60.0
#: Jobs that are claimed in one round, and the life of the claim, seconds: Modal may take its time.
JOBS_IN_A_ROUND, CLAIM_S = 50, 300.0
_ID = re.compile(r"^ftjob_([0-9a-f]{12})[0-9a-f]{20}$")
#: The id is made by the clock of whoever submits, the folder by the ledger's.
_CLOCKS_APART = dt.timedelta(hours=1)


def volume_in_use(settings: Settings) -> "CheckpointVolume | None":
    """The volume of checkpoints; None: this process has no token for Modal, or Modal is not used."""
    if not settings.budget.max_modal_attempts or not os.environ.get("MODAL_TOKEN_ID"):
        return None
    from workers.training.volume import CheckpointVolume  # noqa: PLC0415 - imports Modal, which not every process has

    return CheckpointVolume(environment=settings.modal.environment)


def prune_volume(resources: Resources, volume: "CheckpointVolume") -> int:
    """One round; returns the number of jobs of which nothing is left.

    Raises:
        StoreAway: Modal does not answer. The job comes again after a pause, the others in the next round.
    """
    from workers.training.volume import VolumeAway  # noqa: PLC0415 - imports Modal

    deletions = resources.ledger.deletions
    claim = deletions.claim(Store.VOLUME, limit=JOBS_IN_A_ROUND, lease_s=CLAIM_S)
    left, done, until = list(claim.entries), 0, time.monotonic() + ROUND_S
    try:
        while left and time.monotonic() < until:
            entry = left.pop(0)
            job_id = _job_of(entry)
            if job_id is None:
                deletions.end(claim, [entry], Result.REFUSED)
                continue
            try:
                for folder in folders_of(job_id):
                    volume.remove(folder)
            except VolumeAway as error:
                deletions.end(claim, [entry], Result.FAILED)
                raise StoreAway(str(error)) from error
            # A follower may have mirrored a last checkpoint since the job was retired.
            deletions.add(Store.S3, [DeleteFolder(resources.artifacts.bucket, f"train/{job_id}/")])
            deletions.end(claim, [entry], Result.DELETED)
            done += 1
    finally:
        deletions.end(claim, left, Result.UNFINISHED)
        if done:
            log.info("checkpoints.pruned_on_modal", number=done)
    return done


def _job_of(entry: str) -> str | None:
    try:
        deletion = parse_deletion(entry)
    except ValueError:
        deletion = None
    if not isinstance(deletion, DeleteJobFiles):
        log.error("deletion.refused", entry=entry[:200], reason="it is no job")
        return None
    return deletion.job_id


def folders_of(job_id: str) -> Sequence[str]:
    """Where a job may have files on the volume, whose recipe and day nobody knows any more; none for a foreign id."""
    match = _ID.match(job_id)
    if match is None:
        return ()
    made = dt.datetime.fromtimestamp(int(match[1], 16) / 1000, dt.UTC)
    days = sorted({(made - _CLOCKS_APART).date(), (made + _CLOCKS_APART).date()})
    return (
        *(f"{recipe}/{day.isoformat()}/{job_id}" for recipe in RECIPES for day in days),
        f"classifiers/{job_id}",
    )
