"""Dicts where a test has to hold the clock, restart the server or lower a limit: the real SDK, the service alone."""

from collections.abc import Iterator
from pathlib import Path

import modal
import pytest
from modal.exception import NotFoundError, RequestSizeError

from modal_local.services.dicts import ENTRY_TTL_S, DictService
from tests.support.storage_server import StorageServer, storage_server

LIMIT_BYTES = 1024**2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path, lambda context: [DictService(context, max_update_bytes=LIMIT_BYTES)]) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


@pytest.fixture
def prices(client: modal.Client) -> modal.Dict:
    return modal.Dict.from_name("prices", create_if_missing=True, client=client)


def test_an_update_that_is_too_large_is_refused_whole(prices: modal.Dict) -> None:
    with pytest.raises(RequestSizeError):
        prices.update({"small": 1, "large": b"x" * LIMIT_BYTES})
    with pytest.raises(RequestSizeError):
        prices["large"] = b"x" * LIMIT_BYTES
    assert prices.len() == 0


def test_an_entry_goes_after_a_week_without_reads_or_writes(prices: modal.Dict, server: StorageServer) -> None:
    # given two entries, of which one is read after six days
    prices.update({"read": 1, "left": 2})
    server.context.clock.skew_s += 6 * 86400
    assert prices["read"] == 1
    # when two more days pass
    server.context.clock.skew_s += 2 * 86400
    # then only the one that was read is there, for everybody who asks in whatever way
    assert prices.len() == 1
    assert "left" not in prices
    assert prices.get("left") is None
    assert prices.put("left", 3, skip_if_exists=True) is True
    server.context.clock.skew_s += ENTRY_TTL_S + 1
    assert prices.pop("left", "gone") == "gone"


def test_an_ephemeral_dict_ends_without_heartbeats(client: modal.Client, server: StorageServer) -> None:
    with modal.Dict.ephemeral(client=client, _heartbeat_sleep=3600) as one:
        one["k"] = 1
        server.context.clock.skew_s += 2000
        with pytest.raises(NotFoundError):
            one.len()


def test_a_restart_keeps_entries_and_their_age(tmp_path: Path) -> None:
    with storage_server(tmp_path, lambda context: [DictService(context)]) as first, first.client() as client:
        prices = modal.Dict.from_name("prices", create_if_missing=True, client=client)
        prices.update({"a": 1, "b": 2, "c": 3})
        del prices["b"]
        first.context.clock.skew_s += 86400
        assert prices["a"] == 1  # read on the second day
        with modal.Dict.ephemeral(client=client, _heartbeat_sleep=3600) as scratch:
            scratch["k"] = 1
    with storage_server(tmp_path, lambda context: [DictService(context)]) as second, second.client() as client:
        prices = modal.Dict.from_name("prices", client=client)
        second.context.clock.skew_s = ENTRY_TTL_S + 3600  # a week after the first day
        assert dict(prices.items()) == {"a": 1}
