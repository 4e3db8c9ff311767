"""Where a data set may lie: addresses in S3, `s3://bucket/key`, and paths; which of them a job may name.

A key is taken as it is written. It is no URL: `#`, `?`, `%`, `;` and spaces are letters of it like any other.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from engines.train.errors import DatasetProblem

_SCHEME: Final = "s3://"


def is_in_s3(dataset: str) -> bool:
    """Whether a dataset is an `s3://` address."""
    return dataset[: len(_SCHEME)].lower() == _SCHEME


def place_in_bucket(dataset: str) -> tuple[str, str]:
    """The bucket of an `s3://` address, and the key or prefix in it."""
    bucket, _, key = dataset[len(_SCHEME) :].partition("/")
    return bucket, key.strip("/")


def below_mount(dataset: str, bucket: str | None) -> str | None:
    """Where a dataset lies below the bucket that the trainer mounts; None: it is not in S3 at all.

    Raises:
        DatasetProblem: it is in a bucket that the trainer does not mount.
    """
    if not is_in_s3(dataset):
        return None
    of, place = place_in_bucket(dataset)
    if of != bucket:
        mounted = f"the bucket {bucket}, not {of}" if bucket else "no bucket"
        cause = f"the trainer on Modal mounts {mounted} (OVERSPILL_MODAL_DATA_BUCKET)"
        raise DatasetProblem("unresolved", dataset, cause=cause)
    return place or "."


def check_permitted(dataset: str, permitted: Sequence[str], *, reserved: Sequence[str] = ()) -> None:
    """Refuses an `s3://` address that lies below none of the permitted places.

    Args:
        dataset: The address.
        permitted: Buckets, `bucket`, and parts of buckets, `bucket/prefix`. A prefix ends where a folder does.
        reserved: Places of the same form that no data set may lie in, or around.

    Raises:
        DatasetProblem: `not_permitted`.
    """
    bucket, key = place_in_bucket(dataset)
    place = PurePosixPath("/", bucket, key)
    # `..` in a key leads nowhere in S3, but a mount or a folder on a disk would follow it.
    if bucket in ("", ".") or ".." in place.parts:
        raise DatasetProblem("not_permitted", dataset, cause="it is no address of an object or a folder")
    if not any(place.is_relative_to(PurePosixPath("/", one)) for one in permitted):
        raise DatasetProblem("not_permitted", dataset, cause="see OVERSPILL_TRAIN_DATA_BUCKETS")
    for one in (PurePosixPath("/", taken) for taken in reserved):
        if place.is_relative_to(one) or one.is_relative_to(place):
            raise DatasetProblem("not_permitted", dataset, cause="what jobs have left lies there")


def below_roots(dataset: str, roots: Sequence[Path]) -> Path:
    """The real path of a local dataset. A relative one is looked for in each root.

    What lies outside is not looked at: the refusal does not say whether it is there.

    Args:
        dataset: As the config names it.
        roots: Folders that data sets may lie in.

    Raises:
        DatasetProblem: `not_permitted`: it lies in none of them, links resolved.
    """
    found: list[Path] = []
    for root in roots:
        try:
            real, base = (root / dataset).resolve(), root.resolve()
        except (OSError, RuntimeError):  # links in a ring
            continue
        if real.is_relative_to(base):
            found.append(real)
    if not found:
        raise DatasetProblem("not_permitted", dataset, cause="see OVERSPILL_TRAIN_DATA_ROOTS")
    return next((one for one in found if one.exists()), found[0])
