"""Blobs: what is too large for a gRPC message goes over HTTP, by a URL that `BlobCreate` or `BlobGet` hands out.

Bytes go straight to a file under the state directory, a chunk at a time; the larger ones in parts that are written
into their places of one sparse file. A blob exists from the moment its file is moved to its final name, so a blob
that can be read is whole. The URL's id is 22 random letters, which is what guards it on loopback.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller

# The SDK sends a placeholder instead of an MD5 from this size on, so it cannot use one PUT (`blob_utils.py`).
MULTIPART_THRESHOLD_BYTES: Final = 1024**3
PART_BYTES: Final = 128 * 1024**2

_UPLOADS: Final = "blob_uploads"
_CHUNK_BYTES: Final = 1024**2
_BLOB_ID = re.compile(r"bl-[A-Za-z0-9]{22}")
_XML_ETAG = re.compile(r"<ETag>\"?([0-9a-f]{32})\"?</ETag>")
# What the SDK looks for in the body of a 400, to report that a file changed under its hands (`blob_utils.py`).
_DIGEST_MISMATCH: Final = "The Content-MD5 you specified did not match what we received."


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was announced and is not complete.

    Attributes:
        content_length: bytes that were announced.
        sha256_base64: announced digest, or empty.
        part_bytes: length of each part but the last; 0 for one PUT.
        etags: MD5 of each part that has arrived, by part number from 1.
    """

    content_length: int
    sha256_base64: str
    part_bytes: int = 0
    etags: dict[int, str] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """How many parts there are, at least one."""
        return max(1, -(-self.content_length // self.part_bytes)) if self.part_bytes else 1

    def part_range(self, number: int) -> tuple[int, int]:
        """First byte and length of a part.

        Raises:
            ValueError: there is no such part.
        """
        if not self.part_bytes or not 1 <= number <= self.parts:
            raise ValueError(f"Expected a part from 1 to {self.parts}, got {number}.")
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.content_length - offset)

    def dump(self) -> bytes:
        """As stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> "Upload":
        """From `dump`."""
        raw = json.loads(data)
        return cls(raw["content_length"], raw["sha256_base64"], raw["part_bytes"], _int_keys(raw["etags"]))


def _int_keys(mapping: dict[str, str]) -> dict[int, str]:
    return {int(key): value for key, value in mapping.items()}


def multipart_etag(part_etags: list[str]) -> str:
    """S3's ETag of a multipart object: the MD5 of the parts' raw MD5s, a dash, their number."""
    joined = b"".join(bytes.fromhex(etag) for etag in part_etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_etags)}"


class BlobService:
    """Answers BlobCreate and BlobGet, and serves the bytes.

    Args:
        context: of the server.
        multipart_threshold_bytes: from this length on, an upload is asked for in parts.
        part_bytes: length of a part.
    """

    def __init__(
        self,
        context: "Context",
        *,
        multipart_threshold_bytes: int = MULTIPART_THRESHOLD_BYTES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._context = context
        self._multipart_threshold_bytes = multipart_threshold_bytes
        self._part_bytes = part_bytes
        self._directory = context.state_dir / "blobs"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    async def BlobCreate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Answers where the client shall put its bytes."""
        if request.content_length < 0:
            raise InvalidArgumentError(f"BlobCreate: expected a content_length of 0 or more, got {request}.")
        blob_id = self._context.ids.new("bl")
        multipart = request.content_length >= self._multipart_threshold_bytes
        upload = Upload(
            content_length=request.content_length,
            sha256_base64=request.content_sha256_base64,
            part_bytes=self._part_bytes if multipart else 0,
        )
        self._save(blob_id, upload)
        url = f"{self._context.http_base_url}/blob/{blob_id}"
        if not multipart:
            urls = api_pb2.UploadUrlList(items=[url])
            return api_pb2.BlobCreateResponse(blob_id=blob_id, upload_url=url, blob_ids=[blob_id], upload_urls=urls)
        parts = api_pb2.MultiPartUpload(
            part_length=self._part_bytes,
            upload_urls=[f"{url}/part/{number}" for number in range(1, upload.parts + 1)],
            completion_url=f"{url}/complete",
        )
        # Each answer is given twice: other SDKs than the newest Python one read the fields for a single upload.
        return api_pb2.BlobCreateResponse(
            blob_id=blob_id,
            multipart=parts,
            blob_ids=[blob_id],
            multiparts=api_pb2.MultiPartUploadList(items=[parts]),
        )

    async def BlobGet(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Answers where the client finds the bytes."""
        self.path_of(request.blob_id)
        return api_pb2.BlobGetResponse(download_url=f"{self._context.http_base_url}/blob/{request.blob_id}")

    def path_of(self, blob_id: str) -> Path:
        """The file that holds an uploaded blob.

        Raises:
            NotFoundError: the blob is unknown, or its upload is not finished.
        """
        if _BLOB_ID.fullmatch(blob_id):
            path = self._final_path(blob_id)
            if path.is_file():
                return path
        raise NotFoundError(f"Blob {blob_id!r} not found: it was never uploaded completely. Upload it again.")

    def add(self, data: bytes) -> str:
        """Makes a blob of bytes that are here already, and returns its id."""
        blob_id = self._context.ids.new("bl")
        partial = self._partial_path(blob_id, "add")
        partial.write_bytes(data)
        self._publish(partial, blob_id)
        return blob_id

    def delete(self, blob_id: str) -> None:
        """Removes a blob; an unknown one is no error."""
        if _BLOB_ID.fullmatch(blob_id):
            self._final_path(blob_id).unlink(missing_ok=True)

    def routes(self) -> list[web.RouteDef]:
        """The HTTP side."""
        return [
            web.put("/blob/{blob_id}", self._put_whole),
            web.put("/blob/{blob_id}/part/{number}", self._put_part),
            web.post("/blob/{blob_id}/complete", self._complete),
            web.get("/blob/{blob_id}", self._get),
        ]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        try:
            path = self.path_of(request.match_info["blob_id"])
        except NotFoundError as error:
            raise web.HTTPNotFound(text=error.message) from error
        return web.FileResponse(path, chunk_size=_CHUNK_BYTES)

    async def _put_whole(self, request: web.Request) -> web.StreamResponse:
        blob_id, upload = self._upload_of(request)
        if upload.part_bytes:
            raise web.HTTPBadRequest(text="Expected this blob in parts, by the URLs that BlobCreate returned.")
        partial = self._partial_path(blob_id, self._context.ids.new("up"))
        try:
            sha256 = hashlib.sha256()
            etag = await self._receive(request, partial, 0, upload.content_length, sha256)
            self._check_content_md5(request, etag)
            if upload.sha256_base64 and base64.b64encode(sha256.digest()).decode() != upload.sha256_base64:
                raise web.HTTPBadRequest(text=f"{_DIGEST_MISMATCH} (SHA-256)")
            self._publish(partial, blob_id)
        finally:
            partial.unlink(missing_ok=True)
        return web.Response(headers={"ETag": f'"{etag}"'})

    async def _put_part(self, request: web.Request) -> web.StreamResponse:
        blob_id, upload = self._upload_of(request)
        try:
            number = int(request.match_info["number"])
            offset, length = upload.part_range(number)
        except ValueError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        etag = await self._receive(request, self._partial_path(blob_id, "parts"), offset, length, hashlib.sha256())
        self._check_content_md5(request, etag)
        latest = self._load(blob_id)  # other parts arrived while this one did
        if latest is not None:
            self._save(blob_id, Upload(**{**asdict(latest), "etags": {**latest.etags, number: etag}}))
        return web.Response(headers={"ETag": f'"{etag}"'})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        blob_id, upload = self._upload_of(request)
        claimed = _XML_ETAG.findall(await request.text())
        arrived = [upload.etags.get(number, "") for number in range(1, upload.parts + 1)]
        if not upload.part_bytes or claimed != arrived:
            raise web.HTTPBadRequest(text=f"Expected the ETags of {upload.parts} parts, {arrived}, got {claimed}.")
        partial = self._partial_path(blob_id, "parts")
        if upload.sha256_base64:
            digest = await asyncio.to_thread(_file_sha256_base64, partial)
            if digest != upload.sha256_base64:
                raise web.HTTPBadRequest(text=f"{_DIGEST_MISMATCH} (SHA-256)")
        self._publish(partial, blob_id)
        etag = multipart_etag(arrived)
        return web.Response(text=f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>")

    def _upload_of(self, request: web.Request) -> tuple[str, Upload]:
        blob_id = request.match_info["blob_id"]
        upload = self._load(blob_id) if _BLOB_ID.fullmatch(blob_id) else None
        if upload is None:
            raise web.HTTPNotFound(text=f"No upload of {blob_id!r} is expected: call BlobCreate first.")
        return blob_id, upload

    async def _receive(self, request: web.Request, path: Path, offset: int, length: int, sha256: Any) -> str:
        """Writes the body at its place of the file; returns its MD5. `sha256` is fed with the same bytes."""
        md5 = hashlib.md5(usedforsecurity=False)
        received = 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                if received + len(chunk) > length:
                    raise web.HTTPBadRequest(text=f"Expected {length} bytes as announced, got more.")
                # Small bodies are the many ones (arguments of calls): for those a thread costs more than it frees.
                if length <= _CHUNK_BYTES:
                    _write_chunk(handle, chunk, offset + received, md5, sha256)
                else:
                    await asyncio.to_thread(_write_chunk, handle, chunk, offset + received, md5, sha256)
                received += len(chunk)
        finally:
            os.close(handle)
        if received != length:
            raise web.HTTPBadRequest(text=f"Expected {length} bytes as announced, got {received}.")
        return md5.hexdigest()

    @staticmethod
    def _check_content_md5(request: web.Request, etag: str) -> None:
        header = request.headers.get("Content-MD5")
        if header is None:
            return
        try:
            claimed = base64.b64decode(header, validate=True).hex()
        except binascii.Error as error:
            raise web.HTTPBadRequest(text=f"Content-MD5: expected base64, got {header!r}.") from error
        if claimed != etag:
            raise web.HTTPBadRequest(text=_DIGEST_MISMATCH)

    def _publish(self, partial: Path, blob_id: str) -> None:
        final = self._final_path(blob_id)
        final.parent.mkdir(exist_ok=True)
        partial.touch()
        partial.replace(final)
        self._context.store.delete(_UPLOADS, blob_id)

    def _final_path(self, blob_id: str) -> Path:
        return self._directory / blob_id[3:5] / blob_id

    def _partial_path(self, blob_id: str, suffix: str) -> Path:
        return self._directory / f"{blob_id}.{suffix}.partial"

    def _save(self, blob_id: str, upload: Upload) -> None:
        self._context.store.put(_UPLOADS, blob_id, upload.dump())

    def _load(self, blob_id: str) -> Upload | None:
        data = self._context.store.get(_UPLOADS, blob_id)
        return None if data is None else Upload.load(data)

    def _remove_leftovers(self) -> None:
        """Files of PUTs that died with the last server. Parts stay: their upload can go on."""
        for partial in self._directory.glob("*.partial"):
            blob_id, kind = partial.name.split(".")[:2]
            if kind != "parts" or self._load(blob_id) is None:
                partial.unlink(missing_ok=True)


def _write_chunk(handle: int, chunk: bytes, offset: int, md5: Any, sha256: Any) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
    md5.update(chunk)
    sha256.update(chunk)


def _file_sha256_base64(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
