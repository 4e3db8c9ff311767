"""What a follower does for train calls: mirrors what they leave, brings a run home when that pays, concludes them."""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import structlog

from engines.train.errors import CheckpointProblem
from infra.artifacts import ArtifactStoreUnavailable, Stored
from ledger import JobNotFound
from ledger.models import JobRecord, Kind
from ledger.outcomes import DueCall
from workers.resources import Resources
from workers.training.configs import train_config, train_job
from workers.training.needs import train_policy
from workers.training.onmodal import TrainOnModal
from workers.training.volume import VolumeAway

log = structlog.get_logger(__name__)


class TrainFollowing:
    """Its methods block, except `is_due`; each call is tended in a thread."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._ledger = resources.ledger
        self._mirrored_at: dict[str, float] = {}

    @cached_property
    def _on_modal(self) -> TrainOnModal:
        return TrainOnModal(self._resources)

    def is_due(self, call: DueCall) -> bool:
        """Whether a running call should be looked at for new checkpoints."""
        if call.kind is not Kind.TRAIN:
            return False
        last = self._mirrored_at.get(call.job_id, float("-inf"))
        return time.monotonic() - last >= self._settings.train.mirror_every_s

    def next_s(self) -> float:
        """When a running train call must be looked at again at the latest, seconds."""
        return self._settings.train.mirror_every_s

    def tend(self, call: DueCall) -> str | None:
        """Mirror what is new. Returns why the run should come home now, at the checkpoint that it has just left."""
        self._mirrored_at[call.job_id] = time.monotonic()
        record = self._record(call)
        if record is None:
            return None
        try:
            stored = self._on_modal.mirror(record)
        except (VolumeAway, ArtifactStoreUnavailable) as error:
            log.warning("checkpoint.not_mirrored", error=str(error))
            return None
        if stored is None or not self._settings.train.comes_home:
            return None
        done_ratio = stored.step / train_config(train_job(record), gpus=1).steps
        policy = train_policy(self._settings, self._ledger.placement.training_speeds())
        return policy.goes_home(record, self._ledger.placement.view(), done_ratio=done_ratio)

    def may_move(self, call: DueCall) -> bool:
        """Whether another GPU class than the call's would do: not if whoever sent the job named one."""
        record = self._record(call)
        return record is not None and train_job(record).gpu is None

    def salvage(self, call: DueCall) -> None:
        """A call ends without a result, or is about to: what it has left comes home, as far as it can be had."""
        self._mirrored_at.pop(call.job_id, None)
        record = self._record(call)
        if record is None:
            return
        try:
            self._on_modal.mirror(record)
        except (VolumeAway, ArtifactStoreUnavailable) as error:
            log.warning("checkpoint.not_mirrored", error=str(error))

    def finish(self, call: DueCall, value: Mapping[str, Any]) -> Stored | None:
        """The result of a call that answered; None: its segment is over, and the run goes on in another.

        Raises:
            ArtifactStoreUnavailable: S3 or the volume is away; what the call has left stays on the volume.
            KeyError: the answer lacks a part, or names a checkpoint that is not whole.
        """
        self._mirrored_at.pop(call.job_id, None)
        record = self._record(call)
        if record is None:
            raise KeyError(call.job_id)
        try:
            return self._on_modal.finish(record, value)
        except VolumeAway as error:
            raise ArtifactStoreUnavailable("get", str(value.get("checkpoint")), str(error)) from error
        except CheckpointProblem as problem:
            raise KeyError(str(problem)) from problem

    def _record(self, call: DueCall) -> JobRecord | None:
        """The job, as long as the call's attempt is its newest."""
        try:
            record = self._ledger.jobs.get(call.job_id)
        except JobNotFound:
            return None
        return record if record.attempt == call.attempt else None
