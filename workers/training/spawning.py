"""What a spawner does for train jobs: has everything at hand that the container will need, or says why not."""

from functools import cached_property
from typing import Any

from pydantic import ValidationError

from engines.train.errors import TrainError
from infra.artifacts import ArtifactStoreUnavailable
from ledger.models import JobRecord
from ledger.retries import Cause
from modal_apps.training_errors import in_words
from workers.causes import cause_of
from workers.resources import Resources
from workers.training.onmodal import SpawnLost, TrainOnModal
from workers.training.volume import VolumeAway


class NotSpawned(Exception):
    """A train job was not begun. `cause` None: somebody is away, and that says nothing about the job."""

    def __init__(self, cause: Cause | None, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class TrainSpawning:
    """Prepares requests. Its method blocks."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @cached_property
    def _on_modal(self) -> TrainOnModal:
        return TrainOnModal(self._resources)

    def request_for(self, record: JobRecord) -> dict[str, Any]:
        """The request of a record's attempt; the volume has what it needs.

        Raises:
            NotSpawned: it cannot be begun, or not now.
        """
        try:
            return self._on_modal.prepare(record).to_wire()
        except (ArtifactStoreUnavailable, VolumeAway, SpawnLost) as error:
            raise NotSpawned(None, str(error)) from error
        except ValidationError as error:
            raise NotSpawned(Cause.INVALID_REQUEST, str(error)) from error
        except TrainError as error:
            said = in_words(error)
            raise NotSpawned(cause_of(said.cause), said.message) from error
