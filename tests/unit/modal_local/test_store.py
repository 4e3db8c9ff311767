"""The store: what was flushed is on disk, readers see what was put, and deletes stay deleted."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from modal_local.store import Store


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state.sqlite" if request.param == "disk" else None)
    yield made
    made.close()


def test_readers_see_what_was_put_before_it_is_committed(store: Store) -> None:
    store.put("t", "a", b"1")
    store.put("t", "b", b"2")
    store.put("u", "a", b"other")
    store.delete("t", "b")
    assert store.get("t", "a") == b"1"
    assert store.get("t", "b") is None
    assert list(store.items("t")) == [("a", b"1")]
    asyncio.run(store.flush())
    assert list(store.items("t")) == [("a", b"1")]


def test_what_was_flushed_is_there_for_another(tmp_path: Path) -> None:
    # given a store that flushed many writes at once
    store = Store(tmp_path / "state.sqlite")

    async def write() -> None:
        async def one(number: int) -> None:
            store.put("t", f"{number:04}", str(number).encode())
            await store.flush()

        await asyncio.gather(*(one(number) for number in range(500)))

    asyncio.run(write())

    # when another process would look, without this one having been closed
    found = sqlite3.connect(tmp_path / "state.sqlite")
    try:
        assert found.execute("SELECT COUNT(*) FROM entries WHERE tab = 't'").fetchone() == (500,)
    finally:
        found.close()
    store.close()
    store.close()
    again = Store(tmp_path / "state.sqlite")
    assert len(list(again.items("t"))) == 500
    again.close()
