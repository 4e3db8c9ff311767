"""The server's side of the fork server: it is started, asked for children, and told of their ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from modal_local.errors import ModalLocalError

_PROGRAM: Final = Path(__file__).parent / "interpreter.py"
# What an interpreter, the C library or the SDK reads when it starts, and so cannot be given to a child of another.
_READ_AT_START: Final = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "SSL_", "OPENSSL_", "PROTOCOL_BUFFERS_"),
    *("MODAL_LOG", "MODAL_HEARTBEAT", "MODAL_TELEMETRY", "MODAL_PROFILE", "MODAL_CONFIG"),
)
# Children get this one by their own import path.
_GIVEN_TO_CHILDREN: Final = frozenset({"PYTHONPATH"})
# Room for the environment of a child, where /proc shows it: nothing but its length matters.
_ROOM: Final = "STANDBY_ROOM"
_ROOM_BYTES: Final = 32 * 1024
_STDERR: Final = 2  # where an import prints; stdout carries the server's address
_READY_TIMEOUT_S: Final = 30.0
_DEATHS_FORGIVEN: Final = 3
_KILLED: Final = -signal.SIGKILL
log = structlog.get_logger("modal_local")


class StandbyError(ModalLocalError):
    """The fork server could not be started, or has ended, or could not fork."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a child shall be.

    Attributes:
        env: its whole environment.
        cwd: its working directory.
        mounts: source, target and whether it is read-only, of each directory to be bound in its own mount table.
        stdout: the descriptor that it writes to; the caller closes its own copy.
        stderr: likewise.
    """

    env: Mapping[str, str]
    cwd: Path
    mounts: Sequence[tuple[str, str, bool]]
    stdout: int
    stderr: int


class ForkedProcess:
    """A child of the fork server, with what `asyncio.subprocess.Process` offers and a launcher needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over = asyncio.Event()

    async def wait(self) -> int:
        """Its exit code, negative for a signal, as soon as it is gone."""
        await self._over.wait()
        return _KILLED if self.returncode is None else self.returncode

    def send_signal(self, number: int) -> None:
        """A signal to it; nothing if it is gone."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, code: int) -> None:
        """It is gone."""
        self.returncode = code
        self._over.set()


def read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that only an interpreter of its own can be given."""
    return {
        name: value for name, value in env.items() if name.startswith(_READ_AT_START) and name not in _GIVEN_TO_CHILDREN
    }


def fits(env: Mapping[str, str], modules: Iterable[str], mine: Mapping[str, str], imported: frozenset[str]) -> bool:
    """Whether a container can be a child. Pure.

    Args:
        env: the container's environment.
        modules: top-level modules of its source. One that stands before an imported one of that name would be missed.
        mine: the fork server's environment.
        imported: top-level modules that the fork server has imported.
    """
    return read_at_start(env) == read_at_start(mine) and imported.isdisjoint(modules)


class Standby:
    """One fork server, started anew when it has died.

    Args:
        env: of the fork server; children with another `read_at_start` do not fit.
        prefix: words before the command, by which it dies with this process.
    """

    def __init__(self, env: Mapping[str, str], prefix: Sequence[str]) -> None:
        self._env = {**env, _ROOM: "." * _ROOM_BYTES}
        self._prefix = tuple(prefix)
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._imported: asyncio.Future[frozenset[str]] | None = None
        self._answers: list[asyncio.Future[ForkedProcess]] = []
        self._children: dict[int, ForkedProcess] = {}
        self._asking = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._deaths = 0
        self._stopped = False

    async def start(self) -> None:
        """Starts the program, which then imports on its own.

        Raises:
            OSError: it could not be started.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix, sys.executable, str(_PROGRAM), str(theirs.fileno()),
                env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=_STDERR,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = ours
        self._imported = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._listen(ours, self._imported, self._process))

    async def imported(self) -> frozenset[str]:
        """Waits until it is ready, which takes no longer than an interpreter of one's own would.

        Raises:
            StandbyError: it has not become ready.
        """
        async with self._starting:
            if self._channel is None and not self._stopped and self._deaths < _DEATHS_FORGIVEN:
                await self.start()
        if self._imported is None or self._stopped:
            raise StandbyError("The fork server does not run.")
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                return await asyncio.shield(self._imported)
        except TimeoutError:
            raise StandbyError(f"The fork server was not ready within {_READY_TIMEOUT_S:g} s.") from None

    async def takes(self, env: Mapping[str, str], modules: Iterable[str]) -> bool:
        """Whether a container can be a child; False where the fork server cannot be had."""
        if read_at_start(env) != read_at_start(self._env):
            return False
        try:
            return fits(env, modules, self._env, await self.imported())
        except (StandbyError, OSError) as error:
            log.warning("standby.not_ready", error=str(error))
            return False

    async def fork(self, assignment: Assignment) -> ForkedProcess:
        """A new child, which is the container from now on.

        Raises:
            StandbyError: it has ended, or could not fork.
        """
        body = json.dumps(
            {"env": dict(assignment.env), "cwd": str(assignment.cwd), "mounts": list(assignment.mounts)}
        ).encode()
        answer: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        async with self._asking:
            channel = self._channel
            if channel is None:
                raise StandbyError("The fork server has ended.")
            self._answers.append(answer)
            try:
                socket.send_fds(channel, [len(body).to_bytes(4, "big")], [assignment.stdout, assignment.stderr])
                await asyncio.get_running_loop().sock_sendall(channel, body)
            except OSError as error:
                raise StandbyError(f"The fork server has ended: {error}.") from error
        return await answer

    async def _listen(
        self, channel: socket.socket, imported: "asyncio.Future[frozenset[str]]", process: asyncio.subprocess.Process
    ) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(channel, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._heard(json.loads(line), imported)
        self._channel = None
        self._deaths += 1
        channel.close()
        code = await process.wait()
        self._lost(imported, code)
        if not self._stopped:
            log.warning("standby.ended", exit_code=code)

    def _heard(self, message: dict[str, Any], imported: "asyncio.Future[frozenset[str]]") -> None:
        match message:
            case {"ready": names}:
                imported.set_result(frozenset(names))
                log.info("standby.ready")
            case {"started": int(pid)}:
                self._children[pid] = child = ForkedProcess(pid)
                self._answer(child)
            case {"failed": str(why)}:
                self._answer(StandbyError(f"The fork server could not fork: {why}."))
            case {"ended": int(pid), "code": int(code)}:
                self._children.pop(pid).ended(code)
            case _:
                raise ValueError(f"The fork server sent {message!r}.")

    def _answer(self, outcome: ForkedProcess | StandbyError) -> None:
        answer = self._answers.pop(0)
        match outcome:
            case ForkedProcess() if answer.done():  # the caller was cancelled; this child is not needed
                outcome.send_signal(signal.SIGKILL)
            case ForkedProcess():
                answer.set_result(outcome)
            case StandbyError() if not answer.done():
                answer.set_exception(outcome)

    def _lost(self, imported: "asyncio.Future[frozenset[str]]", code: int) -> None:
        """The kernel kills the children of a fork server that has died."""
        gone = StandbyError(f"The fork server has ended with {code}.")
        if not imported.done():
            imported.set_exception(gone)
            imported.exception()  # mark it as retrieved: there may be no waiter
        answers, self._answers = self._answers, []
        for answer in answers:
            if not answer.done():
                answer.set_exception(gone)
        children, self._children = self._children, {}
        for child in children.values():
            child.ended(_KILLED)

    async def stop(self) -> None:
        """Ends it, and so all its children. May be called twice."""
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._reader is not None:
            await self._reader
            self._reader = None
