"""Keep a process and all its descendants on a leash: `python -I -S leash.py FD COMMAND...`.

Started by `LeashedProcess`, between us and the command. FD is one end of a socket pair; when the other end closes, be
it on purpose or because our process was killed, everything below is killed. The leash

- is the subreaper of its descendants, so that orphans come to it and can be found, in any session,
- makes the command die with it (PR_SET_PDEATHSIG), should somebody kill the leash itself,
- passes SIGTERM, SIGINT and SIGQUIT on to the command alone, and ends with the command's exit status.

Standard library only, and no import of ours: it starts in about 15 ms. Linux only (prctl, /proc).
"""

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_LOOK_AGAIN_S = 0.005
NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128  # the shell's own exit statuses


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def parents_by_pid(proc: Path = Path("/proc")) -> dict[int, int]:
    """Every process that can be seen: pid -> pid of its parent."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                # "pid (name, which may hold anything) state ppid ...": read on from the last parenthesis
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
    return found


def descendants(of: int, parents: dict[int, int]) -> list[int]:
    """All pids below `of`."""
    found = {of}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return sorted(found - {of})
        found |= more


def _kill_descendants() -> None:
    """SIGKILL everything below us, and again what was forked meanwhile, until nothing is left.

    No wait here may block: what was forked between our look and our kill is alive, and ours to wait for by then.
    """
    while victims := descendants(os.getpid(), parents_by_pid()):
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reap(None)
        time.sleep(_LOOK_AGAIN_S)


def _run_command(command: list[str], leash_pid: int) -> None:
    """In the child: become the command."""
    try:
        os.setpgid(0, 0)
        for number in (*PASSED_ON, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != leash_pid:
            os._exit(SIGNALLED + signal.SIGKILL)  # the leash died before the line above
        os.execvp(command[0], command)  # noqa: S606  # running the given command is this program's purpose
    except FileNotFoundError:
        os._exit(NOT_FOUND)
    except OSError:
        os._exit(NOT_EXECUTABLE)


def _reap(child: int | None) -> int | None:
    """Collect ended processes; returns the exit status of `child` if it was among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else SIGNALLED - code


def main(lifeline: int, command: list[str]) -> int:
    """Run the command; return its exit status, or 137 when the lifeline was cut."""
    os.set_inheritable(lifeline, False)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    leash_pid = os.getpid()
    signal.set_wakeup_fd(wake_write)
    for number in (*PASSED_ON, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the number arrives through the wakeup pipe
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        _run_command(command, leash_pid)
    os.write(lifeline, f"{child}\n".encode())

    while True:
        readable, _, _ = select.select([lifeline, wake_read], [], [])
        if lifeline in readable:
            _kill_descendants()
            return SIGNALLED + signal.SIGKILL
        for arrived in os.read(wake_read, 512):
            if arrived != signal.SIGCHLD:
                try:
                    os.kill(child, arrived)
                except ProcessLookupError:
                    continue
        status = _reap(child)
        if status is not None:
            _kill_descendants()
            return status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
