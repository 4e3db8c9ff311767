"""A ledger of its own for each test, and an exporter that reads it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ledger import Ledger
from monitoring.exporter.server import Exporter
from tests.support.ledgers import fresh_ledger
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url()) as fresh:
        yield fresh


@pytest.fixture
def exporter_of(redis_server: RedisServer) -> Iterator[Callable[..., Exporter]]:
    """Starts exporters of a ledger, and stops them."""
    with ExitStack() as running:

        def start(ledger: Ledger, **settings: object) -> Exporter:
            exporter = Exporter(
                settings_of(
                    {
                        "ledger_url": ledger.settings.url,
                        "ledger_prefix": ledger.prefix,
                        "broker_url": redis_server.url(1),
                        "exporter_port": 0,
                        **settings,
                    }
                )
            )
            running.callback(exporter.stop)
            exporter.start()
            return exporter

        yield start
