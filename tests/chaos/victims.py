"""Finds what a planned fault strikes, and waits for it if it is away just now."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psutil

from tests.chaos.stack import ChaosStack

T = TypeVar("T")

#: A victim that is away is waited for so long, seconds: longer than the supervisor's longest pause and a start.
WAIT_S = 60.0
_LOOK_AGAIN_S = 0.02


class NoVictimError(Exception):
    """Nothing was there to be struck in all that time."""


def wait_for(look: Callable[[], T | None], *, wait_s: float = WAIT_S) -> T:
    """What `look` finds, as soon as it finds something.

    Raises:
        NoVictimError: it never did.
    """
    until = time.monotonic() + wait_s
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > until:
            raise NoVictimError(f"nothing to strike within {wait_s:g} s")
        time.sleep(_LOOK_AGAIN_S)


def chosen(names: Sequence[str], victim: float) -> str:
    """The one that a planned share points to."""
    return names[int(victim * len(names))]


class Victims:
    """The processes of a stack, to be killed and stopped."""

    def __init__(self, stack: ChaosStack) -> None:
        self._stack = stack

    def name(self, role: str, victim: float) -> str:
        """The name of the process of a role that a planned share points to: `gpu.2`."""
        return chosen(self.names(role), victim)

    def names(self, role: str) -> list[str]:
        """The names of all processes of a role."""
        assert self._stack.supervisor is not None
        return [name for name in self._stack.supervisor.names if name.startswith(f"{role}.")]

    def process(self, name: str) -> psutil.Process:
        """The process of this name that runs now; it is waited for if it is being started again.

        Raises:
            NoVictimError: it stays away.
        """
        return wait_for(lambda: self._running(name))

    def kill(self, name: str) -> psutil.Process:
        """SIGKILL the process and all its children at once, as the end of a host would."""
        process = self.process(name)
        for each in self._tree(process):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        return process

    def kill_child(self, name: str) -> psutil.Process:
        """SIGKILL a pool process alone, as the kernel does when memory runs out."""
        found = wait_for(lambda: self.child(name))
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)
        return found

    def child(self, name: str) -> psutil.Process | None:
        """The pool process of a worker that runs now; None: there is none just now."""
        process = self._running(name)
        children = [] if process is None else self._tree(process)[1:]
        return children[0] if children else None

    def stop_for(self, name: str, seconds: float) -> None:
        """SIGSTOP the process and its children, SIGCONT them after so long. Those that died meanwhile are let be."""
        tree = self._tree(self.process(name))
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            time.sleep(seconds)
        finally:
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def _running(self, name: str) -> psutil.Process | None:
        assert self._stack.supervisor is not None
        supervised = self._stack.supervisor[name]
        if supervised.pid is None or not supervised.process.is_running:
            return None
        try:
            process = psutil.Process(supervised.pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    @staticmethod
    def _tree(process: psutil.Process) -> list[psutil.Process]:
        try:
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [process]
