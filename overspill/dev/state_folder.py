"""The folder of one stack: its data, its logs, its secrets, and the environment that points others at it."""

import fcntl
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from overspill.dev.errors import AlreadyRunning

DEFAULT_FOLDER = Path(".overspill")


@dataclass(frozen=True)
class StackSecrets:
    """What a stack's parts ask each other for. Made up once per folder, so that addresses and keys stay."""

    api_key: str
    s3_access_key_id: str
    s3_secret_access_key: str
    flower_password: str


def _make_secrets() -> StackSecrets:
    return StackSecrets(
        api_key=f"sk-overspill-{secrets.token_urlsafe(24)}",
        s3_access_key_id=f"AKIA{secrets.token_hex(8).upper()}",
        s3_secret_access_key=secrets.token_urlsafe(30),
        flower_password=secrets.token_urlsafe(12),
    )


def read_environment(folder: Path) -> dict[str, str]:
    """What the running stack of a folder has written; empty if none runs there."""
    try:
        text = (folder / "env").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}


class StateFolder:
    """A folder that one stack at a time may use. `claim` it before, `release` it after."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Take the folder. The lock is the kernel's: it ends with our process.

        Raises:
            AlreadyRunning: another process has it.
            OSError: the folder cannot be made or written.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        handle = (self.path / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with handle:
                handle.seek(0)
                pid = handle.read().strip()
            raise AlreadyRunning(self.path, int(pid) if pid.isdigit() else None) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        self._lock = handle
        shutil.rmtree(self.path / "tmp", ignore_errors=True)  # left behind by processes that were killed

    def release(self) -> None:
        """Release the folder and remove its environment file. May be called twice."""
        if self._lock is not None:
            (self.path / "env").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def secrets(self) -> StackSecrets:
        """The folder's secrets, made when first asked for."""
        path = self.path / "secrets.json"
        if path.is_file():
            return StackSecrets(**json.loads(path.read_text(encoding="utf-8")))
        made = _make_secrets()
        _write_private(path, json.dumps(asdict(made), indent=2))
        return made

    def write_environment(self, environment: Mapping[str, str]) -> None:
        """Let other commands find the stack; a shell can source the file (`set -a; . .overspill/env`)."""
        lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
        _write_private(self.path / "env", "\n".join(["# Written by `overspill up`.", *lines, ""]))


def _write_private(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    beside.replace(path)
