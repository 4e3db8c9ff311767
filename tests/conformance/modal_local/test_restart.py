"""A restart from the state directory loses no accepted call and no returned result."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import ModalLocalProcess, start_modal_local

from .conftest import Target, make_client, target_for
from .test_cancel import running


def restarted(state: Path, **flags: object) -> tuple[ModalLocalProcess, Target]:
    server = start_modal_local(state, max_containers=3, starts_per_s=50, **flags)
    return server, target_for(server)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_calls_results_apps_and_tokens_survive(tmp_path: Path, how: signal.Signals) -> None:
    # given a server with a finished call, a running one, and many that wait
    server, target = restarted(tmp_path / "state")
    target.cli("deploy", "-m", "basic_app.app")
    done = target.function("square").spawn(12)
    assert done.get(timeout=30) == 144
    big = target.function("big").spawn(50_000)
    assert len(big.get(timeout=30)) == 50_000
    busy = target.function("nap").spawn(2.0)
    running(target, busy)
    waiting = [target.function("square").spawn(number) for number in range(20)]
    many = target.function("square").experimental_spawn_map(range(30))
    token, admin_url = server.env["MODAL_TOKEN_SECRET"], server.admin_url
    spent = AdminClient(server.admin_url).spend()["usd_micros"]

    # when it dies, and another starts on the same state
    if how is signal.SIGKILL:
        server.kill()
    else:
        server.stop()
    server, target = restarted(tmp_path / "state")

    # then everything is there, and what had not ended ends
    try:
        assert server.env["MODAL_TOKEN_SECRET"] == token
        assert server.admin_url == admin_url  # with it the addresses of blobs that were handed out
        assert target.call(done.object_id).get(timeout=0) == 144
        assert len(target.call(big.object_id).get(timeout=0)) == 50_000
        assert target.call(busy.object_id).get(timeout=60) == "slept"
        results = [target.call(call.object_id).get(timeout=60) for call in waiting]
        assert results == [number * number for number in range(20)]
        assert list(target.call(many.object_id).iter()) == [number * number for number in range(30)]
        assert target.function("square").remote(5) == 25
        assert AdminClient(server.admin_url).spend()["usd_micros"] >= spent
    finally:
        server.stop()


def test_every_call_whose_spawn_returned_is_known_after_a_crash(tmp_path: Path) -> None:
    # given clients that spawn as fast as they can, on a server that is then killed
    server, target = restarted(tmp_path / "state", simulate=True)
    target.cli("deploy", "-m", "basic_app.app")
    square = target.function("square")
    square.hydrate()
    accepted: list[str] = []
    threading.Timer(1.5, server.kill).start()

    def spawn() -> None:
        try:
            while True:
                accepted.append(square.spawn(0).object_id)
        except modal.exception.Error:
            return

    # each in a process of its own would be the same; three threads are enough to have spawns in flight
    threads = [threading.Thread(target=spawn, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.process.wait(20)
    known = list(accepted)
    assert len(known) > 20

    # when the server is back, then each accepted call is there and ends
    server, target = restarted(tmp_path / "state", simulate=True)
    try:
        lost = []
        for call_id in known:
            try:
                target.call(call_id).get(timeout=30)
            except modal.exception.NotFoundError:
                lost.append(call_id)
        assert lost == []
    finally:
        server.stop()


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    server = start_modal_local()
    try:
        port = server.server_url.rsplit(":", 1)[1]
        done = subprocess.run(
            [sys.executable, "-m", "modal_local", "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "NO_COLOR": "1"},
            check=False,
        )
        assert done.returncode != 0
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert f"Port {port}" in done.stderr
        assert make_client(server) is not None
    finally:
        server.stop()


def test_handles_go_on_over_a_restart_on_the_same_port(tmp_path: Path) -> None:
    # given a handle, and a call that waits for a card
    server, target = restarted(tmp_path / "state", gpus="H100=0")
    target.cli("deploy", "-m", "basic_app.app")
    port = server.server_url.rsplit(":", 1)[1]
    worker = target.cls("Worker").with_options(gpu="H100")()
    call = worker.greet.spawn("you")

    # when the server dies (then the client says so), and one with a card takes its place
    server.kill()
    with pytest.raises(modal.exception.ConnectionError):
        call.get(timeout=0)
    server, _ = restarted(tmp_path / "state", gpus="H100=1", port=port)

    # then the call ends well, and the old handles make new calls
    try:
        assert call.get(timeout=60) == "hello you 42 one"
        assert worker.greet.remote("again") == "hello again 42 one"
    finally:
        server.stop()


def test_two_servers_do_not_share_a_state_directory(tmp_path: Path) -> None:
    server = start_modal_local(tmp_path / "state")
    try:
        with pytest.raises(RuntimeError, match="in use by another server"):
            start_modal_local(tmp_path / "state")
    finally:
        server.stop()
