"""One server for all conformance tests, with the app deployed on it by the real CLI.

With a token in the environment and no MODAL_SERVER_URL, the same tests run against Modal itself.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import modal
import pytest

from tests.support.modal_command import run_modal
from tests.support.modal_local import ModalLocalProcess, start_modal_local

PROJECTS = Path(__file__).parent / "projects"


#: The SDK's own readers, as they are before anything of ours has replaced them in this process.
_MODULES = [
    import_module(f"modal.{name}")
    for name in ("_serialization", "_utils.function_utils", "_utils.blob_utils", "_functions", "queue", "dict")
]
_REPLACED = (
    *("Unpickler", "append_modal_tb", "deserialize"),
    *("_process_result", "blob_download", "_download_from_url"),
)
_OWN = [(module, name, getattr(module, name)) for module in _MODULES for name in _REPLACED if hasattr(module, name)]


@pytest.fixture(autouse=True)
def sdk_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own readers, whatever tests of the control plane have run in this process before."""
    for module, name, own in _OWN:
        monkeypatch.setattr(module, name, own)


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
