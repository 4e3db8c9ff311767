"""What can go wrong while a stack is started. Each carries data and a sentence that says what to do."""

from pathlib import Path


class DevError(Exception):
    """Any foreseeable mistake of the development stack."""


class MissingProgram(DevError):
    """A program that the stack needs is not installed."""

    def __init__(self, program: str, remedy: str) -> None:
        self.program = program
        self.remedy = remedy
        super().__init__(f"expected the program {program}, found none; {remedy}.")


class NotReady(DevError):
    """A part was started and did not become ready."""

    def __init__(self, name: str, reason: str, log: Path | None = None) -> None:
        self.name = name
        self.reason = reason
        self.log = log
        tail = f"; its log: {log}" if log else ""
        super().__init__(f"{name} did not become ready: {reason}{tail}.")


class AlreadyRunning(DevError):
    """Another stack lives in the same state folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.folder = folder
        self.pid = pid
        who = f" (process {pid})" if pid else ""
        super().__init__(
            f"a stack is already running in {folder}{who}: stop that one, or choose another folder with --state."
        )


class WrongProcfile(DevError):
    """The Procfile is missing, or lacks a process."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot use {path}: {reason}.")


class PortTaken(DevError):
    """A port that was asked for is in use."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(f"expected port {port} to be free, somebody listens there: choose another, or 0 for any.")


class StartInterrupted(DevError):
    """Somebody asked the stack to stop while it was being started."""

    def __init__(self) -> None:
        super().__init__("the start was interrupted.")
