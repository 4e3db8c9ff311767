"""What a train job leaves when its record is gone: its checkpoints in S3, and its folder on Modal's volume.

What is still to be removed from the volume is noted in S3, so that a restart, or Modal being away, only delays it.
"""

import datetime as dt
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from engines.train.contract import RECIPES
from infra.artifacts import ArtifactStoreUnavailable
from workers.resources import Resources
from workers.training.store import CheckpointStore

if TYPE_CHECKING:
    from workers.training.volume import CheckpointVolume

log = structlog.get_logger(__name__)

#: The volume is tended so often, seconds, and so many jobs are removed from it each time.
TEND_EVERY_S = 300.0
JOBS_AT_ONCE = 100
#: While S3 is away it is asked so seldom, seconds: each time may take as long as its timeouts.
ASK_AGAIN_AFTER_S = 60.0
#: Ids whose note S3 did not take are tried again; of more than so many the oldest are let go.
_KEPT = 10_000
_ID = re.compile(r"^ftjob_([0-9a-f]{12})[0-9a-f]{20}$")
#: The id is made by the clock of whoever submits, the folder by the ledger's.
_CLOCKS_APART = dt.timedelta(hours=1)


class Forgetting:
    """Removes what retired train jobs have left. One for a reconciler; only `tend` begins a thread."""

    def __init__(
        self,
        resources: Resources,
        volume: "CheckpointVolume | None" = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = resources.settings
        self._store = CheckpointStore(resources.artifacts)
        self._clock = clock
        self._volume = volume or self._volume_in_use()
        self._left: list[str] = []
        self._asked_again_s = self._next_s = float("-inf")
        self._thread: threading.Thread | None = None

    def forget(self, ids: Iterable[str]) -> None:
        """Remove jobs from S3 now, and note them for the volume. While S3 refuses, a call in a minute tries again."""
        waiting = [*self._left, *ids][-_KEPT:]
        while waiting and self._clock() >= self._asked_again_s:
            try:
                # Whoever leads next may have Modal's token where we have none.
                if self._settings.max_modal_attempts:
                    self._store.note_forgotten(waiting[0])
                self._store.forget(waiting[0])
            except ArtifactStoreUnavailable as error:
                log.warning("checkpoints.not_forgotten", jobs=len(waiting), error=str(error))
                self._asked_again_s = self._clock() + ASK_AGAIN_AFTER_S
                break
            waiting.pop(0)
        self._left = waiting

    def tend(self) -> None:
        """Have the volume cleared in a thread, where that is due: Modal may take its time."""
        is_at_work = self._thread is not None and self._thread.is_alive()
        if self._volume is None or is_at_work or self._clock() < self._next_s:
            return
        self._next_s = self._clock() + TEND_EVERY_S
        self._thread = threading.Thread(target=self._clear, name="forget-checkpoints", daemon=True)
        self._thread.start()

    def clear_volume(self) -> int:
        """Remove from the volume what is noted; returns the number of jobs. What fails is logged, and stays noted."""
        from workers.training.volume import VolumeAway  # noqa: PLC0415 - imports Modal, which not every reconciler has

        volume, done = self._volume, 0
        if volume is None:
            return 0
        try:
            for job_id in self._store.noted_as_forgotten(limit=JOBS_AT_ONCE):
                for folder in folders_of(job_id):
                    volume.remove(folder)
                self._store.forget(job_id)  # a follower may have mirrored a last checkpoint meanwhile
                self._store.unnote_forgotten(job_id)
                done += 1
        except (ArtifactStoreUnavailable, VolumeAway) as error:
            log.warning("checkpoints.not_forgotten", error=str(error))
        if done:
            log.info("checkpoints.forgotten_on_modal", number=done)
        return done

    def _clear(self) -> None:
        try:
            self.clear_volume()
        except Exception:
            log.exception("checkpoints.not_forgotten")  # what is noted stays noted

    def _volume_in_use(self) -> "CheckpointVolume | None":
        if not self._settings.max_modal_attempts or not os.environ.get("MODAL_TOKEN_ID"):
            return None
        from workers.training.volume import CheckpointVolume  # noqa: PLC0415 - imports Modal

        return CheckpointVolume(environment=self._settings.modal_environment)


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
