"""A ledger of its own for each test, on a real Redis."""

from collections.abc import Iterator

import pytest

from ledger import Ledger
from tests.support.ledgers import fresh_ledger
from tests.support.redis_server import RedisServer


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url()) as fresh:
        yield fresh
