"""The volume of checkpoints on Modal, as the control plane reaches it: through the public SDK, with the token alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

import modal
from modal.exception import Error as ModalError
from modal.exception import NotFoundError

from engines.train.checkpoints import METADATA_FILE
from modal_apps.names import CHECKPOINTS_VOLUME
from modal_apps.training_rows import Row, parse_rows, rows_path

_STEP = "step-"


class VolumeAway(Exception):
    """Modal did not give or take files of the volume."""

    def __init__(self, operation: str, path: str, reason: str) -> None:
        self.operation = operation
        self.reason = reason
        super().__init__(f"expected Modal to {operation} {path} on {CHECKPOINTS_VOLUME}, got: {reason}.")


class CheckpointVolume:
    """Checkpoints on Modal. Its methods block."""

    def __init__(self, *, environment: str | None, client: modal.Client | None = None) -> None:
        self._environment = environment
        self._client = client

    @cached_property
    def _volume(self) -> modal.Volume:
        return modal.Volume.from_name(
            CHECKPOINTS_VOLUME, environment_name=self._environment, create_if_missing=True, client=self._client
        )

    def steps(self, folder: str) -> list[int]:
        """Steps of the checkpoints in a job's folder, newest first.

        An upload that was cut is none: metadata comes last. Whether the rest is whole is proven when it comes.

        Raises:
            VolumeAway: Modal did not answer.
        """
        with _answers("list", folder):
            try:
                paths = [PurePosixPath(entry.path) for entry in self._volume.listdir(folder, recursive=True)]
            except (NotFoundError, FileNotFoundError):
                return []
        found = [path.parent.name for path in paths if path.name == METADATA_FILE]
        digits = [name.removeprefix(_STEP) for name in found if name.startswith(_STEP)]
        return sorted((int(one) for one in digits if one.isdecimal()), reverse=True)

    def rows(self, folder: str, attempt: int) -> list[Row]:
        """What an attempt has told of itself.

        Raises:
            VolumeAway: Modal did not answer.
        """
        path = rows_path(folder, attempt)
        with _answers("give", path):
            try:
                return parse_rows(b"".join(self._volume.read_file(path)))
            except (NotFoundError, FileNotFoundError):
                return []

    def download(self, folder: str, step: int, into: Path) -> Path:
        """Bring a `step-N` folder; returns where it is now.

        Raises:
            VolumeAway: Modal did not give it, or it is being replaced.
        """
        place, target = f"{folder}/{_STEP}{step}", into / f"{_STEP}{step}"
        target.mkdir(parents=True, exist_ok=True)
        with _answers("give", place):
            try:
                for entry in self._volume.listdir(place):
                    with (target / PurePosixPath(entry.path).name).open("wb") as file:
                        self._volume.read_file_into_fileobj(entry.path, file)
            except (NotFoundError, FileNotFoundError) as error:
                raise VolumeAway("give", place, "it is gone") from error
        return target

    def upload(self, step_folder: Path, folder: str) -> None:
        """Put a `step-N` folder into a job's folder; the metadata comes last, as it makes a checkpoint whole.

        Raises:
            VolumeAway: Modal did not take it.
        """
        place = f"{folder}/{step_folder.name}"
        names = sorted((path.name for path in step_folder.iterdir()), key=lambda name: (name == METADATA_FILE, name))
        with _answers("take", place):
            for batch in (names[:-1], names[-1:]):
                with self._volume.batch_upload(force=True) as upload:
                    for name in batch:
                        upload.put_file(step_folder / name, f"{place}/{name}")

    def remove(self, folder: str) -> bool:
        """Remove a folder with all that it holds. False: there was none.

        Raises:
            VolumeAway: Modal did not.
        """
        with _answers("remove", folder):
            try:
                self._volume.remove_file(folder, recursive=True)
            except (NotFoundError, FileNotFoundError):
                return False
        return True


@contextmanager
def _answers(operation: str, path: str) -> Iterator[None]:
    try:
        yield
    except (ModalError, OSError) as error:
        raise VolumeAway(operation, path, f"{type(error).__name__}: {error}") from error
