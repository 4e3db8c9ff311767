"""Blobs through the SDK's own upload and download code, which is what spawn and get use for large values."""

import hashlib
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import modal
import pytest
from modal._utils.blob_utils import blob_download, blob_upload, blob_upload_file
from modal.exception import ExecutionError, NotFoundError
from modal_proto import api_pb2

from modal_local.services.blobs import BlobService
from tests.support.storage_server import StorageServer, storage_server

MULTIPART_FROM = 4 * 1024**2
PART = 1024**2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    def services(context: Any) -> list[object]:
        return [BlobService(context, multipart_threshold_bytes=MULTIPART_FROM, part_bytes=PART)]

    with storage_server(tmp_path, services) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


class Uploader:
    """The SDK's blob functions, run where the SDK runs its own calls."""

    def __init__(self, client: modal.Client) -> None:
        from modal._utils.async_utils import synchronizer

        translate: Any = synchronizer._translate_in
        self._stub = translate(client)._stub
        self._run = synchronizer.create_blocking

    def upload(self, data: bytes) -> str:
        blob_id: str = self._run(blob_upload)(data, self._stub)
        return blob_id

    def upload_file(self, file: Any, **digests: str) -> str:
        blob_id: str = self._run(blob_upload_file)(file, self._stub, **digests)
        return blob_id

    def download(self, blob_id: str) -> bytes:
        data: bytes = self._run(blob_download)(blob_id, self._stub)
        return data

    def create(self, request: api_pb2.BlobCreateRequest) -> api_pb2.BlobCreateResponse:
        async def call() -> api_pb2.BlobCreateResponse:
            answer: api_pb2.BlobCreateResponse = await self._stub.BlobCreate(request)
            return answer

        response: api_pb2.BlobCreateResponse = self._run(call)()
        return response

    def http(self, method: str, url: str, data: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
        async def call() -> tuple[int, str]:
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, url, data=data, headers=headers) as got,
            ):
                return got.status, await got.text()

        answer: tuple[int, str] = self._run(call)()
        return answer


@pytest.fixture
def uploader(client: modal.Client) -> Uploader:
    return Uploader(client)


def pseudo_random(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 9 * 1024, PART, MULTIPART_FROM - 1])
def test_one_put_comes_back_as_it_was(uploader: Uploader, size: int) -> None:
    data = pseudo_random(size)
    assert uploader.download(uploader.upload(data)) == data


@pytest.mark.parametrize("size", [MULTIPART_FROM, MULTIPART_FROM + 1, 9 * PART - 17])
def test_parts_come_back_as_one(uploader: Uploader, size: int) -> None:
    # given large bytes, and an MD5 that is a placeholder, as the SDK sends for those
    data = pseudo_random(size)
    # when they are uploaded in parts
    blob_id = uploader.upload_file(io.BytesIO(data), md5_hex="baad" * 8)
    # then what comes back is whole
    assert uploader.download(blob_id) == data


def test_an_unknown_or_unfinished_blob_is_not_found(uploader: Uploader) -> None:
    with pytest.raises(NotFoundError):
        uploader.download("bl-nowhere")
    with pytest.raises(NotFoundError):
        uploader.download("../../etc/passwd")
    announced = uploader.create(api_pb2.BlobCreateRequest(content_length=10))
    with pytest.raises(NotFoundError):
        uploader.download(announced.blob_ids[0])


def test_a_file_that_changes_during_the_upload_is_refused(uploader: Uploader) -> None:
    # given an upload that was announced with the digest of other bytes of the same length
    with pytest.raises(ExecutionError, match="Hash mismatch"):
        uploader.upload_file(io.BytesIO(b"changed"), sha256_hex=hashlib.sha256(b"planned").hexdigest())


def test_parts_of_a_file_that_changed_are_refused(uploader: Uploader) -> None:
    data = pseudo_random(MULTIPART_FROM)
    with pytest.raises(ExecutionError):
        uploader.upload_file(io.BytesIO(data), sha256_hex=hashlib.sha256(b"other").hexdigest())


def test_an_upload_is_announced_in_the_older_form_too(uploader: Uploader) -> None:
    # as other SDKs read it
    single = uploader.create(api_pb2.BlobCreateRequest(content_length=10))
    assert (single.blob_id, single.upload_url) == (single.blob_ids[0], single.upload_urls.items[0])
    parts = uploader.create(api_pb2.BlobCreateRequest(content_length=MULTIPART_FROM))
    assert (parts.blob_id, parts.multipart) == (parts.blob_ids[0], parts.multiparts.items[0])


@pytest.mark.parametrize("body", [b"", b"short", b"x" * 11])
def test_a_body_of_another_length_than_announced_is_refused(uploader: Uploader, body: bytes) -> None:
    announced = uploader.create(api_pb2.BlobCreateRequest(content_length=10))
    status, text = uploader.http("PUT", announced.upload_urls.items[0], body)
    assert status == 400
    assert "10 bytes" in text
    with pytest.raises(NotFoundError):
        uploader.download(announced.blob_ids[0])


def test_a_wrong_content_md5_is_refused(uploader: Uploader) -> None:
    announced = uploader.create(api_pb2.BlobCreateRequest(content_length=1))
    url = announced.upload_urls.items[0]
    assert uploader.http("PUT", url, b"x", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})[0] == 400
    assert uploader.http("PUT", url, b"x", {"Content-MD5": "not base64!"})[0] == 400
    assert uploader.http("PUT", url, b"x")[0] == 200


def test_a_completion_without_all_parts_is_refused(uploader: Uploader) -> None:
    announced = uploader.create(api_pb2.BlobCreateRequest(content_length=MULTIPART_FROM))
    parts = announced.multiparts.items[0]
    assert uploader.http("PUT", parts.upload_urls[0], b"x" * PART)[0] == 200
    status, text = uploader.http("POST", parts.completion_url, b"<CompleteMultipartUpload></CompleteMultipartUpload>")
    assert status == 400
    assert "4 parts" in text


def test_an_upload_that_nobody_announced_is_refused(uploader: Uploader, server: StorageServer) -> None:
    base = server.context.http_base_url
    assert uploader.http("PUT", f"{base}/blob/bl-{'a' * 22}", b"x")[0] == 404
    assert uploader.http("PUT", f"{base}/blob/..%2F..%2Fescaped", b"x")[0] == 404
    announced = uploader.create(api_pb2.BlobCreateRequest(content_length=MULTIPART_FROM))
    wrong_part = announced.multiparts.items[0].upload_urls[0].removesuffix("1") + "99"
    assert uploader.http("PUT", wrong_part, b"x")[0] == 404


def test_the_server_holds_no_large_upload_in_memory(tmp_path: Path) -> None:
    # given a file of 256 MiB that takes no room, to be sent as it is read
    size = 256 * 1024**2
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(size)
    with (
        storage_server(tmp_path / "state", lambda context: [BlobService(context)]) as server,
        server.client() as client,
    ):
        uploader = Uploader(client)
        announced = uploader.create(api_pb2.BlobCreateRequest(content_length=size))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = peak_resident_bytes()
        # when it is put
        with path.open("rb") as file:
            status, _ = uploader.http("PUT", announced.upload_urls.items[0], file)
        # then this process, client and server together, never grew by an eighth of it
        assert status == 200
        assert peak_resident_bytes() - before < size / 8
        assert server.services[0].path_of(announced.blob_ids[0]).stat().st_size == size


def peak_resident_bytes() -> int:
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM in /proc/self/status")


def test_a_restart_keeps_blobs_and_drops_halves(tmp_path: Path) -> None:
    def services(context: Any) -> list[object]:
        return [BlobService(context)]

    with storage_server(tmp_path, services) as first, first.client() as client:
        blob_id = Uploader(client).upload(b"kept")
        (tmp_path / "blobs" / f"bl-{'a' * 22}.up-x.partial").write_bytes(b"half")
    with storage_server(tmp_path, services) as second, second.client() as client:
        assert Uploader(client).download(blob_id) == b"kept"
        assert list((tmp_path / "blobs").glob("*.partial")) == []
