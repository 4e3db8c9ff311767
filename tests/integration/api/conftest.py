"""One API for a module's tests, each with an empty ledger."""

from collections.abc import Iterator

import pytest

from tests.support.api_server import RunningApi, running_api
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def module_api(redis_server: RedisServer) -> Iterator[RunningApi]:
    with running_api(redis_server) as api:
        yield api


@pytest.fixture
def api(module_api: RunningApi) -> RunningApi:
    module_api.forget()
    while not module_api.nudger.sent.empty():
        module_api.nudger.sent.get_nowait()
    module_api.signer.broken = False
    return module_api
