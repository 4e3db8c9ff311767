"""Queues through the public SDK and CLI."""

import queue
import threading
import time
from collections.abc import Iterator

import modal
import pytest
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError, RequestSizeError

from .conftest import Target

pytestmark = pytest.mark.modal_conformance

# From the docstring of `modal/queue.py`.
MAX_PARTITION_ITEMS = 5_000
MAX_ITEM_BYTES = 1024**2


@pytest.fixture
def client(bare_target: Target) -> modal.Client:
    return bare_target.client


@pytest.fixture
def jobs(client: modal.Client, unique: str) -> Iterator[modal.Queue]:
    yield modal.Queue.from_name(f"jobs-{unique}", create_if_missing=True, client=client)
    modal.Queue.objects.delete(f"jobs-{unique}", client=client, allow_missing=True)


def test_first_in_is_first_out(jobs: modal.Queue) -> None:
    # given three values of different types
    jobs.put_many([1, "two", {"three": 3}])
    # when they are taken one by one, then they come in order, and then nothing comes
    assert [jobs.get(), jobs.get(), jobs.get(), jobs.get(block=False)] == [1, "two", {"three": 3}, None]


def test_get_many_takes_what_is_there_and_no_more_than_asked(jobs: modal.Queue) -> None:
    jobs.put_many(list(range(5)))
    assert jobs.get_many(3) == [0, 1, 2]
    assert jobs.get_many(3) == [3, 4]
    assert jobs.get_many(3, block=False) == []


def test_partitions_are_apart(jobs: modal.Queue) -> None:
    # given the same queue with an item in each of three partitions
    jobs.put("default")
    jobs.put("a1", partition="a")
    jobs.put("b1", partition="b")
    # when one is read and one is cleared
    assert jobs.get(partition="b") == "b1"
    jobs.clear(partition="a")
    # then the others are as they were
    assert (jobs.len(), jobs.len(partition="a"), jobs.len(partition="b"), jobs.len(total=True)) == (1, 0, 0, 1)


def test_clear_all_clears_every_partition(jobs: modal.Queue) -> None:
    jobs.put(1)
    jobs.put(2, partition="a")
    jobs.clear(all=True)
    assert jobs.len(total=True) == 0


def test_a_get_that_waits_is_answered_by_a_later_put(jobs: modal.Queue) -> None:
    # given a reader that waits on an empty queue
    jobs.hydrate()
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(jobs.get(timeout=20)))
    started = time.monotonic()
    reader.start()
    # when an item is put
    jobs.put("late")
    reader.join(timeout=20)
    # then the reader has it, long before its time is over
    assert got == ["late"]
    assert time.monotonic() - started < 10


def test_each_item_wakes_one_of_those_who_wait(jobs: modal.Queue) -> None:
    jobs.hydrate()
    got: list[object] = []
    readers = [threading.Thread(target=lambda: got.append(jobs.get(timeout=20))) for _ in range(5)]
    for reader in readers:
        reader.start()
    jobs.put_many(list(range(5)))
    for reader in readers:
        reader.join(timeout=20)
    assert sorted(got) == [0, 1, 2, 3, 4]  # type: ignore[type-var]  # they are ints, which the list does not say


def test_a_get_that_waits_in_vain_raises_empty(jobs: modal.Queue) -> None:
    started = time.monotonic()
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.3)
    assert time.monotonic() - started >= 0.3


def test_a_full_partition_raises_full_and_takes_nothing(jobs: modal.Queue) -> None:
    # given a partition with room for one more
    jobs.put_many(list(range(MAX_PARTITION_ITEMS - 1)))
    # when two are put, then neither is
    with pytest.raises(queue.Full):
        jobs.put_many(["x", "y"], block=False)
    assert jobs.len() == MAX_PARTITION_ITEMS - 1
    # and one more fits
    jobs.put("x", block=False)
    with pytest.raises(queue.Full):
        jobs.put("y", timeout=0.2)
    # and another partition has its own room
    jobs.put("y", block=False, partition="other")


def test_a_put_that_waits_for_room_goes_on_when_there_is_some(jobs: modal.Queue) -> None:
    jobs.put_many(list(range(MAX_PARTITION_ITEMS)))
    writer = threading.Thread(target=lambda: jobs.put("last", timeout=20))
    writer.start()
    assert jobs.get() == 0
    writer.join(timeout=20)
    assert jobs.len() == MAX_PARTITION_ITEMS


def test_an_item_that_is_too_large_is_refused(jobs: modal.Queue) -> None:
    with pytest.raises(RequestSizeError):
        jobs.put(b"x" * (MAX_ITEM_BYTES + 1))
    assert jobs.len() == 0


def test_a_partition_key_that_is_too_long_is_refused(jobs: modal.Queue) -> None:
    with pytest.raises(InvalidError):
        jobs.put(1, partition="k" * 65)


def test_iterate_looks_and_leaves(jobs: modal.Queue) -> None:
    jobs.put_many(list(range(250)))
    assert list(jobs.iterate()) == list(range(250))
    assert jobs.len() == 250


def test_iterate_sees_what_comes_while_it_waits(jobs: modal.Queue) -> None:
    jobs.put("first")
    seen = []
    for value in jobs.iterate(item_poll_timeout=1.0):
        seen.append(value)
        if value == "first":
            jobs.put("second")
    assert seen == ["first", "second"]


def test_objects_are_listed_newest_first_and_deleted(client: modal.Client, unique: str) -> None:
    def listed() -> list[str]:
        names = [one.name or "" for one in modal.Queue.objects.list(client=client)]
        return [name.removesuffix(f"-{unique}") for name in names if name.endswith(unique)]

    # given three queues
    for name in ("one", "two", "three"):
        modal.Queue.objects.create(f"{name}-{unique}", client=client)
    # then the newest is first, and a name is taken
    assert listed() == ["three", "two", "one"]
    assert [one.name for one in modal.Queue.objects.list(client=client, max_objects=1)] == [f"three-{unique}"]
    with pytest.raises(AlreadyExistsError):
        modal.Queue.objects.create(f"one-{unique}", client=client)
    modal.Queue.objects.create(f"one-{unique}", client=client, allow_existing=True)
    # and when they are deleted, they are gone
    modal.Queue.objects.delete(f"two-{unique}", client=client)
    assert listed() == ["three", "one"]
    with pytest.raises(NotFoundError):
        modal.Queue.objects.delete(f"two-{unique}", client=client)
    modal.Queue.objects.delete(f"two-{unique}", client=client, allow_missing=True)
    for name in ("one", "three"):
        modal.Queue.objects.delete(f"{name}-{unique}", client=client)


def test_environments_are_apart(client: modal.Client, unique: str) -> None:
    environment = f"env-{unique}"
    modal.Environment.objects.create(environment, client=client)
    modal.Queue.objects.create(f"jobs-{unique}", client=client, environment_name=environment)
    with pytest.raises(NotFoundError, match="jobs"):
        modal.Queue.from_name(f"jobs-{unique}", client=client).hydrate()
    found = modal.Queue.from_name(f"jobs-{unique}", client=client, environment_name=environment).hydrate()
    assert found.name == f"jobs-{unique}"
    modal.Queue.objects.delete(f"jobs-{unique}", client=client, environment_name=environment)
    modal.Environment.objects.delete(environment, client=client)


def test_unknown_names_and_ids_are_not_found(client: modal.Client, jobs: modal.Queue, unique: str) -> None:
    with pytest.raises(NotFoundError):
        modal.Queue.from_name(f"nowhere-{unique}", client=client).len()
    with pytest.raises(NotFoundError):
        modal.Queue.from_id("qu-nowhere", client=client).hydrate()
    jobs.hydrate()
    modal.Queue.objects.delete(f"jobs-{unique}", client=client)
    with pytest.raises(NotFoundError):
        jobs.put(1)


def test_who_waits_on_a_deleted_queue_is_told(client: modal.Client, jobs: modal.Queue, unique: str) -> None:
    jobs.hydrate()
    raised: list[BaseException] = []

    def read() -> None:
        try:
            jobs.get(timeout=20)
        except NotFoundError as error:
            raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    modal.Queue.objects.delete(f"jobs-{unique}", client=client)
    reader.join(timeout=10)
    assert len(raised) == 1


def test_an_ephemeral_queue_is_anonymous(client: modal.Client) -> None:
    with modal.Queue.ephemeral(client=client) as one:
        one.put("x")
        assert one.get() == "x"
        assert one.object_id not in [listed.object_id for listed in modal.Queue.objects.list(client=client)]


def test_the_cli_lists_creates_peeks_and_deletes(bare_target: Target, jobs: modal.Queue, unique: str) -> None:
    jobs.put_many(["hello", "world"])
    bare_target.cli("queue", "create", f"made-{unique}")
    listing = bare_target.cli("queue", "list", "--json").stdout
    assert f'"made-{unique}"' in listing
    assert f'"jobs-{unique}"' in listing
    assert bare_target.cli("queue", "peek", f"jobs-{unique}").stdout.split() == ["hello"]
    assert bare_target.cli("queue", "len", f"jobs-{unique}").stdout.split() == ["2"]
    bare_target.cli("queue", "delete", f"made-{unique}", "--yes")
    bare_target.cli("queue", "delete", f"jobs-{unique}", "--yes")
    missing = bare_target.cli("queue", "len", f"jobs-{unique}", check=False)
    assert missing.returncode != 0
    assert unique in missing.stderr + missing.stdout
