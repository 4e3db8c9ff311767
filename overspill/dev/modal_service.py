"""modal_local as a service: started as a process, and known by the one line that it prints when it is ready."""

import json
import sys
import threading
from pathlib import Path

from overspill.dev.environment import inherited
from overspill.dev.errors import NotReady
from overspill.dev.process import LeashedProcess
from overspill.dev.readiness import wait_until

_READY_TIMEOUT_S = 60.0
_STOP_GRACE_S = 10.0


class ModalLocalService:
    """A local Modal. Its address and token are known once it is ready.

    Args:
        folder: where its state survives restarts.
        logs: folder of the log files.
        root: folder that holds the package modal_local (the repository).
        flags: more flags of `python -m modal_local serve`.
    """

    def __init__(self, folder: Path, *, logs: Path, root: Path, flags: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._log = logs / "modal.log"
        self._root = root
        self._flags = flags
        self._announced = threading.Event()
        self._facts: dict[str, str] = {}
        self.process: LeashedProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points an unmodified Modal SDK and CLI at it, and keeps a person's own Modal settings out."""
        return {
            "MODAL_SERVER_URL": self._facts["server_url"],
            "MODAL_TOKEN_ID": self._facts["token_id"],
            "MODAL_TOKEN_SECRET": self._facts["token_secret"],
            "MODAL_CONFIG_PATH": str(self._folder / "no-modal.toml"),
            "MODAL_DISABLE_API_PROXY": "1",
            # Read by the demo, not by the SDK.
            "MODAL_LOCAL_ADMIN_URL": self._facts.get("admin_url", ""),
        }

    def start(self) -> None:
        """Start it; `ready` tells when it listens. A second start takes the first one's port and token again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        port = self._facts["server_url"].rpartition(":")[2].strip("/") if self._facts else "0"
        # By the environment, because everybody on the machine can read arguments.
        token = {
            f"MODAL_LOCAL_{name.upper()}": self._facts[name] for name in ("token_id", "token_secret") if self._facts
        }
        self._announced.clear()
        self.process = LeashedProcess(
            [
                sys.executable, "-m", "modal_local", "serve", "--port", port, "--state", str(self._folder),
                *self._flags,
            ],
            environment={**inherited(self._folder.parent), "PYTHONUNBUFFERED": "1", **token},
            cwd=self._root,
            log=self._log,
            on_line=self._read_announcement,
            merge_errors=False,
            log_lines=False,
        )  # fmt: skip
        self.process.start()

    def _read_announcement(self, line: str) -> None:
        if self._announced.is_set() or not line.startswith("{"):
            return
        facts = json.loads(line)
        if "server_url" in facts:
            self._facts = {name: str(value) for name, value in facts.items()}
            self._announced.set()

    def ready(self) -> None:
        """Return when it has printed its address.

        Raises:
            NotReady: not within a minute, or without a token.
        """
        wait_until(self._announced.is_set, name="modal_local", timeout_s=_READY_TIMEOUT_S, process=self.process)
        missing = {"server_url", "token_id", "token_secret"} - set(self._facts)
        if missing:
            raise NotReady("modal_local", f"it did not say its {', '.join(sorted(missing))}", self._log)

    def stop(self) -> None:
        """Stop it and its containers; the state is kept. May be called twice."""
        if self.process is not None:
            self.process.stop(grace_s=_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
