"""The development stack as the suite needs it: several of each process, and proxies before Redis and S3."""

import importlib.util
import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from overspill.dev.modal_service import ModalLocalService
from overspill.dev.probes import Probes
from overspill.dev.procfile import Entry, read_procfile
from overspill.dev.redis_service import RedisService
from overspill.dev.s3_service import S3Service
from overspill.dev.stack import Stack, StackOptions
from overspill.dev.supervisor import STOP_GRACE_S, Supervisor
from tests.chaos.s3_proxy import S3Proxy
from tests.support.tcp_proxy import TcpProxy

REPOSITORY = Path(__file__).parents[2]
#: How many of each process run.
FORMATION: Mapping[str, int] = {"api": 1, "dispatch": 2, "gpu": 2, "overflow": 2, "exporter": 1}
#: The clocks of these can be made to jump.
SKEWED = ("dispatch.2", "gpu.2", "overflow.2")
_SKEWED_CLOCK = Path(__file__).parent / "skewed_clock"


class ChaosStack(Stack):
    """Our processes reach Redis and S3 through proxies; the suite itself looks at both directly.

    Args:
        folder: where its state is kept.
        settings: environment of every process.
        modal_flags: flags of modal_local.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str], modal_flags: tuple[str, ...]) -> None:
        super().__init__(
            StackOptions(
                folder=folder,
                root=REPOSITORY,
                slots=FORMATION["gpu"],
                flower=False,
                train=importlib.util.find_spec("torch") is not None,
                settings=settings,
                modal_flags=modal_flags,
            )
        )
        self.redis_proxy: TcpProxy | None = None
        self.s3_proxy: S3Proxy | None = None

    def _start_services(self) -> None:
        super()._start_services()
        redis_port, s3_port = self.services()[0].port, urlsplit(self.services()[1].url).port
        assert s3_port is not None
        self.redis_proxy, self.s3_proxy = TcpProxy(redis_port), S3Proxy(s3_port)
        self.redis_proxy.start()
        self.s3_proxy.start()
        self.environment |= {
            "OVERSPILL_LEDGER_URL": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "OVERSPILL_BROKER_URL": f"redis://127.0.0.1:{self.redis_proxy.port}/1",
            "OVERSPILL_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.s3_proxy.port}",
        }

    def _start_processes(self) -> None:
        commands = read_procfile(self.root / "Procfile")
        formation = {role: count for role, count in FORMATION.items() if role in commands}
        names = [f"{role}.{number}" for role, count in formation.items() for number in range(1, count + 1)]
        self.supervisor = Supervisor(
            [Entry(name, self._with_its_clock(name, commands[name.partition(".")[0]])) for name in names],
            environment=self.process_environment,
            cwd=self.root,
            logs=self.folder.logs,
            on_log=lambda *_: None,
        )
        self.supervisor.start()
        others = [f"{role}-{n}" for role in ("dispatch", "overflow") for n in range(2, FORMATION[role] + 1)]
        with Probes(
            {**self.options.settings, **self.environment}, host=socket.gethostname(), slots=self.options.slots
        ) as probes:
            signs = {**probes.signs(flower=False), "the others": lambda: probes.workers_answer(others)}
            for name, sign in signs.items():
                self._wait_for(name, sign)

    def _with_its_clock(self, name: str, command: str) -> str:
        if name not in SKEWED:
            return command
        paths = ":".join(filter(None, (str(_SKEWED_CLOCK), self.process_environment.get("PYTHONPATH"))))
        set_here = {"CHAOS_CLOCK_FILE": str(self._clock_file(name)), "PYTHONPATH": paths}
        return " ".join([*(f"{key}={shlex.quote(value)}" for key, value in set_here.items()), command])

    def set_clock(self, name: str, ahead_ms: int) -> None:
        """Let one process's wall clock jump, one of SKEWED. It stays so, also when the process is started again."""
        written = self.folder.path / f"new-clock-of-{name}"
        written.write_text(str(ahead_ms), encoding="ascii")
        written.replace(self._clock_file(name))

    def _clock_file(self, name: str) -> Path:
        return self.folder.path / f"clock-of-{name}"

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop everything. May be called twice."""
        super().stop(grace_s=grace_s)
        for proxy in (self.redis_proxy, self.s3_proxy):
            if proxy is not None:
                proxy.stop()

    def services(self) -> tuple[RedisService, S3Service, ModalLocalService]:
        """The services, which are there once the stack has begun."""
        assert self.redis is not None
        assert self.s3 is not None
        assert self.modal is not None
        return self.redis, self.s3, self.modal

    def proxies(self) -> tuple[TcpProxy, S3Proxy]:
        """The proxies before Redis and S3, which are there once the stack has begun."""
        assert self.redis_proxy is not None
        assert self.s3_proxy is not None
        return self.redis_proxy, self.s3_proxy

    @property
    def admin_url(self) -> str:
        """modal_local's admin API; its port changes with each start."""
        return self.services()[2].environment["MODAL_LOCAL_ADMIN_URL"]


def scrub_environment() -> None:
    """Forget settings of the person who runs this: none of them may leak into the stack."""
    for name in list(os.environ):
        if name.startswith(("OVERSPILL_", "MODAL_", "AWS_", "CELERY_")):
            del os.environ[name]
