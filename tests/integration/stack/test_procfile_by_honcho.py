"""The command of docs/quickstart.md runs the Procfile's processes, and they do a job."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from overspill.client import Client
from overspill.dev.probes import Probes
from overspill.dev.process import LeashedProcess
from overspill.dev.readiness import wait_until
from overspill.dev.stack import Stack, StackOptions
from overspill.dev.state_folder import read_environment
from tests.support.stack import REPOSITORY

pytestmark = pytest.mark.timeout(240)

READY_WITHIN_S = 90
ENDED_WITHIN_S = 30


class Services(Stack):
    """What an operator has already: Redis, S3, and a Modal with our app deployed. No process of the Procfile."""

    def _start_processes(self) -> None:
        """None."""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    stack = Services(StackOptions(folder=tmp_path_factory.mktemp("services"), root=REPOSITORY, flower=False))
    stack.start()
    yield stack
    stack.stop()


def documented_command() -> str:
    text = (REPOSITORY / "docs" / "quickstart.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^honcho start .*$", text, re.MULTILINE)
    return str(command)


def test_the_documented_command_runs_every_role_and_ends_in_good_order(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the services, and a shell with their addresses
    honcho = LeashedProcess(
        ["/bin/sh", "-c", f"exec {documented_command()}"],
        environment=services.process_environment,
        cwd=REPOSITORY,
        log=tmp_path / "honcho.log",
    )
    # when the documented command is pasted
    honcho.start()
    try:
        with Probes(services.environment, host=socket.gethostname(), slots=2) as probes:
            for name, sign in probes.signs(flower=False).items():
                wait_until(sign, name=name, timeout_s=READY_WITHIN_S, process=honcho)
        # then a job that is submitted completes
        for key, value in read_environment(services.folder.path).items():
            monkeypatch.setenv(key, value)
        with Client() as client:
            job_id = client.submit(prompt="a kite over the dunes", size="320x180", seconds=1, burst="never")
            assert client.wait(job_id, timeout_s=60).artifact is not None
        # and SIGTERM ends all of it
        honcho.terminate()
        assert honcho.wait(ENDED_WITHIN_S) is not None
    finally:
        honcho.kill()
