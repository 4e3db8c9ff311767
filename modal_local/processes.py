"""Containers as processes: the SDK's own entrypoint on this machine's interpreter.

Most are forked from a process that has imported the entrypoint already (`standby`); others start their own. Each runs
in a session of its own, so that what it starts can be ended with it, and asks the kernel to be killed when the server
dies. It sees the deployed source and this machine's packages, but no `.pth` directory of the deployer's, so not the
working tree. Volumes are bind-mounted at their paths in a mount namespace of the container's own.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.contracts import BucketMounts, MountPlan, SecretEnvironments, VolumeMounts
from modal_local.errors import ModalLocalError, NotFoundError
from modal_local.execs.commands import Place
from modal_local.handles import app_layout
from modal_local.logs import STDERR, STDOUT, LogBook
from modal_local.ports import wait_until_free, web_server_ports
from modal_local.records import ContainerRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller, Credentials, override_headers
from modal_local.services.images import ImageService
from modal_local.services.mounts import MountService
from modal_local.standby.keeper import Assignment, Standby, StandbyError

_LINE_LIMIT_BYTES = 1024 * 1024
_RESTORE_STATE = "restore-state.json"
_PORT_PATIENCE_S = 10.0
_TOLD_LINES = 5  # of a failed container's output, in the server's own log
_ISOLATION = Path(__file__).parent / "isolation"
# What a container inherits of the server's environment: where programs and certificates are, and the language.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
TO_DIE_WITH_THE_SERVER = ("setpriv", "--pdeathsig", "KILL")
# What each container is told about where it is, and the interpreter that waits for one, too.
_SAME_FOR_ALL = {
    "PYTHONPATH": str(_ISOLATION),
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "MODAL_IS_REMOTE": "1",
    "MODAL_CONFIG_PATH": os.devnull,
    "MODAL_DISABLE_API_PROXY": "1",
}


class _Process(Protocol):
    """A process: one that this one has started, or a fork of the waiting interpreter."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """How it has ended; None while it lives."""

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""

    def send_signal(self, signal: int) -> None:
        """A signal to it alone."""


@dataclass(frozen=True, slots=True)
class _Start:
    """How a container is to start."""

    source: Path
    work: Path
    environment: dict[str, str]
    plan: MountPlan

    def modules(self) -> Iterable[str]:
        """The top-level modules of its source."""
        return (entry.name.partition(".")[0] for entry in self.source.iterdir())


class ProcessLauncher:
    """Starts containers as processes. Implements Launcher."""

    def __init__(
        self,
        context: Context,
        registry: Registry,
        credentials: Credentials,
        logs: LogBook,
        *,
        images: ImageService,
        mounts: MountService,
        secret_environments: SecretEnvironments,
        volumes: VolumeMounts,
        buckets: BucketMounts,
    ) -> None:
        self._context = context
        self._registry = registry
        self._credentials = credentials
        self._logs = logs
        self._images = images
        self._mounts = mounts
        self._secrets = secret_environments
        self._volumes = volumes
        self._buckets = buckets
        interval_s = context.settings.heartbeat_interval_s
        self._same_for_all = {**_SAME_FOR_ALL, "MODAL_HEARTBEAT_INTERVAL": f"{interval_s:g}"}
        self._standby = Standby({**_inherited(), **self._same_for_all}, TO_DIE_WITH_THE_SERVER)
        self._processes: dict[str, _Process] = {}
        self._places: dict[str, Place] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Gets an interpreter ready in the background, if the settings say so."""
        if self._context.settings.standby and shutil.which(TO_DIE_WITH_THE_SERVER[0]) is not None:
            await self._standby.start()

    async def launch(self, container: ContainerRecord, ended: Callable[[ContainerRecord, int | None], None]) -> None:
        """Starts the container's process; `ended` is called when it is gone.

        Raises:
            ModalLocalError: the machine lacks what it takes.
            OSError: the process could not be started.
        """
        home = self._home(container.task_id)
        function = self._registry.functions[container.function_id]
        definition = self._registry.definition(function)
        source = self._mounts.lay_out([*self._images.context_mounts(definition.image_id), *definition.mount_ids])
        work = home / "root"
        work.mkdir(parents=True)
        for entry in source.iterdir():
            (work / entry.name).symlink_to(entry)
        arguments = home / "arguments.pb"
        arguments.write_bytes((await self._arguments(container, definition)).SerializeToString())
        secret = secrets.token_hex(16)
        self._credentials.container_secrets[container.task_id] = secret
        environment = self._environment(container, definition, source)
        environment["MODAL_CONTAINER_ARGUMENTS_PATH"] = str(arguments)
        environment["MODAL_OVERRIDE_HEADERS"] = override_headers(container.task_id, secret)
        if definition.checkpointing_enabled:
            environment["MODAL_ENABLE_SNAP_RESTORE"] = "1"
            environment["MODAL_RESTORE_STATE_PATH"] = str(home / _RESTORE_STATE)
        if shutil.which(TO_DIE_WITH_THE_SERVER[0]) is None:
            raise ModalLocalError("Containers are started by `setpriv` of util-linux, which is not on the PATH.")
        for port in web_server_ports(definition):
            await wait_until_free(port, _PORT_PATIENCE_S)
        buckets = await self._buckets.prepare_buckets(definition.cloud_bucket_mounts)
        plan = await self._volumes.prepare_mounts(container.task_id, definition.volume_mounts, buckets)
        # Pipes of our own: asyncio's wait() waits for its pipes too, which a child of the container may hold open.
        out, err = _Pipe(), _Pipe()
        try:
            process = await self._begin(_Start(source, work, environment, plan), out.write_end, err.write_end)
        except BaseException:
            os.close(out.read_end)
            os.close(err.read_end)
            raise
        finally:
            os.close(out.write_end)
            os.close(err.write_end)
        self._processes[container.task_id] = process
        self._places[container.task_id] = Place(process.pid, environment, work, mounted=bool(plan.mounts))
        self._context.logger.info("container.started", container_id=container.task_id, function=function.tag)
        readers = [
            asyncio.create_task(self._read(container, pipe, descriptor))
            for pipe, descriptor in ((out, STDOUT), (err, STDERR))
        ]
        watcher = asyncio.create_task(self._watch(container, process, readers, ended))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def place(self, task_id: str) -> Place:
        """Where a container is, for commands beside it. Raises NotFoundError."""
        found = self._places.get(task_id)
        if found is None:
            raise NotFoundError(f"Container {task_id!r} is not running here.")
        return found

    async def gone(self, task_id: str) -> None:
        """Returns when a container has ended."""
        process = self._processes.get(task_id)
        if process is not None:
            await process.wait()

    def kill(self, container: ContainerRecord) -> None:
        """SIGKILL to the container and all that it has started."""
        self.signal(container, signal.SIGKILL)

    def interrupt(self, container: ContainerRecord) -> None:
        """SIGINT to the container itself, as a preemption does."""
        process = self._processes.get(container.task_id)
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGINT)

    def restore(self, container: ContainerRecord) -> None:
        """Lets a container that has been told to snapshot itself go on. Nothing is frozen here."""
        home = self._home(container.task_id)
        state = {"task_id": container.task_id, "function_id": container.function_id}
        part = home / f"{_RESTORE_STATE}.part"
        part.write_text(json.dumps(state))
        part.replace(home / _RESTORE_STATE)

    def stop_container(self, container: ContainerRecord) -> None:
        """SIGSTOP: it hangs, heartbeats and all."""
        self.signal(container, signal.SIGSTOP)

    def signal(self, container: ContainerRecord, number: signal.Signals) -> None:
        """A signal to the container's whole process group."""
        process = self._processes.get(container.task_id)
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    async def stop(self) -> None:
        """Waits until every process is gone. May be called twice."""
        for process in list(self._processes.values()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._watchers:
            await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._standby.stop()

    def _home(self, task_id: str) -> Path:
        return self._context.state_dir / "containers" / task_id

    async def _arguments(self, container: ContainerRecord, definition: api_pb2.Function) -> api_pb2.ContainerArguments:
        function = self._registry.functions[container.function_id]
        app = self._registry.app(container.app_id)
        runs = api_pb2.Function()
        runs.CopyFrom(definition)
        # GPU memory cannot be frozen without Modal's runtime; the SDK would look for it in /proc/gvisor.
        runs.ClearField("_experimental_enable_gpu_snapshot")
        checkpoint_id = None
        if definition.checkpointing_enabled:
            # The SDK then goes the whole way of a snapshot: it drops its connection and waits to be restored.
            runs.is_checkpointing_function = True
            checkpoint_id = f"cp-{container.task_id.partition('-')[2]}"
        layout = app_layout(self._registry, app)
        layout.objects.extend(await self._dependencies(layout, definition))
        return api_pb2.ContainerArguments(
            task_id=container.task_id,
            function_id=container.function_id,
            app_id=app.app_id,
            function_def=runs,
            serialized_params=function.serialized_params,
            environment_name=app.environment,
            app_layout=layout,
            checkpoint_id=checkpoint_id,
        )

    async def _dependencies(self, layout: api_pb2.AppLayout, definition: api_pb2.Function) -> list[api_pb2.Object]:
        """The other objects that the function's module names: images, mounts, secrets, volumes and the like."""
        known = {entry.object_id for entry in layout.objects}
        objects: list[api_pb2.Object] = []
        for dependency in definition.object_dependencies:
            object_id = dependency.object_id
            if object_id in known:
                continue
            known.add(object_id)
            entry = api_pb2.Object(object_id=object_id)
            if object_id.startswith("vo-"):
                request = api_pb2.VolumeGetByIdRequest(volume_id=object_id)
                found = await self._volumes.VolumeGetById(request, Caller("client"))
                entry.volume_metadata.CopyFrom(found.metadata)
            elif object_id.startswith("mo-"):
                entry.mount_handle_metadata.CopyFrom(api_pb2.MountHandleMetadata())
            objects.append(entry)
        return objects

    def _environment(self, container: ContainerRecord, definition: api_pb2.Function, source: Path) -> dict[str, str]:
        environment = _inherited()
        environment.update(self._images.environment_of(definition.image_id))
        environment.update(self._secrets.env_for(list(definition.secret_ids)))
        app = self._registry.app(container.app_id)
        path = [str(_ISOLATION), str(source), *filter(None, [environment.get("PYTHONPATH")])]
        environment.update(
            {
                **self._same_for_all,
                "PYTHONPATH": os.pathsep.join(path),
                "MODAL_SERVER_URL": self._context.service_url(),
                "MODAL_TASK_ID": container.task_id,
                "MODAL_ENVIRONMENT": app.environment,
                "MODAL_IMAGE_ID": definition.image_id,
                "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_LOCAL",
                "MODAL_REGION": "local",
            }
        )
        return environment

    async def _begin(self, start: _Start, stdout: int, stderr: int) -> _Process:
        if (
            self._context.settings.standby
            and start.plan.native
            and await self._standby.takes(start.environment, start.modules())
        ):
            mounts = [(str(bind.source), str(bind.target), bind.read_only) for bind in start.plan.mounts]
            try:
                return await self._standby.fork(Assignment(start.environment, start.work, mounts, stdout, stderr))
            except StandbyError as error:
                self._context.logger.warning("standby.failed", error=str(error))
        # Twice where a prefix stands before it: a shell that waits for a mount must not outlive the server either.
        leading = TO_DIE_WITH_THE_SERVER if start.plan.command_prefix else ()
        return await asyncio.create_subprocess_exec(
            *leading,
            *start.plan.command_prefix,
            *TO_DIE_WITH_THE_SERVER,
            *(sys.executable, "-m", "modal._container_entrypoint"),
            cwd=start.work,
            env=start.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    async def _watch(
        self,
        container: ContainerRecord,
        process: _Process,
        readers: list[asyncio.Task[None]],
        ended: Callable[[ContainerRecord, int | None], None],
    ) -> None:
        code = await process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind
        self._processes.pop(container.task_id, None)
        self._places.pop(container.task_id, None)
        self._credentials.container_secrets.pop(container.task_id, None)
        await asyncio.wait(readers, timeout=1.0)
        for reader in readers:
            reader.cancel()
        await self._volumes.detach(container.task_id, commit=code == 0)
        tail = self._logs.last(container.app_id, container.task_id, _TOLD_LINES) if code else []
        self._context.logger.info(
            "container.ended",
            container_id=container.task_id,
            exit_code=code,
            reason=container.end_reason,
            tail=tail,
        )
        ended(container, 128 - code if code < 0 else code)
        await asyncio.to_thread(shutil.rmtree, self._home(container.task_id), ignore_errors=True)

    async def _read(self, container: ContainerRecord, pipe: "_Pipe", descriptor: int) -> None:
        async with pipe.lines() as stream:
            while True:
                try:
                    line = await stream.readline()
                except ValueError:  # longer than the limit; what was read is dropped
                    continue
                if not line:
                    return
                self._logs.add(container, self._context.clock.now(), descriptor, line.decode(errors="replace"))


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


class _Pipe:
    """A pipe whose read end belongs to the event loop."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    @contextlib.asynccontextmanager
    async def lines(self) -> AsyncIterator[asyncio.StreamReader]:
        """A reader of what is written; closes the read end at last."""
        stream = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(self.read_end, "rb", buffering=0)
        )
        try:
            yield stream
        finally:
            transport.close()
