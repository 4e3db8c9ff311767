"""The API as the Procfile starts it, under clients that hold connections, or speak what is not quite HTTP."""

import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.test_process import PADDED_KEY, environment
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

PROCFILE = Path(__file__).parents[3] / "Procfile"
HEADER_TIMEOUT_S = 2.0
MAX_CONNECTIONS = 24
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: "


@dataclass
class Served:
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, raw: bytes) -> bytes:
        """All that is answered to these bytes until the API closes the connection."""
        with self.connect() as sock:
            sock.sendall(raw)
            return read_all(sock)

    def healthy(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code == 200


def read_all(sock: socket.socket) -> bytes:
    answer = b""
    try:
        while data := sock.recv(65_536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def served(redis_server: RedisServer, *, descriptors: int | None = None, **variables: str) -> Iterator[Served]:
    """The API by its line in the Procfile, on a port of the system's choice."""
    line = next(line for line in PROCFILE.read_text().splitlines() if line.startswith("api:"))
    words = [sys.executable, "-m", *shlex.split(line.partition("exec ")[2])]
    words[words.index("--port") + 1] = "0"
    command = shlex.join(words)
    if descriptors is not None:
        command = f"ulimit -n {descriptors}; exec {command}"
    said = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 - closed below
    process = subprocess.Popen(
        ["bash", "-c", command if descriptors is not None else f"exec {command}"],
        cwd=PROCFILE.parent,
        env=environment(
            OVERSPILL_API_KEYS=f"acme={PADDED_KEY}",
            OVERSPILL_LEDGER_URL=redis_server.url(0),
            OVERSPILL_LEDGER_PREFIX="{p" + uuid4().hex[:8] + "}",
            OVERSPILL_BROKER_URL=redis_server.url(7),
            **variables,
        ),
        stderr=said.fileno(),
    )
    try:
        text = until(Path(said.name).read_text, lambda text: "http://127.0.0.1:" in text, timeout_s=30)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
        assert found is not None
        yield Served(int(found[1]))
    finally:
        process.terminate()
        process.wait(timeout=30)
        said.close()


@pytest.fixture(scope="module")
def strict(redis_server: RedisServer) -> Iterator[Served]:
    variables = {
        "OVERSPILL_API_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S),
        "OVERSPILL_API_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    }
    with served(redis_server, **variables) as api:
        yield api


def test_300_half_sent_heads_do_not_stop_a_health_check(strict: Served) -> None:
    # given many more half-sent heads than there may be connections
    with ExitStack() as stack:
        held = []
        for _ in range(300):
            sock = stack.enter_context(strict.connect())
            sock.sendall(HALF_A_HEAD)
            held.append(sock)
        # when health is asked for meanwhile / then it is answered, time and again
        began = time.monotonic()
        assert all(strict.healthy() for _ in range(5))
        assert time.monotonic() - began < HEADER_TIMEOUT_S
        # and all of them are closed when their time is up
        for sock in held:
            assert read_all(sock) == b""


def test_nor_do_they_with_few_descriptors(redis_server: RedisServer) -> None:
    with served(redis_server, descriptors=128) as api, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(api.connect()).sendall(HALF_A_HEAD)
        assert all(api.healthy() for _ in range(3))


def drip(served_by: Served, begin: bytes, drop: bytes) -> float:
    """Send a byte again and again; how long the API listens, seconds."""
    began = time.monotonic()
    with served_by.connect() as sock:
        sock.settimeout(0.1)
        sock.sendall(begin)
        while time.monotonic() - began < 20:
            try:
                sock.sendall(drop)
                if not sock.recv(65_536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    return time.monotonic() - began


AFTER_AN_ANSWER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
NO_KEY = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"X"),  # a method that never ends
        (HALF_A_HEAD, b"x"),  # a header that grows by a byte at a time
        (HALF_A_HEAD, b"x\r\nX: "),  # ever more headers
        (AFTER_AN_ANSWER + HALF_A_HEAD, b"x"),  # the second request of a connection
        (NO_KEY, b"x"),  # a body that nobody waits for: its request was refused
        (b"", b"\r\n"),  # empty lines before a request
    ],
)
def test_who_drips_is_closed_in_time(strict: Served, begin: bytes, drop: bytes) -> None:
    assert drip(strict, begin, drop) < HEADER_TIMEOUT_S + 6


def test_a_connection_that_is_served_is_not_the_one_that_makes_room(strict: Served) -> None:
    # given a request whose body is on its way
    body = b'{"prompt": "x"}'
    head = (
        f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PADDED_KEY}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with strict.connect() as honest, ExitStack() as stack:
        honest.sendall(head.encode() + body[:5])
        # when a flood comes
        for _ in range(2 * MAX_CONNECTIONS):
            stack.enter_context(strict.connect()).sendall(HALF_A_HEAD)
        # then it is answered all the same
        honest.sendall(body[5:])
        assert read_all(honest).startswith(b"HTTP/1.1 200 ")


def test_when_all_are_served_one_more_gets_a_503(strict: Served) -> None:
    head = (
        f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PADDED_KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(strict.connect()).sendall(head)
        answer = until(
            lambda: strict.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            lambda answer: b"503" in answer,
            timeout_s=10,
        )
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b'"code": "overloaded"' in answer
    until(strict.healthy, bool, timeout_s=10)


KEY = f"Authorization: Bearer {PADDED_KEY}\r\nContent-Type: application/json\r\n".encode()
JSON = b'{"prompt": "x"}'
SMUGGLED = {
    "CL and TE": b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n%sContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"f\r\n%s\r\n0\r\n\r\n" % (KEY, JSON),
    "TE and CL": b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
    b"f\r\n%s\r\n0\r\n\r\n" % (KEY, JSON),
    "TE in HTTP/1.0": b"POST /v1/videos HTTP/1.0\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\n\r\nf\r\n%s\r\n0\r\n\r\n"
    % (KEY, JSON),
    "a folded TE": b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" % KEY,
    "bare LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "bare LF in the middle": b"GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare LF at the end": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\n\n",
    "bare LF before": b"\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare CR": b"GET /healthz HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "bare LF in a trailer": b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\n",
    "two lengths": b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n%sContent-Length: 15\r\nContent-Length: 4\r\n\r\n%s"
    % (KEY, JSON),
    "a head without end": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000,
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_two_readers_could_read_differently_is_refused(strict: Served, name: str) -> None:
    answer = strict.ask(SMUGGLED[name])
    # then there is at most one answer, it is no success, and the connection is closed
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
    assert len(statuses) <= 1
    assert statuses[:1] in ([b"400"], [b"405"], [b"501"]) or (name.endswith("trailer") and not statuses), answer
    if statuses[:1] == [b"400"]:
        assert b'"code": "invalid_http"' in answer


def test_the_second_of_two_requests_is_looked_at_as_well(strict: Served) -> None:
    answer = strict.ask(AFTER_AN_ANSWER + SMUGGLED["CL and TE"])
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"200", b"400"]


def test_a_body_of_tiny_chunks_is_cut_off_and_an_honest_one_is_read(strict: Served) -> None:
    head = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sTransfer-Encoding: chunked\r\n\r\n" % KEY

    def chunked(body: bytes, size: int) -> bytes:
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"

    assert b" 200 " in strict.ask(chunked(JSON, 1)).partition(b"\r\n")[0]
    padded = JSON + b" " * 100_000
    assert b" 200 " in strict.ask(chunked(padded, 1024)).partition(b"\r\n")[0]
    assert b" 400 " in strict.ask(chunked(padded, 1)).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "ask",
    [
        lambda url: httpx.get(f"{url}/healthz"),
        lambda url: httpx.get(f"{url}/healthz", headers={f"x-{n}": "y" * 100 for n in range(80)}),
        lambda url: httpx.post(
            f"{url}/v1/videos", content=iter([JSON]), headers={"authorization": f"Bearer {PADDED_KEY}",
                                                              "content-type": "application/json"}
        ),
    ],
)  # fmt: skip
def test_honest_clients_notice_nothing(strict: Served, ask: Callable[[str], httpx.Response]) -> None:
    assert ask(f"http://127.0.0.1:{strict.port}").status_code == 200
