"""Cloud bucket mounts: what lies in an S3 bucket, as read-only files in a container.

Modal mounts a bucket and reads objects when a file is read. Here the objects are copied before the container starts,
so a container sees the bucket as it was then; copies are shared by containers that start while the bucket stays the
same. A mount that may be written to is refused, and so is a bucket of more than `LARGEST_BYTES`.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from modal_proto import api_pb2

from modal_local.contracts import SecretEnvironments
from modal_local.errors import FailedPreconditionError, InvalidArgumentError
from modal_local.services.volumes_mounts import BindMount

if TYPE_CHECKING:
    from modal_local.context import Context

#: A bucket (below the mount's prefix) that holds more is refused, bytes.
LARGEST_BYTES: Final = 1 << 30
_HALF_DONE: Final = ".part"
#: The variables of a mount's secret that name its credentials, AWS's and Google's.
_KEY_IDS: Final = ("AWS_ACCESS_KEY_ID", "GOOGLE_ACCESS_KEY_ID")
_KEY_SECRETS: Final = ("AWS_SECRET_ACCESS_KEY", "GOOGLE_ACCESS_KEY_SECRET")
_REGION: Final = "us-east-1"


@dataclass(frozen=True)
class _Object:
    key: str
    etag: str
    size_bytes: int


def check_bucket_mounts(mounts: Iterable[Any]) -> None:
    """Ask before a function is made whether its mounts can be had here.

    Raises:
        InvalidArgumentError: they cannot.
    """
    for mount in mounts:
        where = f"the mount of the bucket {mount.bucket_name!r} at {mount.mount_path!r}"
        if not mount.read_only:
            text = f"modal_local mounts buckets to be read only: expected read_only=True for {where}, got False."
            raise InvalidArgumentError(text)
        if mount.oidc_auth_role_arn:
            text = f"modal_local issues no identity tokens: expected a secret with keys for {where}, got a role."
            raise InvalidArgumentError(text)


class BucketMountService:
    """Copies buckets for containers that mount them. It serves no RPC: a function's definition names its mounts."""

    def __init__(self, context: "Context", secrets: SecretEnvironments) -> None:
        self._root = context.state_dir / "buckets"
        self._secrets = secrets
        self._copying = asyncio.Lock()

    async def prepare_buckets(self, mounts: Iterable[Any]) -> Sequence[BindMount]:
        """Has the objects of each `CloudBucketMount` at hand; says where they are to be seen.

        Raises:
            FailedPreconditionError: a bucket cannot be read, or is too large.
            NotFoundError: a mount's secret is gone.
        """
        binds = []
        for mount in mounts:
            credentials = self._credentials(mount)
            async with self._copying:
                folder = await asyncio.to_thread(self._copy, mount, credentials)
            binds.append(BindMount(folder, Path(mount.mount_path), read_only=True))
        return binds

    def _credentials(self, mount: Any) -> Mapping[str, str]:
        return self._secrets.env_for([mount.credentials_secret_id]) if mount.credentials_secret_id else {}

    def _copy(self, mount: Any, credentials: Mapping[str, str]) -> Path:
        """The folder that holds the bucket as it is now."""
        import boto3  # noqa: PLC0415 - takes half a second, and few functions mount a bucket
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - as above
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        client = boto3.session.Session().client("s3", **_client_options(mount, credentials))
        try:
            objects = _listed(client, mount)
            folder = self._root / _digest(mount, objects)
            if not folder.exists():
                self._fetch(client, mount, objects, folder)
        except (BotoCoreError, ClientError, Boto3Error) as error:
            text = f"The bucket {mount.bucket_name!r} could not be read: {error}. Check its name, endpoint and secret."
            raise FailedPreconditionError(text) from error
        finally:
            client.close()
        return folder

    @staticmethod
    def _fetch(client: Any, mount: Any, objects: Sequence[_Object], folder: Path) -> None:
        half_done = folder.with_suffix(_HALF_DONE)
        shutil.rmtree(half_done, ignore_errors=True)
        half_done.mkdir(parents=True)
        for one in objects:
            target = half_done / PurePosixPath(one.key.removeprefix(mount.key_prefix))
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(mount.bucket_name, one.key, str(target))
        half_done.rename(folder)


def _client_options(mount: Any, credentials: Mapping[str, str]) -> dict[str, Any]:
    """What boto3 is told. A mount without a secret is of a public bucket: its requests are not signed."""
    from botocore import UNSIGNED  # noqa: PLC0415 - as in `_copy`
    from botocore.config import Config  # noqa: PLC0415 - as in `_copy`

    key_id = next((credentials[name] for name in _KEY_IDS if name in credentials), None)
    key_secret = next((credentials[name] for name in _KEY_SECRETS if name in credentials), None)
    style: Any = {"addressing_style": "path" if mount.force_path_style else "auto"}
    config = Config(s3=style, connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
    if key_id is None:
        config = config.merge(Config(signature_version=UNSIGNED))
    return {
        "endpoint_url": mount.bucket_endpoint_url or None,
        "region_name": credentials.get("AWS_REGION", _REGION),
        "aws_access_key_id": key_id,
        "aws_secret_access_key": key_secret,
        "config": config,
    }


def _listed(client: Any, mount: Any) -> list[_Object]:
    """The objects to be seen. Keys that are no file's name (they end in a slash, or lead elsewhere) are left out."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=mount.bucket_name, Prefix=mount.key_prefix)
    objects = [
        _Object(entry["Key"], str(entry["ETag"]), int(entry["Size"]))
        for page in pages
        for entry in page.get("Contents", [])
        if _is_a_file(entry["Key"].removeprefix(mount.key_prefix))
    ]
    size_bytes = sum(one.size_bytes for one in objects)
    if size_bytes > LARGEST_BYTES:
        raise FailedPreconditionError(
            f"Expected at most {LARGEST_BYTES} bytes in the bucket {mount.bucket_name!r}, got {size_bytes}: "
            "modal_local copies what it mounts. Give the mount a key_prefix."
        )
    return objects


def _is_a_file(name: str) -> bool:
    parts = name.split("/")
    return all(part not in {"", ".", ".."} for part in parts)


def _digest(mount: api_pb2.CloudBucketMount, objects: Sequence[_Object]) -> str:
    """A name for the state of a bucket below a prefix."""
    state = repr(
        (mount.bucket_endpoint_url, mount.bucket_name, mount.key_prefix, sorted((o.key, o.etag) for o in objects))
    )
    return hashlib.sha256(state.encode()).hexdigest()[:32]
