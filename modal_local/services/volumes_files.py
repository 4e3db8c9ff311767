"""The RPCs by which clients outside of containers put, list, get, copy and remove files of a volume.

Version 1 uploads whole files, which `MountPutFile` has taken in by their SHA-256; version 2 uploads blocks. Reading
is the same for both. Each of these calls is a commit of its own.
"""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2
from modal_proto import api_pb2

from modal_local.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from modal_local.services import volumes_tree
from modal_local.services.volumes_tree import BLOCK_BYTES, Entry, Tree

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller
    from modal_local.services.volumes_committed import CommittedVolumes

# Where `services/mounts.py` keeps uploaded files, by SHA-256 in hex.
CONTENT_DIRECTORY: Final = "content"
_FILE_MODE: Final = 0o644
_ENTRIES_PER_MESSAGE: Final = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_TYPES: Final = {
    "file": api_pb2.FileEntry.FILE,
    "directory": api_pb2.FileEntry.DIRECTORY,
    "link": api_pb2.FileEntry.SYMLINK,
}


class VolumeFileRpcs:
    """Answers the RPCs on files.

    Args:
        context: of the server.
        volumes: what is committed.
    """

    def __init__(self, context: "Context", volumes: "CommittedVolumes") -> None:
        self._context = context
        self._volumes = volumes

    async def VolumePutFiles(self, request: Any, caller: "Caller") -> Any:
        """Version 1: puts files in whose content is here already, all or none."""
        self._volumes.tree(request.volume_id)
        files: dict[str, Entry] = {}
        for file in request.files:
            size_bytes, blocks = await asyncio.to_thread(self._take_content, file.sha256_hex)
            mode = file.mode if file.HasField("mode") else _FILE_MODE
            entry = Entry("file", mode, self._volumes.now_ns(), size_bytes, blocks)
            files[volumes_tree.normalize(file.filename)] = entry
        self._put(request, files)
        return empty_pb2.Empty()

    async def VolumePutFiles2(self, request: Any, caller: "Caller") -> Any:
        """Version 2: puts files in, all or none, or answers which of their blocks are missing and where they go."""
        self._volumes.tree(request.volume_id)
        missing = list(self._missing_blocks(request))
        if missing:
            return api_pb2.VolumePutFiles2Response(missing_blocks=missing)
        files = {}
        for file in request.files:
            mode = file.mode if file.HasField("mode") else _FILE_MODE
            blocks = tuple(block.contents_sha256.hex() for block in file.blocks)
            entry = Entry("file", mode, self._volumes.now_ns(), file.size, blocks)
            files[volumes_tree.normalize(file.path)] = entry
        self._put(request, files)
        return api_pb2.VolumePutFiles2Response()

    async def VolumeListFiles(self, request: Any, caller: "Caller") -> AsyncGenerator[Any, None]:
        """Version 1: what is in a directory."""
        for entries in self._listing(request):
            yield api_pb2.VolumeListFilesResponse(entries=entries)

    async def VolumeListFiles2(self, request: Any, caller: "Caller") -> AsyncGenerator[Any, None]:
        """Version 2: what is in a directory."""
        for entries in self._listing(request):
            yield api_pb2.VolumeListFiles2Response(entries=entries)

    async def VolumeGetFile2(self, request: Any, caller: "Caller") -> Any:
        """Where the blocks of a file, or of a part of it, are to be had."""
        entry = self._file(request.volume_id, request.path)
        if request.start > entry.size_bytes:
            raise InvalidArgumentError(
                f"{request.path!r} has {entry.size_bytes} bytes; cannot start at {request.start}."
            )
        length = min(request.len or entry.size_bytes, entry.size_bytes - request.start)
        urls = list(self._block_urls(entry, request.start, request.start + length, pads=request.client_pads_blocks))
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=entry.size_bytes, start=request.start, len=length)

    async def VolumeRemoveFile(self, request: Any, caller: "Caller") -> Any:
        """Version 1: removes a file or directory."""
        tree = self._volumes.tree(request.volume_id)
        self._volumes.commit(request.volume_id, volumes_tree.without(tree, request.path, recursive=request.recursive))
        return empty_pb2.Empty()

    async def VolumeRemoveFile2(self, request: Any, caller: "Caller") -> Any:
        """Version 2: removes a file or directory."""
        return await self.VolumeRemoveFile(request, caller)

    async def VolumeCopyFiles(self, request: Any, caller: "Caller") -> Any:
        """Version 1: copies within the volume."""
        tree = volumes_tree.copied(
            self._volumes.tree(request.volume_id),
            request.src_paths,
            request.dst_path,
            recursive=request.recursive,
            now_ns=self._volumes.now_ns(),
        )
        self._volumes.commit(request.volume_id, tree)
        return empty_pb2.Empty()

    async def VolumeCopyFiles2(self, request: Any, caller: "Caller") -> Any:
        """Version 2: copies within the volume."""
        return await self.VolumeCopyFiles(request, caller)

    def _put(self, request: Any, files: dict[str, Entry]) -> None:
        tree = volumes_tree.with_files(
            self._volumes.tree(request.volume_id),
            files,
            overwrite=not request.disallow_overwrite_existing_files,
            now_ns=self._volumes.now_ns(),
        )
        self._volumes.commit(request.volume_id, tree)

    def _take_content(self, sha256_hex: str) -> tuple[int, tuple[str, ...]]:
        path = self._context.state_dir / CONTENT_DIRECTORY / sha256_hex
        if not _SHA256.fullmatch(sha256_hex) or not path.is_file():
            raise FailedPreconditionError(f"No content with SHA-256 {sha256_hex!r}: upload it by MountPutFile first.")
        return self._volumes.blocks.add_file(path)

    def _missing_blocks(self, request: Any) -> Iterator[Any]:
        asked: set[str] = set()
        for file_index, file in enumerate(request.files):
            if len(file.blocks) != -(-file.size // BLOCK_BYTES):
                raise InvalidArgumentError(
                    f"{file.path!r}: expected a block for each {BLOCK_BYTES} of its {file.size} bytes,"
                    f" got {len(file.blocks)} blocks."
                )
            for block_index, block in enumerate(file.blocks):
                digest = block.contents_sha256.hex()
                if not _SHA256.fullmatch(digest):
                    raise InvalidArgumentError(f"{file.path!r}: expected a SHA-256 of 32 bytes for each block.")
                if digest not in asked and not self._volumes.blocks.has(digest):
                    asked.add(digest)
                    yield api_pb2.VolumePutFiles2Response.MissingBlock(
                        file_index=file_index, block_index=block_index, put_url=self._block_url(digest)
                    )

    def _listing(self, request: Any) -> Iterator[list[Any]]:
        tree: Tree = self._volumes.tree(request.volume_id)
        found = volumes_tree.listing(tree, request.path, recursive=request.recursive)
        if request.HasField("max_entries"):
            found = found[: request.max_entries]
        for start in range(0, len(found), _ENTRIES_PER_MESSAGE):
            yield [
                api_pb2.FileEntry(
                    path=path, type=_FILE_TYPES[one.kind], mtime=one.mtime_ns // 10**9, size=one.size_bytes
                )
                for path, one in found[start : start + _ENTRIES_PER_MESSAGE]
            ]

    def _file(self, volume_id: str, path: str) -> Entry:
        entry = self._volumes.tree(volume_id).get(volumes_tree.normalize(path))
        if entry is None:
            raise NotFoundError(f"No such file or directory in the volume: {path!r}.")
        if entry.kind != "file":
            raise InvalidArgumentError(f"{path!r} is a {entry.kind}, not a file.")
        return entry

    def _block_urls(self, entry: Entry, start: int, end: int, *, pads: bool) -> Iterator[str]:
        for index in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            offset = index * BLOCK_BYTES
            first, last = max(start - offset, 0), min(end - offset, BLOCK_BYTES)
            whole = first == 0 and offset + last in {entry.size_bytes, offset + BLOCK_BYTES}
            url = self._block_url(entry.blocks[index])
            if whole and pads:
                yield url
            else:
                yield f"{url}?start={first}&end={last}{'' if pads else '&pad=1'}"

    def _block_url(self, digest: str) -> str:
        return f"{self._context.http_base_url}/volume-block/{digest}"
