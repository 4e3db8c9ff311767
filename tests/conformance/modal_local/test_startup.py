"""A container that does not come up in time is killed, and the caller hears of it when a policy says so."""

import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import start_modal_local

from .conftest import target_for


def test_startup_timeout() -> None:
    # on a server without a waiting interpreter, so that this way of starting is shown, too
    server = start_modal_local(crash_policy="init_failure", init_failure_limit=1, no_standby=True)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "basic_app.app")
        with pytest.raises(modal.exception.RemoteError, match="exit code: 137"):
            target.cls("SlowStart")().run.spawn().get(timeout=40)
        reasons = {one["end_reason"] for one in AdminClient(server.admin_url).containers()}
        assert "startup timeout" in reasons
        assert target.function("where").remote()["mark"] == "from the image"
        assert not [line for line in server.log if "standby" in line]
    finally:
        server.stop()
