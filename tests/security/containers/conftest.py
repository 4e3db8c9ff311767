"""A Modal with a hostile app in the renderer's place, and a control plane that follows its calls."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import modal
import pytest

from ledger import Ledger
from ledger.outcomes import DueCall
from tests.integration.workers.conftest import s3
from tests.support.ledgers import MODAL, claim_spawns, fresh_ledger, place, submit
from tests.support.modal_command import run_modal
from tests.support.modal_local import start_modal_local
from tests.support.overflow import Plane, client_of
from tests.support.redis_server import RedisServer

__all__ = ["s3"]

HERE = Path(__file__).parent
HOSTILE_APP = "overspill-hostile"


@dataclass(frozen=True)
class Cloud:
    """A server, and a client of it."""

    environment: dict[str, str]
    client: modal.Client


@pytest.fixture(scope="module")
def hostile() -> Iterator[Cloud]:
    """Real containers that run the hostile app."""
    server = start_modal_local(max_containers=2)
    try:
        done = run_modal("deploy", "hostile_app.py", cwd=HERE, env=server.environ())
        assert done.returncode == 0, done.stderr
        yield Cloud(server.env, client_of(server.env))
    finally:
        server.stop()


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    """An empty ledger."""
    with fresh_ledger(redis_server.url()) as fresh:
        yield fresh


@pytest.fixture
def plane(ledger: Ledger, hostile: Cloud) -> Plane:
    """The control plane, which takes the hostile app for the renderer."""
    return Plane.on(ledger, hostile.environment, hostile.client, app=HOSTILE_APP, spawn_timeout_s=60)


def running_call(ledger: Ledger, **job: object) -> DueCall:
    """A call that is at work, as a follower has it."""
    job_id = submit(ledger, **{"prompt": "a lighthouse", **job})
    place(ledger, MODAL)
    (claimed,) = claim_spawns(ledger, worker="t", limit=1, lease_s=60)
    assert ledger.modal_calls.record_call(job_id, claimed.attempt, call_id="fc-1", first_check_s=0, deadline_s=600)
    (due,) = ledger.modal_calls.claim_due(limit=1, lease_s=60).calls
    return due
