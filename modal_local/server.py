"""The server: puts the parts together, starts them in order, stops them in reverse."""

import asyncio
import contextlib
import fcntl
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import structlog

from modal_local.admin import AdminService
from modal_local.callbook import CallBook
from modal_local.coldstart import ColdStarts
from modal_local.context import Context
from modal_local.errors import ModalLocalError
from modal_local.execs.router import CommandRouter
from modal_local.faults.injector import FaultInjector, Reach
from modal_local.faults.launcher import FaultyLauncher
from modal_local.faults.model import FaultScript, read_script
from modal_local.faults.script import FaultPlayer
from modal_local.http import LOOPBACK, HttpServer
from modal_local.logs import STDERR, LogBook
from modal_local.prices import PriceTable
from modal_local.processes import TO_DIE_WITH_THE_SERVER, ProcessLauncher
from modal_local.registry import Registry
from modal_local.rpc import Credentials, RpcRouter
from modal_local.scheduler.engine import Scheduler
from modal_local.schedules.service import ScheduleService
from modal_local.services.apps import AppService
from modal_local.services.billing import BillingService
from modal_local.services.blobs import BlobService
from modal_local.services.bucket_mounts import BucketMountService
from modal_local.services.calls import CallService
from modal_local.services.classes import ClassService
from modal_local.services.containers import ContainerService, Lifetimes
from modal_local.services.dicts import DictService
from modal_local.services.environments import EnvironmentService
from modal_local.services.functions import FunctionService
from modal_local.services.images import ImageService
from modal_local.services.logs import LogService
from modal_local.services.mounts import MountService
from modal_local.services.queues import QueueService
from modal_local.services.releases import Releases, ReleaseService
from modal_local.services.secrets import SecretService
from modal_local.services.statistics import StatisticsService
from modal_local.services.streams import StreamService
from modal_local.services.volumes import VolumeService
from modal_local.settings import Settings, SettingsError
from modal_local.simulate import Handler, SimulatedLauncher, sleep_for_first_argument
from modal_local.store import Store
from modal_local.transport import GrpcServer
from modal_local.web.gateway import Gateway

_CREDENTIALS = "credentials"
_TOKEN_KEY = "token"  # noqa: S105 - the name of a row
_HTTP_PORT_KEY = "http_port"
_HOUSEKEEPING_S = 5.0
_LOOKS_IN_A_HEARTBEAT_TIMEOUT = 4
log = structlog.get_logger("modal_local")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and how it lets one in."""

    server_url: str
    admin_url: str
    token_id: str
    token_secret: str


class PortTakenError(ModalLocalError):
    """The port that was asked for is in use."""


class StateInUseError(ModalLocalError):
    """Another server runs on the state directory that was asked for."""


class ModalLocal:
    """A Modal control plane on loopback.

    Args:
        settings: all flags.
        handler: what simulated containers answer with; only for `settings.simulate`.
    """

    def __init__(self, settings: Settings, handler: Handler = sleep_for_first_argument) -> None:
        self._settings = settings
        self._handler = handler
        self._temporary: Path | None = None
        self._server: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._address: Address | None = None
        self._services: Sequence[Any] = ()
        self._lock_file: IO[str] | None = None
        self._store: Store | None = None

    @property
    def address(self) -> Address:
        """Where it listens.

        Raises:
            ModalLocalError: it has not been started.
        """
        if self._address is None:
            raise ModalLocalError("The server has not been started; await start() first.")
        return self._address

    async def ready(self) -> None:
        """Returns when requests are answered."""
        await self._started.wait()

    async def start(self) -> Address:
        """Builds everything and listens.

        Raises:
            PortTakenError: the port is in use.
        """
        _reset_interrupt()
        self._build()
        await self._listen()
        for service in self._services:
            if hasattr(service, "start"):
                await service.start()
        await self.launcher.start()
        await self.scheduler.start()
        self._keeper = asyncio.create_task(self._keep_house())
        self._started.set()
        return self.address

    def _build(self) -> None:
        settings = self._settings
        if settings.state is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="modal-local-"))
            state_dir, database = self._temporary, None
        else:
            state_dir = settings.state.absolute()
            state_dir.mkdir(parents=True, exist_ok=True)
            self._lock(state_dir)
            shutil.rmtree(state_dir / "containers", ignore_errors=True)
            database = state_dir / "state.sqlite"
        self._store = Store(database)
        self.context = context = Context(store=self._store, settings=settings, state_dir=state_dir, logger=log)
        self.registry = registry = Registry(context)
        self.book = book = CallBook(context)
        self.logs = LogBook()
        self.credentials = Credentials(tokens=dict([self._token()]))
        self._build_services(context, registry, book)

    def _lock(self, state_dir: Path) -> None:
        self._lock_file = (state_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.close()
            raise StateInUseError(f"{state_dir} is in use by another server; stop it, or choose another.") from error

    def _build_services(self, context: Context, registry: Registry, book: CallBook) -> None:
        blobs, secret_service, volumes = BlobService(context), SecretService(context), VolumeService(context)
        images, mounts = ImageService(context), MountService(context, blobs)
        self.lifetimes = Lifetimes(context, registry)
        self.injector = FaultInjector(context, self._settings.seed)
        simulated = SimulatedLauncher(context, registry, self._handler)
        processes = ProcessLauncher(
            context,
            registry,
            self.credentials,
            self.logs,
            images=images,
            mounts=mounts,
            secret_environments=secret_service,
            volumes=volumes,
            buckets=BucketMountService(context, secret_service),
        )
        self.launcher: SimulatedLauncher | ProcessLauncher = simulated if self._settings.simulate else processes
        cold_starts = ColdStarts(self._settings.cold_start, self._settings.seed)
        faulty = FaultyLauncher(self.launcher, self.injector)
        self.scheduler = Scheduler(context, registry, book, faulty, self.lifetimes, cold_starts.draw)
        self.scheduler.on_launch_failed = lambda container, why: self.logs.add(
            container, context.clock.now(), STDERR, why
        )
        simulated.dispatcher = self.scheduler.dispatcher
        releases = Releases(context, registry)
        self.apps = AppService(
            context,
            registry,
            releases,
            on_publish=self._app_published,
            on_stop=self._app_stopped,
            running=self.scheduler.running_containers,
        )
        self.gateway = Gateway(context, registry, book, blobs, self.credentials.tokens)
        functions = FunctionService(context, registry, self.scheduler, self.gateway)
        self.gateway.calls = self.scheduler.dispatcher
        self.gateway.bind = lambda function_id, params: (
            functions.variant(registry.function(function_id), params).function_id
        )
        self.commands = CommandRouter(context, self.launcher, secret_service, TO_DIE_WITH_THE_SERVER)
        self.schedules = ScheduleService(context, registry, book, self.scheduler.dispatcher)
        self.admin = AdminService(context, registry, book, self.scheduler, self.injector, PriceTable(), self.schedules)
        self._services = [
            self.apps,
            functions,
            ClassService(context, registry),
            CallService(context, registry, book, self.scheduler),
            StreamService(book),
            StatisticsService(context, registry, book),
            ReleaseService(context, registry, releases, self._app_published),
            self.gateway,
            ContainerService(context, registry, self.scheduler, self.launcher.restore),
            EnvironmentService(context),
            LogService(context, registry, self.logs),
            BillingService(context),
            DictService(context),
            QueueService(context),
            self.schedules,
            self.commands,
            FaultPlayer(context, self.injector, self._script()),
            *(images, mounts, blobs, secret_service, volumes, self.admin),
        ]
        self.router = RpcRouter(context, self._services, self.credentials, self.injector)
        self.admin.router = self.router

    def _script(self) -> FaultScript:
        if self._settings.faults is None:
            return FaultScript()
        try:
            return read_script(self._settings.faults.read_text())
        except OSError as error:
            raise SettingsError(f"--faults: {self._settings.faults} cannot be read: {error.strerror}.") from error

    def _token(self) -> tuple[str, str]:
        kept = self.context.store.get(_CREDENTIALS, _TOKEN_KEY)
        token_id, token_secret = self._settings.token_id, self._settings.token_secret
        if kept is not None and not token_id:
            token_id, token_secret = kept.decode().split(":", 1)
        token_id = token_id or f"ak-{secrets.token_hex(11)}"
        token_secret = token_secret or f"as-{secrets.token_hex(11)}"
        self.context.store.put(_CREDENTIALS, _TOKEN_KEY, f"{token_id}:{token_secret}".encode())
        return token_id, token_secret

    async def _listen(self) -> None:
        self._http = HttpServer(self._services)
        self.context.http_base_url = await self._same_place(self._http)
        server = GrpcServer([self.router, self.commands])
        reach = Reach(self.launcher.stop_container, server.disconnect, server.set_stream_limit)
        self.injector.attach(self.scheduler, self.book, self.registry, reach)
        try:
            port = await server.listen(self._settings.port)
        except OSError as error:
            await self.stop()
            raise PortTakenError(
                f"Port {self._settings.port} of {LOOPBACK} is taken; choose another, or --port 0 for a free one."
            ) from error
        self._server = server
        url = f"http://{LOOPBACK}:{port}"
        self.context.service_url = lambda: url
        token_id, token_secret = next(iter(self.credentials.tokens.items()))
        self._address = Address(url, f"{self.context.http_base_url}/admin", token_id, token_secret)

    async def _same_place(self, http: HttpServer) -> str:
        """Listens where the last run on this state did: clients hold addresses of blobs that they were given then."""
        kept = self.context.store.get(_CREDENTIALS, _HTTP_PORT_KEY)
        try:
            url = await http.start(int(kept or 0))
        except OSError:
            log.warning("server.http_port_taken", port=int(kept or 0))
            await http.stop()
            url = await http.start()
        self.context.store.put(_CREDENTIALS, _HTTP_PORT_KEY, url.rpartition(":")[2].encode())
        return url

    def _app_published(self, app_id: str) -> None:
        self.scheduler.published(app_id)
        self.schedules.reconsider()

    def _app_stopped(self, app_id: str) -> None:
        self.scheduler.app_stopped(app_id)
        self.logs.notify()

    async def _keep_house(self) -> None:
        pause_s = min(_HOUSEKEEPING_S, self._settings.heartbeat_timeout_s / _LOOKS_IN_A_HEARTBEAT_TIMEOUT)
        while True:
            await asyncio.sleep(pause_s)
            try:
                self.apps.reap()
                self.book.expire_old()
                self._reap_silent()
                await self.context.store.flush()
            except Exception:
                log.exception("server.housekeeping_failed")

    def _reap_silent(self) -> None:
        if self._settings.simulate:  # a simulated container lives in this process, and so as long as it
            return
        limit = self.context.clock.steady() - self._settings.heartbeat_timeout_s
        for container in list(self.scheduler.containers.values()):
            self.lifetimes.seen(container)
            if container.ready_at and container.last_heartbeat < limit:
                self.scheduler.kill(container, "missed heartbeats")

    async def stop(self) -> None:
        """Stops everything, every container first. May be called twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._started.is_set():
            await self.scheduler.stop()
            await self.launcher.stop()
        for service in self._services:
            if hasattr(service, "stop"):
                await service.stop()
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._server.wait_closed()
            self._server = None
        if self._http is not None:
            await self._http.stop()
            self._http = None
        if self._store is not None:
            self._store.close()
        if self._lock_file is not None:
            self._lock_file.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _reset_interrupt() -> None:
    """A server started in the background by a shell inherits an ignored SIGINT, and so would its containers."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
