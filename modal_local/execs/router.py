"""The task command router: the service that clients ask for commands in containers, on the same port as all others."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from google.protobuf import message_factory
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2

from modal_local.context import Context
from modal_local.contracts import SecretEnvironments
from modal_local.errors import (
    InvalidArgumentError,
    NotFoundError,
    RpcError,
    UnauthenticatedError,
    UnimplementedError,
)
from modal_local.execs.commands import Command, Place
from modal_local.rpc import Caller

_SERVICE: Final = "TaskCommandRouter"
_TOKEN_LIFETIME_S: Final = 3600
_STDERR: Final = router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
_STREAMED: Final = frozenset({"TaskExecStdioRead"})


class Places(Protocol):
    """What is asked of the launcher of containers."""

    def place(self, task_id: str) -> Place:
        """Where a container is. Raises NotFoundError, UnimplementedError."""

    async def gone(self, task_id: str) -> None:
        """Returns when a container has ended."""


class CommandRouter:
    """Serves TaskGetCommandRouterAccess, and the router's own RPCs. A handler object for grpclib's server.

    Args:
        context: what services share.
        places: where containers are.
        secret_environments: the variables of secrets.
        prefix: words before each command, so that it ends with the server.
    """

    def __init__(
        self, context: Context, places: Places, secret_environments: SecretEnvironments, prefix: tuple[str, ...]
    ) -> None:
        self._context = context
        self._places = places
        self._secrets = secret_environments
        self._prefix = prefix
        self._tokens: dict[str, str] = {}
        self._commands: dict[tuple[str, str], Command] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    async def TaskGetCommandRouterAccess(
        self, request: api_pb2.TaskGetCommandRouterAccessRequest, caller: Caller
    ) -> api_pb2.TaskGetCommandRouterAccessResponse:
        """Where the router is, and a token for one container."""
        self._places.place(request.task_id)
        token = _token(request.task_id)
        self._tokens[token] = request.task_id
        return api_pb2.TaskGetCommandRouterAccessResponse(jwt=token, url=self._context.service_url())

    async def stop(self) -> None:
        """Ends all commands. May be called twice."""
        for command in self._commands.values():
            command.kill()
        watchers = list(self._watchers)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    # The router's own RPCs.

    async def _TaskExecStart(self, request: router_pb2.TaskExecStartRequest) -> router_pb2.TaskExecStartResponse:
        key = (request.task_id, request.exec_id)
        if key in self._commands:
            return router_pb2.TaskExecStartResponse()
        if request.HasField("pty_info") and request.pty_info.enabled:
            raise UnimplementedError("modal_local does not serve terminals; use `modal container exec --no-pty`.")
        place = self._places.place(request.task_id)
        more = {**self._secrets.env_for(list(request.secret_ids)), **_variables(request)}
        directory = place.directory / request.workdir if request.workdir else place.directory
        inside = Place(place.pid, {**place.environment, **more}, directory, place.mounted)
        try:
            command = await Command.start(inside, list(request.command_args), self._prefix, request.timeout_secs)
        except OSError as error:
            raise InvalidArgumentError(f"{request.command_args[0]!r} cannot be run: {error.strerror}.") from None
        self._commands[key] = command
        watcher = asyncio.create_task(self._end_with_container(request.task_id, command))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return router_pb2.TaskExecStartResponse()

    async def _end_with_container(self, task_id: str, command: Command) -> None:
        gone = asyncio.create_task(self._places.gone(task_id))
        ended = asyncio.create_task(command.wait())
        try:
            await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            command.kill()
            gone.cancel()
            ended.cancel()

    async def _TaskExecStdioRead(
        self, request: router_pb2.TaskExecStdioReadRequest
    ) -> AsyncIterator[router_pb2.TaskExecStdioReadResponse]:
        command = self._command(request)
        output = command.stderr if request.file_descriptor == _STDERR else command.stdout
        async for data in output.read(request.offset):
            yield router_pb2.TaskExecStdioReadResponse(data=data)

    async def _TaskExecStdinWrite(
        self, request: router_pb2.TaskExecStdinWriteRequest
    ) -> router_pb2.TaskExecStdinWriteResponse:
        await self._command(request).write(request.offset, request.data, eof=request.eof)
        return router_pb2.TaskExecStdinWriteResponse()

    async def _TaskExecStdinStatus(
        self, request: router_pb2.TaskExecStdinStatusRequest
    ) -> router_pb2.TaskExecStdinStatusResponse:
        command = self._command(request)
        return router_pb2.TaskExecStdinStatusResponse(num_bytes_written=command.written, closed=command.closed)

    async def _TaskExecPoll(self, request: router_pb2.TaskExecPollRequest) -> router_pb2.TaskExecPollResponse:
        code = self._command(request).code
        return router_pb2.TaskExecPollResponse(**({} if code is None else _exit(code)))

    async def _TaskExecWait(self, request: router_pb2.TaskExecWaitRequest) -> router_pb2.TaskExecWaitResponse:
        return router_pb2.TaskExecWaitResponse(**_exit(await self._command(request).wait()))

    def _command(self, request: Any) -> Command:
        found = self._commands.get((request.task_id, request.exec_id))
        if found is None:
            raise NotFoundError(f"Container {request.task_id!r} runs no command {request.exec_id!r}.")
        return found

    # How they are reached.

    def __mapping__(self) -> dict[str, Handler]:
        """The table grpclib asks for; what is not served answers UNIMPLEMENTED by name."""
        service = router_pb2.DESCRIPTOR.services_by_name[_SERVICE]
        return {
            f"/{service.full_name}/{method.name}": Handler(
                self._handler(method.name),
                _cardinality(method),
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
            for method in service.methods
        }

    def _handler(self, name: str) -> Callable[[Any], Any]:
        method = getattr(self, f"_{name}", None)

        async def handle(stream: Any) -> None:
            try:
                if method is None:
                    raise UnimplementedError(f"modal_local does not serve {name}, see docs/modal_local.md.")
                request = await stream.recv_message()
                self._check(stream.metadata, request.task_id)
                if name in _STREAMED:
                    async for answer in method(request):
                        await stream.send_message(answer)
                else:
                    await stream.send_message(await method(request))
            except RpcError as error:
                raise GRPCError(Status(error.status), error.message) from None

        return handle

    def _check(self, metadata: Any, task_id: str) -> None:
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        if self._tokens.get(token) != task_id:
            raise UnauthenticatedError("Expected the token that TaskGetCommandRouterAccess gives for this container.")


def _variables(request: router_pb2.TaskExecStartRequest) -> dict[str, str]:
    return dict(request.env)


def _exit(code: int) -> dict[str, int]:
    return {"signal": -code} if code < 0 else {"code": code}


def _token(task_id: str) -> str:
    """In the form of a JWT, of which clients read when it ends; what is checked is that we have given it."""
    parts = ({"alg": "none"}, {"exp": time.time() + _TOKEN_LIFETIME_S, "task": task_id})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, secrets.token_urlsafe(24)])


def _cardinality(method: Any) -> Cardinality:
    if method.client_streaming:
        return Cardinality.STREAM_STREAM if method.server_streaming else Cardinality.STREAM_UNARY
    return Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY
