"""Runs the Procfile's processes, and starts them again when they die.

Celery workers must run under something like this: some Redis outages end them, however they are configured.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from overspill.dev.errors import NotReady
from overspill.dev.process import LeashedProcess
from overspill.dev.procfile import Entry

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
#: After a run of this length the next restart begins with the first pause again, seconds.
WELL_AFTER_S = 30.0
#: Longest wait for good order. A render that takes longer is lost to its lease, and is done again: never lost.
STOP_GRACE_S = 8.0

#: Called with a process's name and a line of its output (or of ours about it), from several threads.
OnLog = Callable[[str, str], None]


def next_pause_s(previous_s: float | None, *, ran_s: float) -> float:
    """How long to wait before a process that died is started again.

    Args:
        previous_s: the pause before the run that has just ended; None: it was the first run.
        ran_s: how long that run lasted, seconds.
    """
    if previous_s is None or ran_s >= WELL_AFTER_S:
        return FIRST_PAUSE_S
    return min(LONGEST_PAUSE_S, previous_s * 2)


class Supervised:
    """One process, run again and again until it is stopped. Its thread starts it, so that restarts need no poll."""

    def __init__(self, entry: Entry, *, environment: Mapping[str, str], cwd: Path, logs: Path, on_log: OnLog) -> None:
        self.name = entry.name
        self._on_log = on_log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"supervise-{entry.name}", daemon=True)
        self.starts = 0
        self.process = LeashedProcess(
            ["/bin/sh", "-c", entry.command],
            environment={**environment, "HONCHO_PROCESS_NAME": entry.name, "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
            log=logs / f"{entry.name}.log",
            on_line=lambda line: on_log(entry.name, line),
        )

    @property
    def pid(self) -> int | None:
        """The pid of the command that runs now (or ran last)."""
        return self.process.pid

    def start(self) -> None:
        """Start it, once."""
        self._thread.start()

    def _run(self) -> None:
        pause_s: float | None = None
        while not self._stopping.is_set():
            started = time.monotonic()
            self.starts += 1
            self.process.start()
            if self._stopping.is_set():
                self.process.kill()  # asked to stop while it was being started
                return
            exit_code = self.process.wait()
            if self._stopping.is_set():
                return
            self.process.kill()  # closes what is left of it
            pause_s = next_pause_s(pause_s, ran_s=time.monotonic() - started)
            self._on_log(self.name, f"ended with exit status {exit_code}, is started again in {pause_s:g} s")
            self._stopping.wait(pause_s)

    def ask_to_stop(self) -> None:
        """SIGTERM, and no new start."""
        self._stopping.set()
        self.process.terminate()

    def finish(self, grace_s: float) -> None:
        """Wait `grace_s` seconds for its end, then kill what is left."""
        self._stopping.set()
        self.process.wait(max(0.0, grace_s))
        self.process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def cut(self) -> None:
        """Kill it without waiting."""
        self._stopping.set()
        self.process.cut()


class Supervisor:
    """All processes of a formation."""

    def __init__(
        self, entries: Iterable[Entry], *, environment: Mapping[str, str], cwd: Path, logs: Path, on_log: OnLog
    ) -> None:
        self._all = {
            entry.name: Supervised(entry, environment=environment, cwd=cwd, logs=logs, on_log=on_log)
            for entry in entries
        }
        self._started = False

    def __getitem__(self, name: str) -> Supervised:
        """A process by its name, e.g. `gpu.1`."""
        return self._all[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all processes."""
        return tuple(self._all)

    def start(self) -> None:
        """Start all. Readiness is the stack's to judge: it knows what each process shows when it is ready."""
        self._started = True
        for process in self._all.values():
            process.start()

    def check_alive(self, *, most_starts: int) -> None:
        """Notice early that a process cannot be started at all.

        Raises:
            NotReady: one has died and been started again too often.
        """
        for process in self._all.values():
            if process.starts > most_starts:
                raise NotReady(process.name, "it ends again and again", process.process.log)

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Ask all at once, wait for all together, kill the rest. May be called twice."""
        if not self._started:
            return
        for process in self._all.values():
            process.ask_to_stop()
        until = time.monotonic() + grace_s
        for process in self._all.values():
            process.finish(until - time.monotonic())

    def cut(self) -> None:
        """Kill all without waiting; `stop` then returns at once."""
        for process in self._all.values():
            process.cut()
