"""What survives a restart: tables of bytes by key, in SQLite, written in groups.

`put` and `delete` take effect at once for readers in this process; `flush` returns when everything written before it
is committed. Many RPCs that wait at the same time share one commit, which is what makes 800 spawns/s durable.
WAL with `synchronous=NORMAL`: a commit survives the death of this process, not the loss of power.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# A writer that is alone does not wait for others; a burst's writers do, for so long.
_COMMIT_PAUSE_S = 0.004
_FEW_WRITES = 4


class Store:
    """Key/value tables. All methods but the writer's own run on one thread (the event loop's).

    Args:
        path: the database file; None keeps everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory: dict[str, dict[str, bytes]] = {}
        self._pending: dict[tuple[str, str], bytes | None] = {}
        self._committing: dict[tuple[str, str], bytes | None] = {}
        self._waiters: list[Callable[[BaseException | None], object]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            self._writer = threading.Thread(target=self._write_loop, name="modal-local-store", daemon=True)
            self._writer.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(str(self._path), check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS entries"
            " (tab TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tab, key)) WITHOUT ROWID"
        )
        return connection

    def put(self, table: str, key: str, value: bytes) -> None:
        """Sets a value."""
        if self._reader is None:
            self._memory.setdefault(table, {})[key] = value
            return
        with self._lock:
            self._pending[(table, key)] = value

    def delete(self, table: str, key: str) -> None:
        """Removes a key; one that is not there is no error."""
        if self._reader is None:
            self._memory.get(table, {}).pop(key, None)
            return
        with self._lock:
            self._pending[(table, key)] = None

    def get(self, table: str, key: str) -> bytes | None:
        """The value, or None."""
        if self._reader is None:
            return self._memory.get(table, {}).get(key)
        with self._lock:
            for overlay in (self._pending, self._committing):
                if (table, key) in overlay:
                    return overlay[(table, key)]
        row = self._reader.execute("SELECT value FROM entries WHERE tab = ? AND key = ?", (table, key)).fetchone()
        return None if row is None else bytes(row[0])

    def items(self, table: str) -> Iterator[tuple[str, bytes]]:
        """All keys and values of a table, by key."""
        if self._reader is None:
            yield from sorted(self._memory.get(table, {}).items())
            return
        with self._lock:
            overlay = {k[1]: v for k, v in {**self._committing, **self._pending}.items() if k[0] == table}
        rows = self._reader.execute("SELECT key, value FROM entries WHERE tab = ?", (table,)).fetchall()
        merged: dict[str, bytes | None] = {str(key): bytes(value) for key, value in rows}
        merged.update(overlay)
        for key in sorted(merged):
            value = merged[key]
            if value is not None:
                yield key, value

    async def flush(self) -> None:
        """Returns when all that was written before this call is committed.

        Raises:
            sqlite3.Error: the commit failed (disk full, for one); nothing may be answered then.
        """
        if self._reader is None:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        with self._lock:
            if not self._pending and not self._committing:
                return
            self._waiters.append(lambda error: loop.call_soon_threadsafe(settle, error))
        self._wake.set()
        await done

    def close(self) -> None:
        """Commits what is left and closes the file. May be called twice."""
        if self._writer is not None:
            self._closing = True
            self._wake.set()
            self._writer.join()
            self._writer = None
        if self._reader is not None:
            self._reader.close()

    def _write_loop(self) -> None:
        connection = self._connect()
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                written = self._commit(connection)
                if self._closing:
                    self._commit(connection)
                    return
                if written > _FEW_WRITES:
                    time.sleep(_COMMIT_PAUSE_S)  # lets a burst of RPCs share the next commit
        finally:
            connection.close()

    def _commit(self, connection: sqlite3.Connection) -> int:
        with self._lock:
            self._committing, self._pending = self._pending, {}
            batch = self._committing
            waiters, self._waiters = self._waiters, []
        error: BaseException | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR REPLACE INTO entries (tab, key, value) VALUES (?, ?, ?)",
                ((table, key, value) for (table, key), value in batch.items() if value is not None),
            )
            connection.executemany(
                "DELETE FROM entries WHERE tab = ? AND key = ?",
                (pair for pair, value in batch.items() if value is None),
            )
            connection.execute("COMMIT")
        except sqlite3.Error as caught:
            error = caught
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        with self._lock:
            if error is not None:
                self._pending = {**batch, **self._pending}
            self._committing = {}
        for waiter in waiters:
            with contextlib.suppress(RuntimeError):  # the loop that waited is closed
                waiter(error)
        return len(batch)
