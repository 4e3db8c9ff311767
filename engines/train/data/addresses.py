"""Addresses of data sets in S3, `s3://bucket/prefix`, and where they lie below a bucket that is mounted."""

from urllib.parse import urlsplit

from engines.train.errors import DatasetProblem

_SCHEME = "s3"


def is_in_s3(dataset: str) -> bool:
    """Whether a dataset is an `s3://` address."""
    return urlsplit(dataset).scheme == _SCHEME


def place_in_bucket(dataset: str) -> tuple[str, str]:
    """The bucket of an `s3://` address, and the key or prefix in it."""
    parts = urlsplit(dataset)
    return parts.netloc, parts.path.strip("/")


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
