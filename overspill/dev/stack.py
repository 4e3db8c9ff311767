"""The whole system on one machine: services, deploy, processes, in order, and ready only when each has shown it is."""

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overspill.dev.environment import inherited
from overspill.dev.errors import NotReady, PortTaken
from overspill.dev.modal_service import ModalLocalService
from overspill.dev.ports import free_ports, is_free
from overspill.dev.probes import Probes
from overspill.dev.process import LeashedProcess
from overspill.dev.procfile import expand, find_root, read_procfile
from overspill.dev.prometheus_service import PrometheusService, find_prometheus
from overspill.dev.readiness import wait_until
from overspill.dev.redis_service import RedisService, find_redis_server
from overspill.dev.s3_service import S3Service, find_weed
from overspill.dev.state_folder import DEFAULT_FOLDER, StateFolder
from overspill.dev.supervisor import STOP_GRACE_S, OnLog, Supervisor

_DEPLOY_TIMEOUT_S = 120.0
_PROCESSES_TIMEOUT_S = 120.0
#: More starts than this before `ready` mean that a process cannot start at all.
_MOST_STARTS = 3

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class StackOptions:
    """How a stack is to be.

    Attributes:
        folder: where its state is kept.
        root: the checkout whose code runs; None: found from the working directory.
        slots: in-house GPU workers; each is one slot.
        api_port: port of the API; 0 takes a free one.
        flower: whether Flower runs too.
        prometheus: whether Prometheus runs too, where it is installed.
        settings: more environment for every process, e.g. `{"OVERSPILL_HIGH_WATERMARK": "2"}`.
        modal_flags: more flags of modal_local.
        train: whether train jobs are run, in-house and on Modal; needs torch. Without, each ends as `no_engine`.
    """

    folder: Path = DEFAULT_FOLDER
    root: Path | None = None
    slots: int = 2
    api_port: int = 0
    flower: bool = True
    prometheus: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    modal_flags: tuple[str, ...] = ()
    train: bool = False


def _nothing(*_: str) -> None:
    """Nobody listens."""


class Stack:
    """Everything that runs. Start it once; stop it as often as you like.

    Args:
        options: how it is to be.
        on_step: called with each step of the start.
        on_log: called with each line of the processes' logs, from several threads.
    """

    def __init__(self, options: StackOptions, *, on_step: OnStep = _nothing, on_log: OnLog = _nothing) -> None:
        self.options = options
        self._on_step = on_step
        self._on_log = on_log
        self.root = options.root or find_root(Path.cwd())
        self.folder = StateFolder(options.folder)
        self.environment: dict[str, str] = {}
        self.redis: RedisService | None = None
        self.s3: S3Service | None = None
        self.modal: ModalLocalService | None = None
        self.prometheus: PrometheusService | None = None
        self.supervisor: Supervisor | None = None
        self._deploys: dict[str, LeashedProcess] = {}
        self._cut = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was started."""
        return self.redis is not None

    @property
    def api_url(self) -> str:
        """The address of the API, without a path."""
        return self.environment["OVERSPILL_API_URL"]

    @property
    def api_key(self) -> str:
        """A key that the API takes."""
        return self.environment["OVERSPILL_API_KEY"]

    @property
    def process_environment(self) -> dict[str, str]:
        """The whole environment of a process of this stack: ours, and of the caller's what is not foreign to it."""
        return {**inherited(self.folder.path), **self._training, **self.options.settings, **self.environment}

    @property
    def _training(self) -> dict[str, str]:
        engine = "torch" if self.options.train else "off"
        return {"OVERSPILL_TRAIN_ENGINE": engine, "OVERSPILL_TRAIN_FOLDER": str(self.folder.path / "train")}

    def start(self) -> None:
        """Start everything and wait until it is ready. What was started is stopped again if that fails.

        Raises:
            MissingProgram, PortTaken, AlreadyRunning, WrongProcfile, NotReady, StartInterrupted: see each.
        """
        find_redis_server()
        find_weed()
        if self.options.api_port and not is_free(self.options.api_port):
            raise PortTaken(self.options.api_port)
        self.folder.claim()
        try:
            self._start_services()
            self._deploy_apps()
            self._start_processes()
        except BaseException:
            self.stop()
            raise
        self.folder.write_environment({**self._training, **self.options.settings, **self.environment})

    def _start_services(self) -> None:
        made_up = self.folder.secrets()
        base, logs = self.folder.path, self.folder.logs
        self._on_step("redis, s3 and modal")
        self.redis = RedisService(base / "redis", logs=logs)
        self.s3 = S3Service(
            base / "s3",
            logs=logs,
            access_key_id=made_up.s3_access_key_id,
            secret_access_key=made_up.s3_secret_access_key,
        )
        self.modal = ModalLocalService(base / "modal", logs=logs, root=self.root, flags=self.options.modal_flags)
        for service in (self.redis, self.s3, self.modal):
            service.start()
        self.redis.ready()
        self.modal.ready()
        flower_port, exporter_port = free_ports(2)
        api_port = self.options.api_port or free_ports(1)[0]
        self.environment = {
            **self.redis.environment,
            **self.s3.environment,
            **self.modal.environment,
            "OVERSPILL_API_KEYS": made_up.api_key,
            "OVERSPILL_API_KEY": made_up.api_key,
            "OVERSPILL_API_PORT": str(api_port),
            "OVERSPILL_API_URL": f"http://127.0.0.1:{api_port}",
            "OVERSPILL_EXPORTER_PORT": str(exporter_port),
            "OVERSPILL_EXPORTER_URL": f"http://127.0.0.1:{exporter_port}",
        }
        if self.options.flower:
            self.environment |= {
                "OVERSPILL_FLOWER_PORT": str(flower_port),
                "OVERSPILL_FLOWER_URL": f"http://127.0.0.1:{flower_port}",
                "FLOWER_BASIC_AUTH": f"overspill:{made_up.flower_password}",
            }
        if self.options.prometheus and find_prometheus() is not None:
            self._start_prometheus(f"127.0.0.1:{exporter_port}")

    def _start_prometheus(self, exporter: str) -> None:
        """It may start before what it scrapes; it is waited for when everything else is ready."""
        self._on_step("prometheus")
        rules = self.root / "monitoring" / "prometheus" / "rules"
        self.prometheus = PrometheusService(
            self.folder.path / "prometheus", logs=self.folder.logs, exporter=exporter, rules=rules
        )
        self.prometheus.start()
        self.environment |= self.prometheus.environment

    def _deploy_apps(self) -> None:
        modules = ["modal_apps.renderer", *(["modal_apps.trainer"] if self.options.train else [])]
        self._on_step("deploying " + " and ".join(modules))
        for module in modules:
            self._deploys[module] = LeashedProcess(
                [sys.executable, "-m", "modal", "deploy", "-m", module],
                environment=self.process_environment,
                cwd=self.root,
                log=self.folder.logs / f"deploy-{module.rpartition('.')[2]}.log",
            )
            self._deploys[module].start()
        # S3 needs seconds of its own to begin with, in which it hardly computes; the deploys do meanwhile.
        assert self.s3 is not None  # noqa: S101  # started above
        self.s3.ready()
        for module, deploy in self._deploys.items():
            _await_deploy(module, deploy)

    def _start_processes(self) -> None:
        procfile = self.root / "Procfile"
        formation = {"api": 1, "dispatch": 1, "gpu": self.options.slots, "overflow": 1, "exporter": 1}
        if self.options.flower:
            formation["flower"] = 1
        formation = {name: count for name, count in formation.items() if count > 0}
        self.supervisor = Supervisor(
            expand(read_procfile(procfile), formation, path=procfile),
            environment=self.process_environment,
            cwd=self.root,
            logs=self.folder.logs,
            on_log=self._on_log,
        )
        self._on_step("starting " + ", ".join(self.supervisor.names))
        self.supervisor.start()
        with Probes(
            {**self.options.settings, **self.environment}, host=socket.gethostname(), slots=self.options.slots
        ) as probes:
            for name, sign in probes.signs(flower=self.options.flower).items():
                self._wait_for(name, sign)
        if self.prometheus is not None:
            self.prometheus.ready()

    def _wait_for(self, name: str, sign: Callable[[], bool]) -> None:
        supervisor = self.supervisor
        assert supervisor is not None  # noqa: S101  # made by the caller

        def seen() -> bool:
            supervisor.check_alive(most_starts=_MOST_STARTS)
            return sign()

        self._on_step(f"waiting for {name}")
        log = next((supervisor[known].process.log for known in supervisor.names if known.startswith(name)), None)
        wait_until(seen, name=name, timeout_s=_PROCESSES_TIMEOUT_S, log=log, stopping=lambda: self._cut)

    def dead_service(self) -> str | None:
        """The name of a service that has ended by itself, if any: processes are started again, services are not."""
        for name, service in (
            ("redis", self.redis),
            ("s3", self.s3),
            ("modal", self.modal),
            ("prometheus", self.prometheus),
        ):
            if service is not None and service.process is not None and not service.process.is_running:
                return name
        return None

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop everything, processes first. May be called twice.

        Args:
            grace_s: how long workers may finish what they are at, seconds; what they do not finish is done again.
        """
        if self.supervisor is not None:
            self.supervisor.stop(grace_s=grace_s)
        for deploy in self._deploys.values():
            deploy.kill()
        for service in (self.prometheus, self.modal, self.s3, self.redis):
            if service is not None:
                service.stop()
        self.folder.release()

    def cut(self) -> None:
        """Kill everything without waiting: for the second Ctrl-C, while `stop` waits. Safe in a signal handler."""
        self._cut = True
        if self.supervisor is not None:
            self.supervisor.cut()
        for service in (self.prometheus, self.modal, self.s3, self.redis):
            if service is not None and service.process is not None:
                service.process.cut()


def _await_deploy(module: str, deploy: LeashedProcess) -> None:
    name = f"modal deploy -m {module}"
    wait_until(lambda: not deploy.is_running, name=name, timeout_s=_DEPLOY_TIMEOUT_S, log=deploy.log)
    if deploy.exit_code != 0:
        raise NotReady(name, f"it ended with exit status {deploy.exit_code}", deploy.log)
