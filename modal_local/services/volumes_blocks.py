"""The bytes of volumes: blocks of up to 8 MiB by their SHA-256, with the zero bytes at a block's end left out.

Both versions of volumes keep their files so, which is how the SDK uploads and downloads those of version 2. A block
is there whole or not at all. Blocks that no volume holds any more go when the server starts.
"""

import asyncio
import base64
import hashlib
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from modal_local.services.volumes_tree import BLOCK_BYTES, Entry

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES: Final = 1024**2


class BlockStore:
    """Blocks in files.

    Args:
        directory: where they lie.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def has(self, digest: str) -> bool:
        """Whether a block is here."""
        return self.path_of(digest).is_file()

    def path_of(self, digest: str) -> Path:
        """The file of a block, which need not be there."""
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"Expected a SHA-256 in hex, got {digest!r}.")
        return self._directory / digest[:2] / digest

    def add(self, data: bytes) -> str:
        """Keeps a block and returns its digest."""
        stripped = data.rstrip(b"\0")
        digest = hashlib.sha256(stripped).hexdigest()
        path = self.path_of(digest)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f"{digest}.{secrets.token_hex(4)}.partial")
            partial.write_bytes(stripped)
            partial.replace(path)
        return digest

    def add_file(self, path: Path) -> tuple[int, tuple[str, ...]]:
        """Keeps a file's content. Returns its size in bytes and its blocks."""
        blocks = []
        size_bytes = 0
        with path.open("rb") as file:
            while data := file.read(BLOCK_BYTES):
                blocks.append(self.add(data))
                size_bytes += len(data)
        return size_bytes, tuple(blocks)

    def write_file(self, entry: Entry, path: Path) -> None:
        """Writes a file's content to a new file, with holes where the zero bytes are."""
        with path.open("wb") as file:
            for index, digest in enumerate(entry.blocks):
                file.seek(index * BLOCK_BYTES)
                with self.path_of(digest).open("rb") as block:
                    shutil.copyfileobj(block, file, _CHUNK_BYTES)
            file.truncate(entry.size_bytes)

    def sweep(self, used: Iterable[str]) -> None:
        """Removes all blocks but those in use. Only when no upload is on its way."""
        kept = set(used)
        for path in self._directory.glob("*/*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def routes(self) -> list[web.RouteDef]:
        """Where the SDK puts and gets blocks."""
        return [
            web.put("/volume-block/{digest}", self._put),
            web.get("/volume-block/{digest}", self._get),
        ]

    async def _put(self, request: web.Request) -> web.StreamResponse:
        digest = self._digest_of(request)
        data = bytearray()
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) > BLOCK_BYTES:
                raise web.HTTPRequestEntityTooLarge(max_size=BLOCK_BYTES, actual_size=len(data))
        actual = hashlib.sha256(data).hexdigest()
        if actual != digest:
            raise web.HTTPBadRequest(text=f"Block: expected content with SHA-256 {digest}, got {actual}.")
        await asyncio.to_thread(self._keep, digest, bytes(data))
        return web.Response(body=digest.encode())

    def _keep(self, digest: str, data: bytes) -> None:
        # The client has left the zeros out already; if it has not, its own digest is the one that it will ask for.
        path = self.path_of(digest)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{digest}.{secrets.token_hex(4)}.partial")
        partial.write_bytes(data)
        partial.replace(path)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        """The whole block, or bytes `start` to `end` of it, filled up with zeros if `pad` says so."""
        digest = self._digest_of(request)
        path = self.path_of(digest)
        if not path.is_file():
            raise web.HTTPNotFound(text=f"Block {digest} is not here.")
        if not request.query:
            sha256 = base64.b64encode(bytes.fromhex(digest)).decode()
            return web.FileResponse(path, headers={"Repr-Digest": f"sha-256=:{sha256}:"})
        try:
            start, end = int(request.query["start"]), int(request.query["end"])
        except (KeyError, ValueError) as error:
            raise web.HTTPBadRequest(text="Block: expected start and end as whole numbers.") from error
        if not 0 <= start <= end <= BLOCK_BYTES:
            raise web.HTTPBadRequest(text=f"Block: expected 0 <= start <= end <= {BLOCK_BYTES}, got {start}, {end}.")
        data = (await asyncio.to_thread(path.read_bytes))[start:end]
        if "pad" in request.query:
            data = data.ljust(end - start, b"\0")
        return web.Response(body=data)

    @staticmethod
    def _digest_of(request: web.Request) -> str:
        digest = request.match_info["digest"]
        if not _SHA256.fullmatch(digest):
            raise web.HTTPNotFound(text=f"Expected a SHA-256 in hex, got {digest[:80]!r}.")
        return digest
