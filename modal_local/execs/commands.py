"""A command beside a container's own process: with its environment, its directory, and its mounts."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container is.

    Attributes:
        pid: of its process, in whose mount table a command sees what the container sees.
        mounted: whether it has a mount table of its own.
    """

    pid: int
    environment: Mapping[str, str]
    directory: Path
    mounted: bool


class Output:
    """What a command has written to one of its two streams."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._changed = asyncio.Condition()

    async def fill(self, stream: asyncio.StreamReader) -> None:
        """Takes all that comes."""
        while piece := await stream.read(_PIECE_BYTES):
            self._data += piece
            async with self._changed:
                self._changed.notify_all()
        self._ended = True
        async with self._changed:
            self._changed.notify_all()

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from an offset on, as they come, up to the end."""
        while True:
            if offset < len(self._data):
                piece = bytes(self._data[offset : offset + _PIECE_BYTES])
                offset += len(piece)
                yield piece
            elif self._ended:
                return
            else:
                async with self._changed:
                    if offset >= len(self._data) and not self._ended:
                        await self._changed.wait()


class Command:
    """One command.

    Args:
        process: as it was started.
        timeout_s: it is killed after so long; 0 for never.
    """

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        self._process = process
        self.stdout, self.stderr = Output(), Output()
        self.written = 0
        self.closed = False
        assert process.stdout is not None  # noqa: S101 - asked for when it was started
        assert process.stderr is not None  # noqa: S101 - likewise
        self._tasks = [
            asyncio.create_task(self.stdout.fill(process.stdout)),
            asyncio.create_task(self.stderr.fill(process.stderr)),
        ]
        if timeout_s > 0:
            asyncio.get_running_loop().call_later(timeout_s, self.kill)

    @classmethod
    async def start(cls, place: Place, words: Sequence[str], prefix: Sequence[str], timeout_s: float) -> "Command":
        """Starts one in a container's place.

        Raises:
            OSError: there is no such program.
        """
        enter = ["nsenter", f"--target={place.pid}", "--mount", f"--wd={place.directory}"] if place.mounted else []
        process = await asyncio.create_subprocess_exec(
            *prefix,
            *enter,
            *words,
            env=dict(place.environment),
            cwd=place.directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process, timeout_s)

    @property
    def code(self) -> int | None:
        """How it has ended, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return await self._process.wait()

    async def write(self, offset: int, data: bytes, *, eof: bool) -> None:
        """Bytes for its stdin; those that it has been given before are left out."""
        stdin = self._process.stdin
        fresh = data[max(0, self.written - offset) :]
        if stdin is None or self.closed:
            return
        with contextlib.suppress(ConnectionError):
            stdin.write(fresh)
            await stdin.drain()
        self.written += len(fresh)
        if eof:
            self.closed = True
            stdin.close()

    def kill(self) -> None:
        """Ends it, and what it has started. May be called twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
