"""A put that happened and is answered with a failure, by a small HTTP server and a real client."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.chaos.s3_proxy import S3Proxy


class _Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def proxy() -> Iterator[S3Proxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    _Store.kept.clear()
    proxy = S3Proxy(server.server_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _put(proxy: S3Proxy, path: str, *, expect: bool = False) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    try:
        connection.putrequest("PUT", path)
        connection.putheader("Content-Length", "4")
        if expect:
            connection.putheader("Expect", "100-continue")
        connection.endheaders(b"body")
        return connection.getresponse().status
    finally:
        connection.close()


def test_so_many_answers_are_lost_and_the_puts_have_happened(proxy: S3Proxy) -> None:
    proxy.lose_answers(2)
    assert [_put(proxy, f"/bucket/render/job/1/{number}") for number in range(3)] == [500, 500, 200]
    assert len(_Store.kept) == 3
    assert proxy.lost == 2


def test_a_client_that_waits_for_a_go_ahead_gets_it_and_then_the_failure(proxy: S3Proxy) -> None:
    proxy.lose_answers(1)
    assert _put(proxy, "/bucket/render/job/1/video.mp4", expect=True) == 500
    assert _Store.kept == {"/bucket/render/job/1/video.mp4": b"body"}


def test_only_artifacts_are_struck_and_forgiven_is_forgotten(proxy: S3Proxy) -> None:
    proxy.lose_answers(1)
    assert _put(proxy, "/bucket/.ready") == 200
    proxy.forgive()
    assert _put(proxy, "/bucket/render/job/1/video.mp4") == 200
