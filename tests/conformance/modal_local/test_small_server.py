"""A server with hardly any room, and what can be seen of its containers from outside."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for


@pytest.fixture(scope="module")
def small() -> Iterator[Target]:
    """Two places for containers."""
    server = start_modal_local(max_containers=2, starts_per_s=50)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "basic_app.app")
        yield target
    finally:
        server.stop()


def test_parents_that_hold_every_place_do_not_lock_out_their_children(small: Target) -> None:
    # given more callers of another function than there are places
    calls = [small.function("child_of").spawn(number) for number in range(5)]

    # then all end all the same
    assert [call.get(timeout=60) for call in calls] == [number * number + 1 for number in range(5)]


def test_a_container_begins_when_it_is_needed_and_not_before(small: Target) -> None:
    # given a server that has an interpreter waiting
    asked_at = time.time()

    # when a container is asked for, then its process is no older than that, nor is what is billed
    answer = small.cls("Worker").with_options(gpu="L4")().task.spawn(0.5)
    assert small.server is not None
    task_id = str(answer.get(timeout=30))
    admin = AdminClient(small.server.admin_url)
    [row] = [one for one in admin.containers() if one["task_id"] == task_id]
    assert asked_at - 0.1 <= row["started_at"] <= time.time()
    pid = int(str(small.function("where").remote()["pid"]))
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    assert age_s <= time.time() - asked_at + 0.1
    assert b"modal._container_entrypoint" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_regions_are_in_the_records_and_in_the_price(small: Target) -> None:
    assert small.server is not None
    plain = small.cls("Worker").with_options(gpu="T4")().task.remote()
    narrow = small.cls("Worker").with_options(gpu="T4", region="us-west")().task.remote()
    rows = {one["id"]: one for one in AdminClient(small.server.admin_url).spend()["containers"]}
    assert (rows[plain]["region"], rows[narrow]["region"]) == ("", "us-west")
    # (they lived for a few hundredths of a second, and each sum is rounded to whole micro-dollars)
    expected = 1.75 * rows[narrow]["seconds"] / rows[plain]["seconds"] * rows[plain]["usd_micros"]
    assert rows[narrow]["usd_micros"] == pytest.approx(expected, rel=0.05, abs=2)


def test_an_image_that_sets_what_an_interpreter_reads_gets_its_own(small: Target) -> None:
    # given an app whose image turns asserts off, which no running interpreter can be told
    image = modal.Image.debian_slim().env({"PYTHONOPTIMIZE": "1"})
    app = modal.App("optimized", image=image)

    def flags() -> bool:
        import sys as here

        return bool(here.flags.optimize)

    serialized = app.function(serialized=True, name="flags")(flags)
    with app.run(client=small.client):
        assert serialized.remote() is True
