"""Mounts: the source files that a deploy uploads, kept by content, laid out by hard links for containers.

A container never sees the deployer's working tree: it runs what was uploaded, from a directory made of links into
the content store. One directory serves all containers with the same mounts, so that compiled bytecode is shared.
"""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path, PurePosixPath

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.contracts import BlobFiles
from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.rpc import Caller

_TABLE = "mounts"
_DEPLOYED = "deployed_mounts"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTAINER_HOME = PurePosixPath("/root")


class MountService:
    """Serves the Mount* RPCs and lays mounts out."""

    def __init__(self, context: Context, blobs: BlobFiles) -> None:
        self._context = context
        self._blobs = blobs
        self._content = context.state_dir / "content"
        self._layouts = context.state_dir / "sources"
        self._content.mkdir(parents=True, exist_ok=True)
        self._layouts.mkdir(parents=True, exist_ok=True)

    async def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, caller: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        """Which of these files are not here yet."""
        missing = [digest for digest in request.sha256_hex_hashes if not self._file(digest).exists()]
        return api_pb2.MountBatchedCheckExistenceResponse(
            missing_sha256_hex_hashes=missing, checked_at=self._timestamp()
        )

    async def MountPutFile(self, request: api_pb2.MountPutFileRequest, caller: Caller) -> api_pb2.MountPutFileResponse:
        """Takes a file in; without data it asks whether it is here."""
        target = self._file(request.sha256_hex)
        if target.exists():
            return api_pb2.MountPutFileResponse(exists=True, checked_at=self._timestamp())
        kind = request.WhichOneof("data_oneof")
        if kind is None:
            return api_pb2.MountPutFileResponse(exists=False, checked_at=self._timestamp())
        data = request.data if kind == "data" else self._blobs.path_of(request.data_blob_id).read_bytes()
        if hashlib.sha256(data).hexdigest() != request.sha256_hex:
            raise InvalidArgumentError("The file's content does not have the announced SHA-256; upload it again.")
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        part.write_bytes(data)
        part.replace(target)
        return api_pb2.MountPutFileResponse(exists=True, checked_at=self._timestamp())

    async def MountGetOrCreate(
        self, request: api_pb2.MountGetOrCreateRequest, caller: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        """Makes a mount of uploaded files, or looks one up by name."""
        if request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL and not request.files:
            # Modal's own mounts (the client, a standalone Python): this machine's packages take their place.
            return _mount_response("mo-global", b"")
        if request.deployment_name and not request.files:
            found = self._context.store.get(_DEPLOYED, request.deployment_name)
            if found is None:
                raise NotFoundError(f"Mount {request.deployment_name!r} not found.")
            return _mount_response(found.decode(), b"")
        absent = [file.filename for file in request.files if not self._file(file.sha256_hex).exists()]
        if absent:
            raise InvalidArgumentError(f"Files of the mount were not uploaded: {', '.join(absent[:5])}.")
        index = api_pb2.MountGetOrCreateRequest(files=sorted(request.files, key=lambda file: file.filename))
        content = index.SerializeToString(deterministic=True)
        mount_id = "mo-" + hashlib.sha256(content).hexdigest()[:22]
        self._context.store.put(_TABLE, mount_id, content)
        if request.deployment_name:
            self._context.store.put(_DEPLOYED, request.deployment_name, mount_id.encode())
        return _mount_response(mount_id, content)

    def lay_out(self, mount_ids: list[str]) -> Path:
        """A directory with the files of these mounts, `/root/x` as `x`; the same mounts give the same directory.

        Later mounts win over earlier ones.
        """
        wanted: dict[PurePosixPath, api_pb2.MountFile] = {}
        for mount_id in mount_ids:
            content = self._context.store.get(_TABLE, mount_id)
            if content is None:
                continue
            for file in api_pb2.MountGetOrCreateRequest.FromString(content).files:
                wanted[_inside(file.filename)] = file
        key = hashlib.sha256(repr(sorted((str(k), v.sha256_hex) for k, v in wanted.items())).encode()).hexdigest()[:22]
        place = self._layouts / key
        if place.exists():
            return place
        part = self._layouts / f"{key}.{secrets.token_hex(4)}.part"
        part.mkdir()
        for relative, file in wanted.items():
            target = part / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._file(file.sha256_hex), target)
        try:
            part.rename(place)
        except OSError:  # another container was first
            shutil.rmtree(part, ignore_errors=True)
        return place

    def _file(self, digest: str) -> Path:
        if not _SHA256.fullmatch(digest):
            raise InvalidArgumentError(f"Expected a SHA-256 in hex, got {digest[:80]!r}.")
        return self._content / digest

    def _timestamp(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromNanoseconds(int(self._context.clock.now() * 1e9))
        return stamp


def _inside(filename: str) -> PurePosixPath:
    path = PurePosixPath("/") / filename
    if ".." in path.parts:
        raise InvalidArgumentError(f"A mount's file may not climb out of it: {filename!r}.")
    if path.is_relative_to(_CONTAINER_HOME):
        return path.relative_to(_CONTAINER_HOME)
    return path.relative_to("/")


def _mount_response(mount_id: str, content: bytes) -> api_pb2.MountGetOrCreateResponse:
    return api_pb2.MountGetOrCreateResponse(
        mount_id=mount_id,
        handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=hashlib.sha256(content).hexdigest()),
    )
