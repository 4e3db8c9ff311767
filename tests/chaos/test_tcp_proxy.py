"""The proxy itself: each of its switches does what it says, to open connections and to new ones."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until


class EchoServer:
    """Sends back what it gets, on a port of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _echo(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(4096):
                    peer.sendall(data)
            except OSError:
                return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(5)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    server = EchoServer()
    proxy = TcpProxy(server.port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        proxy.stop()
        server.stop()


def _connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def _says(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(4096)


def test_it_passes_on_what_it_gets(proxy: TcpProxy) -> None:
    with _connect(proxy) as client:
        assert _says(client, b"hello") == b"hello"
        assert proxy.open_connections == 1
    until(lambda: proxy.open_connections, lambda count: count == 0, timeout_s=5)


def test_a_cut_ends_open_connections_and_lets_new_ones_in(proxy: TcpProxy) -> None:
    with _connect(proxy) as client:
        assert _says(client, b"1") == b"1"
        # When the connection is cut
        assert proxy.cut() == 1
        # Then its client sees the end
        assert _ended(client)
    # And a new one works
    with _connect(proxy) as client:
        assert _says(client, b"2") == b"2"


def test_while_it_refuses_nobody_gets_in(proxy: TcpProxy) -> None:
    with _connect(proxy) as client:
        assert _says(client, b"1") == b"1"
        proxy.refuse()
        assert _ended(client)
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    # Healed, it listens on the same port
    port = proxy.port
    proxy.heal()
    assert proxy.port == port
    with _connect(proxy) as client:
        assert _says(client, b"2") == b"2"


def test_while_it_holds_connections_stay_open_and_silent_and_nothing_is_lost(proxy: TcpProxy) -> None:
    with _connect(proxy) as client:
        assert _says(client, b"1") == b"1"
        proxy.hold()
        client.sendall(b"2")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(4096)
        proxy.heal()
        client.settimeout(5)
        assert client.recv(4096) == b"2"


def test_a_delay_slows_both_ways(proxy: TcpProxy) -> None:
    with _connect(proxy) as client:
        proxy.delay(0.15)
        client.settimeout(0.2)
        client.sendall(b"slow")
        with pytest.raises(TimeoutError):
            client.recv(4096)  # 0.3 s there and back
        client.settimeout(5)
        assert client.recv(4096) == b"slow"
        proxy.heal()
        assert _says(client, b"fast") == b"fast"


def test_a_dead_server_shows_as_a_closed_connection() -> None:
    server = EchoServer()
    server.stop()
    proxy = TcpProxy(server.port)
    proxy.start()
    try:
        with _connect(proxy) as client:
            assert _ended(client)
    finally:
        proxy.stop()


def _ended(client: socket.socket) -> bool:
    """Whether the other side is gone: an orderly end or a reset."""
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True
