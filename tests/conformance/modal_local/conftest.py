"""One server for all conformance tests, with the app deployed on it by the real CLI.

With a token in the environment and no MODAL_SERVER_URL, the same tests run against Modal itself.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import modal
import pytest

from tests.support.modal_command import run_modal
from tests.support.modal_local import ModalLocalProcess, start_modal_local

PROJECTS = Path(__file__).parent / "projects"


@dataclass(frozen=True)
class Target:
    """Where the tests run: a server of our own, or Modal."""

    server: ModalLocalProcess | None
    environ: dict[str, str]
    client: modal.Client

    def cli(self, *words: str, project: str = "basic", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the real modal command in a project's directory, forked from a process that has it imported."""
        done = run_modal(*words, cwd=PROJECTS / project, env=self.environ)
        assert not check or done.returncode == 0, f"modal {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done

    def function(self, name: str) -> modal.Function:
        return modal.Function.from_name("basic", name, client=self.client)

    def cls(self, name: str) -> modal.Cls:
        return modal.Cls.from_name("basic", name, client=self.client)

    def call(self, call_id: str) -> modal.FunctionCall:
        return modal.FunctionCall.from_id(call_id, client=self.client)


def make_client(server: ModalLocalProcess, token_secret: str | None = None) -> modal.Client:
    """A client of one server, whatever others this process talks to."""
    secret = token_secret or server.env["MODAL_TOKEN_SECRET"]
    previous = os.environ.get("MODAL_SERVER_URL")
    os.environ["MODAL_SERVER_URL"] = server.server_url
    try:
        return modal.Client.from_credentials(server.env["MODAL_TOKEN_ID"], secret)
    finally:
        if previous is None:
            del os.environ["MODAL_SERVER_URL"]
        else:
            os.environ["MODAL_SERVER_URL"] = previous


def target_for(server: ModalLocalProcess) -> Target:
    """A server of our own as a target."""
    return Target(server, server.environ(), make_client(server))


@pytest.fixture(scope="session")
def bare_target() -> Iterator[Target]:
    """A server with nothing on it."""
    if os.environ.get("MODAL_TOKEN_ID") and not os.environ.get("MODAL_SERVER_URL"):
        yield Target(None, dict(os.environ), modal.Client.from_env())
        return
    server = start_modal_local(max_containers=6, starts_per_s=50)
    try:
        yield target_for(server)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def target(bare_target: Target) -> Target:
    """A server with the project `basic` deployed."""
    bare_target.cli("deploy", "-m", "basic_app.app")
    return bare_target


@pytest.fixture
def local_target(target: Target) -> Target:
    """As `target`, for what looks into containers from outside: files that both sides see, processes."""
    if target.server is None:
        pytest.skip("looks into containers from outside, which Modal does not allow")
    return target


@pytest.fixture
def unique() -> str:
    """A value that no other test uses."""
    return uuid.uuid4().hex[:12]
