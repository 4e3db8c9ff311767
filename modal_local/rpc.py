"""The gRPC side: every method of the service descriptor, routed to the object that serves it.

A *service object* is any object with public async methods named exactly as RPCs:
`async def VolumeGetOrCreate(self, request, caller) -> Response`; for server-streaming RPCs, an async generator.
What an RPC changed in the store is committed before its answer leaves. An RPC without a service is answered
UNIMPLEMENTED with its name, and logged once.
"""

import asyncio
import functools
import hmac
import inspect
import ipaddress
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from google.protobuf import any_pb2, message_factory
from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from modal_proto import api_pb2

from modal_local.errors import PermissionDeniedError, RpcError, UnauthenticatedError, UnimplementedError
from modal_local.left_out import refusal

if TYPE_CHECKING:
    from modal_local.context import Context

TASK_HEADER = "x-modal-local-task"
TASK_SECRET_HEADER = "x-modal-local-task-secret"  # noqa: S105 - the name of a header
SERVICE_NAME = "ModalClient"
# Polls change nothing, so that a repeated one may simply run again; caching their answers would cost memory.
_REPEATABLE = frozenset({"FunctionGetOutputs", "AppHeartbeat", "ContainerHeartbeat", "FunctionGetCurrentStats"})
_CACHED_ANSWERS = 100_000
_CACHED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        kind: a client with a token, or a container that we started.
        task_id: the container's id; None for a client.
        idempotency_key: the same for all tries of one call.
        client_version: the SDK's version.
    """

    kind: Literal["client", "container"]
    task_id: str | None = None
    idempotency_key: str = ""
    client_version: str = ""


class Interceptor(Protocol):
    """What faults may do to an RPC."""

    async def before(self, method: str, caller: Caller) -> None:
        """Runs before the method; may wait, or raise an RpcError."""

    async def after(self, method: str, caller: Caller) -> None:
        """Runs after the method; an RpcError raised here loses the answer of what has been done."""


@dataclass(slots=True)
class Credentials:
    """Which tokens and which containers are let in. An empty `tokens` lets any token in."""

    tokens: dict[str, str] = field(default_factory=dict)
    container_secrets: dict[str, str] = field(default_factory=dict)

    def identify(self, metadata: Any) -> Caller:
        """Says who sent the metadata.

        Raises:
            UnauthenticatedError: no token, a wrong one, or a container that was not started here.
        """
        key = str(metadata.get("x-idempotency-key", ""))
        version = str(metadata.get("x-modal-client-version", ""))
        task_id = metadata.get(TASK_HEADER)
        if task_id is not None:
            expected = self.container_secrets.get(str(task_id), "")
            if not expected or not hmac.compare_digest(expected, str(metadata.get(TASK_SECRET_HEADER, ""))):
                raise UnauthenticatedError(f"Container {task_id} is not one of this server, or has ended.")
            return Caller("container", str(task_id), key, version)
        token_id = str(metadata.get("x-modal-token-id", ""))
        if not token_id:
            raise UnauthenticatedError("Token missing. Set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET.")
        expected = self.tokens.get(token_id, "")
        if not expected or not hmac.compare_digest(expected, str(metadata.get("x-modal-token-secret", ""))):
            raise UnauthenticatedError("Token validation failed: unknown token id, or the secret does not match.")
        return Caller("client", None, key, version)


class StatusDetailsCodec(StatusDetailsCodecBase):
    """Writes status details in the shape of google.rpc.Status, which is where the SDK looks for a retry policy."""

    def encode(self, status: Status, message: str | None, details: Sequence[Message]) -> bytes:
        """Packs the details."""
        packed = []
        for detail in details:
            entry = any_pb2.Any()
            entry.Pack(detail)
            packed.append(entry)
        encoded: bytes = api_pb2.RPCStatus(code=status.value, message=message or "", details=packed).SerializeToString()
        return encoded

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        """Not used by a server."""
        return None


class _AnswerCache:
    """The answers to recent calls by idempotency key, so that a repeated try gets the first one's answer."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], tuple[asyncio.Future[Message], int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[str, str]) -> "asyncio.Future[Message] | None":
        found = self._answers.get(key)
        return None if found is None else found[0]

    def begin(self, key: tuple[str, str]) -> "asyncio.Future[Message]":
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[key] = (future, 0)
        return future

    def finish(self, key: tuple[str, str], answer: Message) -> None:
        future, _ = self._answers[key]
        size = answer.ByteSize()
        self._answers[key] = (future, size)
        self._bytes += size
        if not future.done():
            future.set_result(answer)
        while len(self._answers) > _CACHED_ANSWERS or (self._bytes > _CACHED_BYTES and len(self._answers) > 1):
            _, (_, dropped) = self._answers.popitem(last=False)
            self._bytes -= dropped

    def drop(self, key: tuple[str, str]) -> None:
        found = self._answers.pop(key, None)
        if found is not None and not found[0].done():
            found[0].cancel()


class RpcRouter:
    """The handler object that grpclib's server is given.

    Args:
        context: for the store and the logger.
        services: the service objects; two that serve the same RPC are a mistake.
        credentials: who is let in.
        interceptor: faults, or None.

    Raises:
        ValueError: a method is served twice, or a service has a public async method that is no RPC.
    """

    def __init__(
        self,
        context: "Context",
        services: Sequence[object],
        credentials: Credentials,
        interceptor: Interceptor | None = None,
    ) -> None:
        self._context = context
        self._credentials = credentials
        self._interceptor = interceptor
        self._answers = _AnswerCache()
        self._told: set[str] = set()
        self.calls: dict[str, int] = {}
        self._methods: dict[str, Callable[..., Any]] = {}
        for service in services:
            for name in method_names():
                method = getattr(service, name, None)
                if method is None:
                    continue
                if name in self._methods:
                    raise ValueError(f"RPC {name} is served twice, the second time by {type(service).__name__}.")
                self._methods[name] = method

    @property
    def served(self) -> frozenset[str]:
        """The names of the RPCs that are served."""
        return frozenset(self._methods)

    def __mapping__(self) -> dict[str, Handler]:
        """The table grpclib asks for: path to handler."""
        table: dict[str, Handler] = {}
        descriptor = api_pb2.DESCRIPTOR.services_by_name[SERVICE_NAME]
        for method in descriptor.methods:
            cardinality = _cardinality(method)
            table[f"/{descriptor.full_name}/{method.name}"] = Handler(
                self._handler(method.name, cardinality),
                cardinality,
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
        return table

    def _handler(self, name: str, cardinality: Cardinality) -> Callable[[Any], Any]:
        async def handle(stream: Any) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            try:
                _refuse_strangers(stream.peer)
                caller = self._credentials.identify(stream.metadata)
                method = self._method(name)
                request = await stream.recv_message()
                if self._interceptor is not None:
                    await self._interceptor.before(name, caller)
                if cardinality.server_streaming:
                    await self._serve_stream(stream, method, request, caller)
                else:
                    await stream.send_message(await self._answer(name, method, request, caller))
            except RpcError as error:
                raise _grpc_error(error) from None
            except (GRPCError, StreamTerminatedError, asyncio.CancelledError, ConnectionError):
                raise
            except Exception as error:
                self._context.logger.exception("rpc.failed", method=name)
                raise GRPCError(Status.INTERNAL, f"{name}: {type(error).__name__}: {error}") from error

        return handle

    def _method(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            if name not in self._told:
                self._told.add(name)
                self._context.logger.warning("rpc.unserved", method=name)
            raise UnimplementedError(refusal(name))
        return method

    async def _serve_stream(self, stream: Any, method: Callable[..., Any], request: Message, caller: Caller) -> None:
        answers = method(request, caller)
        if not inspect.isasyncgen(answers):
            raise TypeError(f"{method} serves a stream and must be an async generator.")
        try:
            async for answer in answers:
                await self._context.store.flush()
                await stream.send_message(answer)
        finally:
            await answers.aclose()

    async def _answer(self, name: str, method: Callable[..., Any], request: Message, caller: Caller) -> Message:
        if not caller.idempotency_key or name in _REPEATABLE:
            answer = await self._run(method, request, caller)
        else:
            answer = await self._answer_once(name, method, request, caller)
        if self._interceptor is not None:
            await self._interceptor.after(name, caller)
        return answer

    async def _answer_once(self, name: str, method: Callable[..., Any], request: Message, caller: Caller) -> Message:
        key = (name, caller.idempotency_key)
        earlier = self._answers.get(key)
        if earlier is not None:
            # The first try may be cut off while we wait; then this one runs itself.
            try:
                return await asyncio.shield(earlier)
            except asyncio.CancelledError:
                if not earlier.cancelled():
                    raise
        self._answers.begin(key)
        try:
            answer = await self._run(method, request, caller)
        except BaseException:
            self._answers.drop(key)
            raise
        self._answers.finish(key, answer)
        return answer

    async def _run(self, method: Callable[..., Any], request: Message, caller: Caller) -> Message:
        answer: Message = await method(request, caller)
        await self._context.store.flush()
        return answer


def method_names() -> list[str]:
    """The names of all RPCs of the installed protocol."""
    return [method.name for method in api_pb2.DESCRIPTOR.services_by_name[SERVICE_NAME].methods]


def override_headers(task_id: str, secret: str) -> str:
    """The value of MODAL_OVERRIDE_HEADERS by which a container tells us which one it is."""
    return f"{TASK_HEADER}:{task_id},{TASK_SECRET_HEADER}:{secret}"


def describe(error: RpcError) -> str:
    """One line of JSON for logs."""
    return json.dumps({"status": error.status.name, "message": error.message})


def _cardinality(method: Any) -> Cardinality:
    if method.client_streaming:
        return Cardinality.STREAM_STREAM if method.server_streaming else Cardinality.STREAM_UNARY
    return Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY


def _refuse_strangers(peer: Any) -> None:
    address = peer.addr()
    if isinstance(address, tuple) and not is_loopback(str(address[0])):
        raise PermissionDeniedError(f"modal_local answers loopback only; this came from {address[0]}.")


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _grpc_error(error: RpcError) -> GRPCError:
    details = list(error.details)
    if error.retry_after_s is not None:
        details.append(api_pb2.RPCRetryPolicy(retry_after_secs=error.retry_after_s))
    return GRPCError(error.status, error.message, details or None)
