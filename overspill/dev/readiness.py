"""Waits for a condition, never for a time."""

import time
from collections.abc import Callable
from pathlib import Path

from overspill.dev.errors import NotReady, StartInterrupted
from overspill.dev.process import LeashedProcess

_LOOK_AGAIN_S = 0.05


def wait_until(
    sign: Callable[[], bool],
    *,
    name: str,
    timeout_s: float,
    process: LeashedProcess | None = None,
    log: Path | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Return when `sign()` is true.

    Args:
        sign: asked again and again; must answer within about a second.
        name: whose sign it is, for the message.
        timeout_s: how long it may take.
        process: if it ends, there is nothing to wait for any more.
        log: where to look, for the message; None: the process's log.
        stopping: true when the wait should end.

    Raises:
        NotReady: it did not come in time, or the process ended; with the last line of its log.
        StartInterrupted: `stopping()` was true.
    """
    log = log or (process.log if process else None)
    until = time.monotonic() + timeout_s
    while not sign():
        if stopping():
            raise StartInterrupted
        if process is not None and not process.is_running:
            raise NotReady(name, f"it ended with exit status {process.exit_code}{_last_line(log)}", log)
        if time.monotonic() > until:
            raise NotReady(name, f"no sign of it within {timeout_s:g} s{_last_line(log)}", log)
        time.sleep(_LOOK_AGAIN_S)


def _last_line(log: Path | None) -> str:
    if log is None or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f", its last line was {lines[-1][:300]!r}" if lines else ""
