"""A dataset in S3 as a folder on this host: fetched once, kept under the state that the bucket had."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from engines.train.data.addresses import place_in_bucket
from engines.train.errors import DatasetProblem
from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable

#: Answers that no later try changes: no such bucket or object, or no right to it.
_FINAL = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
#: Refusals with such a status that are about this worker's clock or keys, and say nothing about the dataset.
_OUR_OWN = ("RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch")


def fetch_dataset(artifacts: ArtifactStore, dataset: str, cache: Path) -> Path:
    """Bring an `s3://` dataset, one archive or a prefix of images, to this host; what is there already is kept.

    Raises:
        DatasetProblem: nothing lies there, or not for us.
        ArtifactStoreUnavailable: S3 did not answer.
    """
    bucket, place = place_in_bucket(dataset)
    with _answers(dataset):
        pages = artifacts.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=place)
        entries = [
            (entry["Key"], str(entry["ETag"]))
            for page in pages
            for entry in page.get("Contents", [])
            if entry["Key"] == place or entry["Key"].startswith(f"{place}/" if place else "")
        ]
        if not entries:
            raise DatasetProblem("missing", dataset)
        state = hashlib.sha256(repr(sorted(entries)).encode()).hexdigest()[:24]
        target = cache / "s3" / state
        try:
            os.utime(target)  # in use: `scratch` removes what is not
        except FileNotFoundError:
            _download(artifacts, bucket, [key for key, _ in entries if not key.endswith("/")], place, target)
    return target / PurePosixPath(place).name if entries[0][0] == place else target


def _download(artifacts: ArtifactStore, bucket: str, keys: list[str], place: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: another slot of this host may be fetching the same.
    unfinished = Path(tempfile.mkdtemp(prefix=f".unfinished-{target.name}-", dir=target.parent))
    try:
        for key in keys:
            inside = PurePosixPath(key).name if key == place else key.removeprefix(place).lstrip("/")
            path = (unfinished / inside).resolve()
            if not path.is_relative_to(unfinished.resolve()):
                raise DatasetProblem(
                    "bad_archive", f"s3://{bucket}/{place}", name=key, cause="its name leads elsewhere"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            artifacts.client.download_file(bucket, key, str(path))
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # else another slot was first, with the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
