"""Imports the SDK's container entrypoint, then forks a child for each container that the server asks for.

Run as a program with one argument, the number of a connected stream socket. It has one thread and never an event loop,
so that a fork copies neither. Requests are frames: four bytes of length, with the two ends for stdout and stderr beside
them, then JSON. Answers are lines of JSON: `{"ready": [...]}`, `{"started": pid}`, `{"failed": why}`,
`{"ended": pid, "code": n}`.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from typing import Any

ENTRYPOINT = "modal._container_entrypoint"
# What the entrypoint imports only when it is at work.
LATER_IMPORTS = ("modal._runtime.container_io_manager", "grpclib.client", "concurrent.futures.thread")
HEADER_BYTES = 4
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
# Where the areas of /proc/self/stat begin and end, counted from the third field (proc_pid_stat(5): 48 to 51).
_ARGUMENTS, _ENVIRONMENT = (45, 46), (47, 48)
_MOUNT_FAILED = 125  # as the shell does it that mounts for a container with an interpreter of its own
_LIBC = ctypes.CDLL(None, use_errno=True)


class ForkServer:
    """Serves one socket until its peer is gone.

    Args:
        channel: the socket.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._children: dict[int, int] = {}

    def serve(self) -> dict[str, Any]:
        """Forks and reaps. Returns in children only, with what the child shall be."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._channel:
                    assignment = self._take_request()
                    if assignment is not None:
                        return assignment
                else:
                    self._reap(key.fd)

    def _take_request(self) -> dict[str, Any] | None:
        header, ends, _, _ = socket.recv_fds(self._channel, HEADER_BYTES, 2)
        if not header:
            os._exit(0)  # the server has gone; the kernel ends the children
        while len(header) < HEADER_BYTES:
            header += self._channel.recv(HEADER_BYTES - len(header))
        body = bytearray()
        while len(body) < int.from_bytes(header, "big"):
            body += self._channel.recv(int.from_bytes(header, "big") - len(body))
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._answer({"failed": str(error)})
            pid = -1
        if pid == 0:
            self._leave()
            assignment: dict[str, Any] = json.loads(body)
            _detach(parent, ends)
            return assignment
        for end in ends:
            os.close(end)
        if pid > 0:
            watched = os.pidfd_open(pid)
            self._children[watched] = pid
            self._selector.register(watched, selectors.EVENT_READ)
            self._answer({"started": pid})
        return None

    def _leave(self) -> None:
        """What is the parent's only is closed in a child."""
        self._selector.close()
        self._channel.close()
        for watched in self._children:
            os.close(watched)

    def _reap(self, watched: int) -> None:
        pid = self._children.pop(watched)
        self._selector.unregister(watched)
        os.close(watched)
        # What it left behind is ended while its process id, which is the group's, is still its own.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._answer({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)


def _detach(parent: int, ends: list[int]) -> None:
    """Makes a fresh child a process that stands for itself."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    for end, number in zip(ends, (1, 2), strict=True):
        os.dup2(end, number)
        os.close(end)


def become(assignment: dict[str, Any]) -> None:
    """Runs the entrypoint in this process, as `python -m` would in a new one."""
    for source, target, read_only in assignment["mounts"]:
        _bind(source, target, read_only=read_only)
    os.chdir(assignment["cwd"])
    os.environ.clear()
    os.environ.update(assignment["env"])
    first = os.environ["PYTHONPATH"].split(os.pathsep)
    sys.path[:] = [*first, *(path for path in sys.path if path not in first)]
    sys.orig_argv[:] = [sys.executable, "-m", ENTRYPOINT]
    _show(_ARGUMENTS, sys.orig_argv)
    _show(_ENVIRONMENT, [f"{name}={value}" for name, value in sorted(os.environ.items(), key=_telling_first)])
    runpy.run_module(ENTRYPOINT, run_name="__main__", alter_sys=True)


def _show(fields: tuple[int, int], words: list[str]) -> None:
    """Writes what `/proc/self/cmdline` or `environ` shows over that of the program; as many whole words as fit.

    Who looks at a container from outside (`ps`, the search for open files of a volume) then sees the container.
    The C library does not use the area any more: what the environment holds now was put elsewhere.
    """
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - /proc
        numbers = file.read().rpartition(b")")[2].split()
    start, end = (int(numbers[field]) for field in fields)
    area = b""
    for word in words:
        entry = os.fsencode(word) + b"\0"
        if len(area) + len(entry) <= end - start:
            area += entry
    if start:
        ctypes.memmove(start, area.ljust(end - start, b"\0"), end - start)


def _telling_first(item: tuple[str, str]) -> tuple[bool, str]:
    return (not item[0].startswith("MODAL_"), item[0])


def _bind(source: str, target: str, *, read_only: bool) -> None:
    """Binds a directory to a place in a mount table of this process's own."""
    global _own_mounts  # noqa: PLW0603 - one process, one mount table
    if not _own_mounts:
        _check(_LIBC.unshare(_CLONE_NEWNS), target)
        _check(_LIBC.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), target)
        _own_mounts = True
    place = os.fsencode(target)
    _check(_LIBC.mount(os.fsencode(source), place, None, ctypes.c_ulong(_MS_BIND), None), target)
    if read_only:
        flags = ctypes.c_ulong(_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        _check(_LIBC.mount(b"none", place, None, flags, None), target)


_own_mounts = False


def _check(answer: int, target: str) -> None:
    if answer != 0:
        sys.stderr.write(f"mount: {target}: {os.strerror(ctypes.get_errno())}\n")
        sys.stderr.flush()
        os._exit(_MOUNT_FAILED)


def main() -> None:
    """Imports, serves, and becomes a container in each child."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    for name in (ENTRYPOINT, *LATER_IMPORTS):
        importlib.import_module(name)
    # It runs as __main__ in each child, and is not to be found imported beside that.
    del sys.modules[ENTRYPOINT]
    gc.collect()
    gc.freeze()  # children share these pages; looking for garbage among them would copy them
    names = sorted({name.partition(".")[0] for name in sys.modules})
    channel.sendall(json.dumps({"ready": names}).encode() + b"\n")
    become(ForkServer(channel).serve())


if __name__ == "__main__":
    main()
