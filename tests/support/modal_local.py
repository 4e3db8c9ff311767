"""Starts modal_local as a process of its own, as a user would, and points programs at it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 40.0
_LINES_KEPT = 2_000


@dataclass(slots=True)
class ModalLocalProcess:
    """A running server.

    Attributes:
        env: the variables that point any program which uses modal at it, and nothing else.
        server_url: where it speaks gRPC.
        admin_url: where it takes commands.
        log: the newest lines that it has written to stderr.
    """

    process: subprocess.Popen[str]
    env: dict[str, str]
    server_url: str
    admin_url: str
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES_KEPT))
    readers: list[threading.Thread] = field(default_factory=list)
    _stopped: bool = False

    def environ(self) -> dict[str, str]:
        """This process's environment, without its own MODAL_ settings, pointed at the server: for subprocesses."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return {**inherited, **self.env}

    def kill(self) -> None:
        """SIGKILL: what a crash of the server looks like."""
        self._stopped = True
        self.process.kill()
        self._close()

    def stop(self) -> int:
        """SIGTERM, and waits. May be called twice. Returns the exit status."""
        if not self._stopped:
            self._stopped = True
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._close()

    def _close(self) -> None:
        self.process.wait()
        for reader in self.readers:
            reader.join(_STOP_TIMEOUT_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def start_modal_local(state_dir: Path | str | None = None, **flags: object) -> ModalLocalProcess:
    """Starts a server and waits until it is ready.

    Args:
        state_dir: what survives a restart; None keeps nothing.
        flags: flags of `serve`: `gpus="H100=2"`, `max_containers=4`, `simulate=True`.

    Raises:
        RuntimeError: it did not become ready; the message holds what it wrote.
    """
    command = [sys.executable, "-m", "modal_local", "serve"]
    if state_dir is not None:
        command += ["--state", str(state_dir)]
    for name, value in flags.items():
        if value is True:
            command.append(f"--{name.replace('_', '-')}")
        elif value is not None and value is not False:
            command += [f"--{name.replace('_', '-')}", str(value)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited,
        cwd=Path(__file__).parents[2],
    )
    log: deque[str] = deque(maxlen=_LINES_KEPT)
    readers = [threading.Thread(target=_drain, args=(process.stderr, log), daemon=True)]
    readers[0].start()
    watchdog = threading.Timer(_START_TIMEOUT_S, process.kill)
    watchdog.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    watchdog.cancel()
    try:
        address = json.loads(line)
    except ValueError:
        process.kill()
        process.wait()
        readers[0].join(_STOP_TIMEOUT_S)
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
        raise RuntimeError(f"modal_local did not start: {line!r} {''.join(log)}") from None
    readers.append(threading.Thread(target=_drain, args=(process.stdout, log), daemon=True))
    readers[1].start()
    env = {
        "MODAL_SERVER_URL": address["server_url"],
        "MODAL_TOKEN_ID": address["token_id"],
        "MODAL_TOKEN_SECRET": address["token_secret"],
        "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
        "MODAL_DISABLE_API_PROXY": "1",
        "MODAL_LOCAL_ADMIN_URL": address["admin_url"],
    }
    return ModalLocalProcess(process, env, address["server_url"], address["admin_url"], log, readers)


def _drain(stream: object, log: deque[str]) -> None:
    for line in stream:  # type: ignore[attr-defined]  # a text pipe
        log.append(line)
