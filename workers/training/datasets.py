"""A job's dataset as a place on this host: a permitted path, or what is fetched from S3 once and kept.

What is fetched is kept under the state that the bucket had. Nothing is fetched before its names and its size are known
to be good, and no object may be larger than the listing has said.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import IO

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from engines.train.checkpoints import free_bytes, write_error
from engines.train.contract import SHAPES
from engines.train.data.addresses import below_roots, check_permitted, is_in_s3, place_in_bucket
from engines.train.data.sources import MOST_FILES
from engines.train.errors import DatasetProblem, VolumeFull
from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable
from infra.settings import Settings

#: Answers that no later try changes: no such bucket or object, or no right to it.
_FINAL = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
#: Refusals with such a status that are about this worker's clock or keys, and say nothing about the dataset.
_OUR_OWN = ("RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch")
#: Of the artifacts' bucket, what jobs have left there: other tenants', too.
_LEFT_BY_JOBS = ("render", "train", "train-forgotten")
#: Of Linux file systems, bytes.
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 3_000


@dataclass(frozen=True)
class _Object:
    key: str
    etag: str
    size_bytes: int


def resolve_dataset(settings: Settings, artifacts: ArtifactStore, dataset: str, cache: Path) -> Path | None:
    """Where a job's dataset lies on this host; None: it is drawn.

    Raises:
        DatasetProblem: it may not be read from there, is too large, or nothing lies there.
        VolumeFull: there is no space for it.
        ArtifactStoreUnavailable: S3 did not answer.
    """
    if dataset == SHAPES:
        return None
    if not is_in_s3(dataset):
        return below_roots(dataset, data_roots(settings))
    check_bucket(settings, dataset)
    return fetch_dataset(artifacts, dataset, cache, most_bytes=settings.train.data_bytes)


def data_roots(settings: Settings) -> tuple[Path, ...]:
    """The folders that data sets on a disk may lie in."""
    if settings.train.data_roots is None:
        return (settings.train.folder / "datasets",)
    return settings.train.data_roots


def check_bucket(settings: Settings, dataset: str) -> None:
    """Refuses an `s3://` address that no job may name; what is none passes.

    Raises:
        DatasetProblem: `not_permitted`.
    """
    if not is_in_s3(dataset):
        return
    permitted = settings.train.data_buckets
    if permitted is None:
        permitted = tuple(filter(None, (settings.s3.bucket, settings.train.modal_data_bucket)))
    reserved = [f"{settings.s3.bucket}/{folder}" for folder in _LEFT_BY_JOBS]
    check_permitted(dataset, [one.removeprefix("s3://") for one in permitted], reserved=reserved)


def fetch_dataset(artifacts: ArtifactStore, dataset: str, cache: Path, *, most_bytes: int | None = None) -> Path:
    """Bring an `s3://` dataset, one archive or a prefix of images, to this host; what is there already is kept.

    Args:
        artifacts: the client.
        dataset: its address.
        cache: where it is kept.
        most_bytes: a larger one is refused; None: any fits.

    Raises:
        DatasetProblem: nothing lies there, or not for us; it is too large, or its names are no files'.
        VolumeFull: there is no space for it.
        ArtifactStoreUnavailable: S3 did not answer, or the dataset was changed while it was fetched.
    """
    bucket, place = place_in_bucket(dataset)
    with _answers(dataset):
        found = _listed(artifacts, dataset, bucket, place)
        state = hashlib.sha256(repr(sorted((one.key, one.etag) for one in found)).encode()).hexdigest()[:24]
        target = cache / "s3" / state
        paths = _paths(dataset, place, found)
        try:
            os.utime(target)  # in use: `scratch` removes what is not
        except FileNotFoundError:
            _check_size(dataset, found, cache, most_bytes)
            _download(artifacts, bucket, paths, target)
    return target / PurePosixPath(place).name if _is_one_object(found, place) else target


def _listed(artifacts: ArtifactStore, dataset: str, bucket: str, place: str) -> list[_Object]:
    """The object at a key, or those below it: what only begins with the same letters is not even listed."""
    client = artifacts.client
    alone = client.list_objects_v2(Bucket=bucket, Prefix=place, MaxKeys=1).get("Contents", []) if place else []
    found = [_Object(one["Key"], str(one["ETag"]), one["Size"]) for one in alone if one["Key"] == place]
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{place}/" if place else "")
    for page in pages:
        found += [_Object(one["Key"], str(one["ETag"]), one["Size"]) for one in page.get("Contents", [])]
        if len(found) > MOST_FILES:
            raise DatasetProblem("too_large", dataset, cause=f"more than {MOST_FILES} objects")
    if len(found) > 1 and found[0].key == place and not found[0].size_bytes:
        del found[0]  # some tools mark a folder by an empty object
    if not found:
        raise DatasetProblem("missing", dataset)
    return found


def _is_one_object(found: list[_Object], place: str) -> bool:
    return len(found) == 1 and found[0].key == place


def _paths(dataset: str, place: str, found: list[_Object]) -> dict[PurePosixPath, _Object]:
    """Where each object goes, in the dataset's folder.

    Raises:
        DatasetProblem: a key cannot be a file's name: it is too long, leads elsewhere, or is a folder, too.
    """
    paths: dict[PurePosixPath, _Object] = {}
    folders: set[PurePosixPath] = set()
    markers: dict[PurePosixPath, _Object] = {}
    for one in found:
        if one.key.endswith("/"):
            continue
        inside = PurePosixPath(one.key).name if one.key == place else one.key.removeprefix(place).lstrip("/")
        path = PurePosixPath(inside)
        flaw = _flaw(path) or ("another object would be the same file" if path in paths else None)
        if flaw:
            raise DatasetProblem("bad_name", dataset, one.key, flaw)
        paths[path] = one
        folders.update(path.parents)
    for path in folders & paths.keys():
        markers[path] = paths.pop(path)
    for one in markers.values():
        if one.size_bytes:
            raise DatasetProblem("bad_name", dataset, one.key, "it is an object and a folder of others")
    return paths


def _flaw(path: PurePosixPath) -> str | None:
    if not path.parts or ".." in path.parts or path.is_absolute():
        return "it leads elsewhere"
    if max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME_BYTES:
        return f"a part of it has more than {_LONGEST_NAME_BYTES} bytes"
    if len(os.fsencode(str(path))) > _LONGEST_PATH_BYTES:
        return f"it has more than {_LONGEST_PATH_BYTES} bytes"
    return None


def _check_size(dataset: str, found: list[_Object], cache: Path, most_bytes: int | None) -> None:
    size_bytes = sum(one.size_bytes for one in found)
    if most_bytes is not None and size_bytes > most_bytes:
        cause = f"{size_bytes} bytes; OVERSPILL_TRAIN_DATA_BYTES permits {most_bytes}"
        raise DatasetProblem("too_large", dataset, cause=cause)
    free = free_bytes(cache)
    if size_bytes > free:
        raise VolumeFull(str(cache), size_bytes, free, None)


def _download(artifacts: ArtifactStore, bucket: str, paths: Mapping[PurePosixPath, _Object], target: Path) -> None:
    unfinished: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: another slot of this host may be fetching the same.
        unfinished = Path(tempfile.mkdtemp(prefix=f".unfinished-{target.name}-", dir=target.parent))
        for inside, one in paths.items():
            path = unfinished / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                bounded = _Bounded(file, one)
                artifacts.client.download_fileobj(bucket, one.key, bounded)  # type: ignore[arg-type]  # only writes
            bounded.check_whole()
        _put_in_place(unfinished, target)
    except OSError as error:
        size_bytes = sum(one.size_bytes for one in paths.values())
        raise write_error(error, target.parent, size_bytes, None) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, target: Path) -> None:
    try:
        unfinished.rename(target)
    except OSError:
        if not target.is_dir():  # else another slot was first, with the same
            raise


class _Bounded:
    """A file that takes as many bytes as the listing has said, and no more: the object may have been replaced."""

    def __init__(self, file: IO[bytes], listed: _Object) -> None:
        self._file, self._listed = file, listed
        self._written_bytes = 0

    def write(self, content: bytes) -> int:
        self._written_bytes += len(content)
        if self._written_bytes > self._listed.size_bytes:
            raise self._changed()
        return self._file.write(content)

    def check_whole(self) -> None:
        if self._written_bytes != self._listed.size_bytes:
            raise self._changed()

    def _changed(self) -> ArtifactStoreUnavailable:
        said = f"{self._written_bytes} bytes or more of {self._listed.size_bytes} that were listed: it was changed"
        return ArtifactStoreUnavailable("give", self._listed.key, said)


@contextmanager
def _answers(dataset: str) -> Iterator[None]:
    try:
        yield
    except ParamValidationError as error:
        raise DatasetProblem("missing", dataset, cause="that is no name of a bucket") from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in _FINAL and code not in _OUR_OWN:
            raise DatasetProblem("missing", dataset, cause=f"S3 says {code}") from error
        raise ArtifactStoreUnavailable("give", dataset, str(error)) from error
    except (BotoCoreError, Boto3Error) as error:
        raise ArtifactStoreUnavailable("give", dataset, str(error)) from error
