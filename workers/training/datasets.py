"""A dataset in S3 as a folder on this host: fetched once, kept under the state that the bucket had."""

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from botocore.exceptions import BotoCoreError, ClientError

from engines.train.data.addresses import place_in_bucket
from engines.train.errors import DatasetProblem
from workers.artifacts import ArtifactStore, ArtifactStoreUnavailable


def fetch_dataset(artifacts: ArtifactStore, dataset: str, cache: Path) -> Path:
    """Bring an `s3://` dataset, one archive or a prefix of images, to this host; what is there already is kept.

    Raises:
        DatasetProblem: nothing lies there.
        ArtifactStoreUnavailable: S3 did not answer.
    """
    bucket, place = place_in_bucket(dataset)
    try:
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
        if not target.exists():
            _download(artifacts, bucket, [key for key, _ in entries if not key.endswith("/")], place, target)
    except (BotoCoreError, ClientError) as error:
        raise ArtifactStoreUnavailable("give", dataset, str(error)) from error
    return target / PurePosixPath(place).name if entries[0][0] == place else target


def _download(artifacts: ArtifactStore, bucket: str, keys: list[str], place: str, target: Path) -> None:
    unfinished = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    for key in keys:
        inside = PurePosixPath(key).name if key == place else key.removeprefix(place).lstrip("/")
        path = (unfinished / inside).resolve()
        if not path.is_relative_to(unfinished.resolve()):
            raise DatasetProblem("bad_archive", f"s3://{bucket}/{place}", name=key, cause="its name leads elsewhere")
        path.parent.mkdir(parents=True, exist_ok=True)
        artifacts.client.download_file(bucket, key, str(path))
    unfinished.rename(target)
