"""Fixtures for every test. The environment is scrubbed first: no setting of the person who runs the tests leaks in.

Only `pytest -m modal_conformance` keeps a Modal token, and only where MODAL_SERVER_URL is unset: then those tests run
against Modal itself, which costs money.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, running_redis

#: What takes long begins first, so that two processes end at about the same time (`make test` gives
#: --no-loadscope-reorder: xdist's own order begins with the files of the most tests, which are the fastest).
_ROOMS = ("chaos", "security", "integration", "conformance", "unit")
_FOREIGN = ("OVERSPILL_", "MODAL_", "AWS_", "OPENAI_", "CELERY_")
_MODAL_ACCOUNT = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_ENVIRONMENT")


def pytest_configure(config: pytest.Config) -> None:
    """Scrub the environment before anything of ours or Modal's is imported, and the dispositions of signals."""
    # A script that starts the suite in the background ignores SIGINT, and every process below it would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    against_modal = config.getoption("markexpr") == "modal_conformance" and "MODAL_SERVER_URL" not in os.environ
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and not (against_modal and name in _MODAL_ACCOUNT):
            del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole stacks first, single functions last; within a room the order stays."""
    here = Path(__file__).parent
    items.sort(key=lambda item: _ROOMS.index(item.path.relative_to(here).parts[0]))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Redis for the session; tests that need it empty take `ledger` or flush it."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
