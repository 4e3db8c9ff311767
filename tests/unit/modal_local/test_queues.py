"""Queues where a test has to hold the clock or restart the server: the real SDK, the service alone."""

from collections.abc import Iterator
from pathlib import Path

import modal
import pytest
from modal.exception import NotFoundError

from modal_local.services.queues import QueueService
from tests.support.storage_server import StorageServer, storage_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path, lambda context: [QueueService(context)]) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


@pytest.fixture
def jobs(client: modal.Client) -> modal.Queue:
    return modal.Queue.from_name("jobs", create_if_missing=True, client=client)


def test_a_partition_goes_when_its_time_is_over(jobs: modal.Queue, server: StorageServer) -> None:
    # given one partition with a short life and one with the usual day
    jobs.put("short", partition="short", partition_ttl=10)
    jobs.put("day")
    # when ten seconds pass
    server.context.clock.skew_s += 10
    # then only the first is gone
    assert jobs.get(block=False, partition="short") is None
    assert jobs.get(block=False) == "day"
    # and a later put gives a partition its time anew
    jobs.put("a", partition="p", partition_ttl=10)
    server.context.clock.skew_s += 8
    jobs.put("b", partition="p", partition_ttl=10)
    server.context.clock.skew_s += 8
    assert jobs.get_many(5, partition="p") == ["a", "b"]


def test_more_objects_than_one_page(client: modal.Client) -> None:
    for number in range(103):
        modal.Queue.objects.create(f"q-{number}", client=client)
    names = [one.name for one in modal.Queue.objects.list(client=client)]
    assert names == [f"q-{number}" for number in reversed(range(103))]


def test_an_ephemeral_queue_ends_without_heartbeats(client: modal.Client, server: StorageServer) -> None:
    with modal.Queue.ephemeral(client=client, _heartbeat_sleep=3600) as one:
        # given an ephemeral queue in use
        one.put("x")
        server.context.clock.skew_s += 900
        assert one.len() == 1
        # when no heartbeat comes for longer than three are apart
        server.context.clock.skew_s += 200
        # then it is gone
        with pytest.raises(NotFoundError):
            one.len()


def test_heartbeats_keep_an_ephemeral_queue(client: modal.Client, server: StorageServer) -> None:
    with modal.Queue.ephemeral(client=client, _heartbeat_sleep=0.05) as one:
        for _ in range(4):
            server.context.clock.skew_s += 900
            beats = server.calls("QueueHeartbeat")
            server.wait_for_calls("QueueHeartbeat", beats + 2)
        assert one.len() == 0


def test_a_restart_keeps_items_order_and_the_time_that_is_left(tmp_path: Path) -> None:
    # given items in two partitions, of which some are taken
    with storage_server(tmp_path, lambda context: [QueueService(context)]) as first, first.client() as client:
        jobs = modal.Queue.from_name("jobs", create_if_missing=True, client=client)
        jobs.put_many(["a", "b", "c"])
        jobs.put("short", partition="p", partition_ttl=60)
        assert jobs.get() == "a"
        queue_id = jobs.object_id
    # when another server starts on the same state
    with storage_server(tmp_path, lambda context: [QueueService(context)]) as second, second.client() as client:
        jobs = modal.Queue.from_name("jobs", client=client).hydrate()
        # then it is the same queue with what was left, and lives go on from where they were
        assert jobs.object_id == queue_id
        assert jobs.get_many(5) == ["b", "c"]
        second.context.clock.skew_s += 61
        assert jobs.len(partition="p") == 0
