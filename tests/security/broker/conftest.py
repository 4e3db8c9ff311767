"""A whole stack whose broker is open to the test, as it is to every producer."""

from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery

from ledger import Kind
from ledger.models import JobRecord
from tests.integration.flow.conftest import Whole, whole
from tests.support.waiting import until

__all__ = ["whole"]

SMALL = {"seconds": "1", "size": "320x180"}
DROPPED = "messages_dropped_total|reason="


@pytest.fixture
def broker(whole: Whole) -> Iterator["redis.Redis"]:
    """Redis, as whoever can write to it has it."""
    with redis.Redis.from_url(whole.stack.redis.url(1)) as client:
        yield client


@pytest.fixture
def producer(whole: Whole) -> Iterator[Celery]:
    """A service that has nothing but Celery."""
    with Celery(broker=whole.stack.redis.url(1), set_as_current=False) as app:
        yield app


@pytest.fixture
def unharmed(whole: Whole) -> Iterator[None]:
    """No process ends or starts during the test."""
    before = pids_of(whole)
    yield
    assert pids_of(whole) == before


@pytest.fixture
def dropped(whole: Whole) -> Callable[[str], int]:
    """How many messages were dropped for a reason since the test began."""
    before = whole.ledger.counters()

    def since(reason: str) -> int:
        return whole.ledger.counters().get(DROPPED + reason, 0) - before.get(DROPPED + reason, 0)

    return since


def pids_of(whole: Whole) -> dict[str, int | None]:
    """The processes of the stack."""
    return {name: whole.stack.supervisor[name].pid for name in whole.stack.supervisor.names}


def accepted(whole: Whole, prompt: str, *, timeout_s: float = 20) -> JobRecord:
    """The job with this prompt, as soon as it stands in the ledger."""

    def look() -> JobRecord | None:
        records = whole.ledger.jobs.page(Kind.RENDER, limit=100).records
        return next((record for record in records if f'"{prompt}"' in record.spec), None)

    found = until(look, lambda record: record is not None, timeout_s=timeout_s)
    assert found is not None
    return found
