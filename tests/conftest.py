"""Fixtures for every test. The environment is scrubbed first: no setting of the person who runs the tests leaks in."""

import os
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer, running_redis

for _name in list(os.environ):
    if _name.startswith(("OVERSPILL_", "MODAL_", "AWS_", "OPENAI_", "CELERY_")):
        del os.environ[_name]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Redis for the session; tests that need it empty take `ledger` or flush it."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
