"""One process on a leash: it and everything that it starts end with us, however we end."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM

_LEASH = Path(__file__).with_name("leash.py")
#: How long the leash may take to announce the command's pid: it only forks, but the machine may be busy.
_ANNOUNCE_TIMEOUT_S = 20.0
#: Its output ends with its last descendant, which is dead by then.
_PUMP_TIMEOUT_S = 5.0

OnLine = Callable[[str], None]


class LeashedProcess:
    """A command with its output in a log file.

    Args:
        command: program and arguments.
        environment: its whole environment.
        log: file to append its output to.
        cwd: its working directory; None: ours.
        on_line: called with each line of its output, from a thread of its own.
        merge_errors: whether `on_line` sees its standard error as well.
        log_lines: whether what `on_line` sees goes to the log too; false where a line holds a secret.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
        on_line: OnLine | None = None,
        merge_errors: bool = True,
        log_lines: bool = True,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self.log = log
        self._cwd = cwd
        self._on_line = on_line
        self._merge_errors = merge_errors
        self._log_lines = log_lines
        self._leash: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._pump: threading.Thread | None = None
        self.pid: int | None = None

    def start(self) -> None:
        """Start it. Returns when the command's pid is known, not when it is ready."""
        self.pid = None
        ours, theirs = socket.socketpair()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, self.log.open("ab") as log_file:
            self._leash = subprocess.Popen(  # noqa: S603  # the commands are the Procfile's and our own
                [sys.executable, "-I", "-S", str(_LEASH), str(theirs.fileno()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._on_line else log_file,
                stderr=subprocess.STDOUT if self._merge_errors else log_file,
                env=self._environment,
                cwd=self._cwd,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._lifeline = ours
        ours.settimeout(_ANNOUNCE_TIMEOUT_S)
        with ours.makefile("r") as announcement:
            self.pid = int(announcement.readline() or 0) or None
        if self._on_line:
            self._pump = threading.Thread(target=self._drain, name=f"log-{self.log.stem}", daemon=True)
            self._pump.start()

    def _drain(self) -> None:
        assert self._leash is not None  # noqa: S101  # start() made it
        assert self._leash.stdout is not None  # noqa: S101  # asked for as a pipe
        assert self._on_line is not None  # noqa: S101  # or there would be no thread
        with self._leash.stdout as lines, self.log.open("ab") as log_file:
            for raw in lines:
                if self._log_lines:
                    log_file.write(raw)
                    log_file.flush()
                self._on_line(raw.decode("utf-8", errors="replace").rstrip("\n"))

    @property
    def exit_code(self) -> int | None:
        """The command's exit status (128 + n after signal n); None while it runs or before its start."""
        return self._leash.poll() if self._leash else None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._leash is not None and self._leash.poll() is None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; the exit status, or None when it still runs after `timeout_s`."""
        if self._leash is None:
            return None
        try:
            return self._leash.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: int) -> None:
        """Send a signal to the command alone; nothing happens if it has ended."""
        if self.pid is not None and self.is_running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def terminate(self) -> None:
        """Ask the command to end."""
        self.signal(SIGTERM)

    def cut(self) -> None:
        """Kill it and all its descendants, without waiting. Safe in a signal handler."""
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            lifeline.close()  # the leash kills everything below it

    def kill(self) -> None:
        """End it and all its descendants at once, and wait for that."""
        self.cut()
        if self._leash is not None:
            self._leash.wait()
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.join(_PUMP_TIMEOUT_S)

    def stop(self, *, grace_s: float) -> None:
        """Ask it to end, wait `grace_s` seconds, then kill what is left. May be called twice."""
        if self.is_running:
            self.terminate()
            self.wait(grace_s)
        self.kill()
