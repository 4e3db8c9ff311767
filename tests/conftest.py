"""Fixtures for every test. The environment is scrubbed first: no setting of the person who runs the tests leaks in.

Only `pytest -m modal_conformance` keeps a Modal token, and only where MODAL_SERVER_URL is unset: then those tests run
against Modal itself, which costs money.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer, running_redis

_FOREIGN = ("OVERSPILL_", "MODAL_", "AWS_", "OPENAI_", "CELERY_")
_MODAL_ACCOUNT = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_ENVIRONMENT")


def pytest_configure(config: pytest.Config) -> None:
    """Scrub the environment before anything of ours or Modal's is imported."""
    against_modal = config.getoption("markexpr") == "modal_conformance" and "MODAL_SERVER_URL" not in os.environ
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and not (against_modal and name in _MODAL_ACCOUNT):
            del os.environ[name]


#: What takes longest is begun first: two workers take whole files, and the last one should be a short one.
_LONGEST_FIRST = ("chaos", "integration/stack", "integration/training", "integration", "conformance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by how long such ones take; within a file nothing changes."""

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        found = (number for number, folder in enumerate(_LONGEST_FIRST) if f"/tests/{folder}/" in path)
        return next(found, len(_LONGEST_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Redis for the session; tests that need it empty take `ledger` or flush it."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
