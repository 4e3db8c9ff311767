"""Redis, as the ledger wants it: append-only file on, nothing evicted, loopback only."""

import shutil
from pathlib import Path

import redis

from overspill.dev.environment import inherited
from overspill.dev.errors import MissingProgram
from overspill.dev.ports import free_ports
from overspill.dev.process import LeashedProcess
from overspill.dev.readiness import wait_until

_READY_TIMEOUT_S = 30.0
_STOP_GRACE_S = 10.0
INSTALL_REDIS = "install it with `sudo apt-get install redis-server` (Debian, Ubuntu) or `make setup`"


def find_redis_server() -> str:
    """The path of redis-server.

    Raises:
        MissingProgram: there is none on the PATH.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise MissingProgram("redis-server", INSTALL_REDIS)
    return found


class RedisService:
    """One redis-server. It can be stopped, killed and started again: port and data stay."""

    def __init__(self, folder: Path, *, logs: Path) -> None:
        self._folder = folder
        self._log = logs / "redis.log"
        self.port = free_ports(1)[0]
        self.process: LeashedProcess | None = None

    def url(self, database: int = 0) -> str:
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        """What points others at it: database 0 holds the ledger, 1 the broker."""
        return {"OVERSPILL_LEDGER_URL": self.url(0), "OVERSPILL_BROKER_URL": self.url(1)}

    def start(self) -> None:
        """Start it; `ready` tells when it answers.

        Raises:
            MissingProgram: redis-server is not installed.
        """
        binary = find_redis_server()
        self._folder.mkdir(parents=True, exist_ok=True)
        # Everysec loses nothing when processes die, at most a second when the machine does.
        self.process = LeashedProcess(
            [
                binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "",
                "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
            ],
            environment=inherited(self._folder.parent),
            log=self._log,
        )  # fmt: skip
        self.process.start()

    def ready(self) -> None:
        """Return when it answers a PING and has read its data.

        Raises:
            NotReady: it did not within half a minute.
        """
        with redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.exceptions.RedisError:
                    return False

            wait_until(answers, name="redis", timeout_s=_READY_TIMEOUT_S, process=self.process)

    def stop(self) -> None:
        """Stop it; the data is kept. May be called twice."""
        if self.process is not None:
            self.process.stop(grace_s=_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
