"""What containers print, by app, in memory: the newest lines of each app."""

import asyncio
from collections import deque
from dataclasses import dataclass

from modal_proto import api_pb2

from modal_local.records import ContainerRecord

_LINES_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        number: raised by one for each line of the app.
        at: unix time in seconds.
        descriptor: a value of api_pb2.FileDescriptor.
        calls: the calls that its container had in hand: the one that wrote it, if it was alone.
    """

    number: int
    app_id: str
    function_id: str
    task_id: str
    at: float
    descriptor: int
    text: str
    calls: tuple[str, ...] = ()


class LogBook:
    """Lines by app. Readers wait on `changed`."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[LogLine]] = {}
        self._next: dict[str, int] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def add(self, container: ContainerRecord, at: float, descriptor: int, text: str) -> None:
        """Keeps a line that a container has written, or that tells about it."""
        app_id = container.app_id
        number = self._next.get(app_id, 0) + 1
        self._next[app_id] = number
        lines = self._lines.setdefault(app_id, deque(maxlen=_LINES_KEPT))
        calls = container.heard_calls
        lines.append(LogLine(number, app_id, container.function_id, container.task_id, at, descriptor, text, calls))
        self.notify()

    def notify(self) -> None:
        """Wakes readers: there is a line, or an app has ended."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def after(self, app_id: str, number: int) -> list[LogLine]:
        """The lines after the one with that number."""
        return [line for line in self._lines.get(app_id, ()) if line.number > number]

    def last(self, app_id: str, task_id: str, count: int) -> list[str]:
        """The last lines of a container."""
        found: list[str] = []
        for line in reversed(self._lines.get(app_id, ())):
            if line.task_id == task_id:
                found.append(line.text.rstrip())
            if len(found) == count:
                break
        return found[::-1]

    async def changed(self, timeout_s: float) -> None:
        """Returns when something has changed, or after the timeout."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


STDOUT = api_pb2.FILE_DESCRIPTOR_STDOUT
STDERR = api_pb2.FILE_DESCRIPTOR_STDERR
