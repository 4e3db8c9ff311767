"""The gRPC side by itself, over a real loopback connection: who is let in, what is done once, what is not served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub
from structlog.testing import capture_logs

from modal_local.context import Context
from modal_local.errors import ResourceExhaustedError
from modal_local.http import LOOPBACK
from modal_local.rpc import Caller, Credentials, RpcRouter, StatusDetailsCodec
from modal_local.settings import Settings
from modal_local.store import Store
from modal_local.transport import GrpcServer

TOKEN = {"x-modal-token-id": "ak", "x-modal-token-secret": "as"}


class Services:
    """Serves two RPCs for real, and counts."""

    def __init__(self) -> None:
        self.hellos = 0

    async def ClientHello(self, request: Empty, caller: Caller) -> api_pb2.ClientHelloResponse:  # noqa: N802 - an RPC
        self.hellos += 1
        await asyncio.sleep(0.05)
        return api_pb2.ClientHelloResponse(warning=str(self.hellos))

    async def WorkspaceNameLookup(self, request: Empty, caller: Caller) -> Any:  # noqa: N802 - an RPC
        raise ResourceExhaustedError("too much", retry_after_s=1.5)

    async def AppGetLogs(  # noqa: N802 - an RPC
        self, request: api_pb2.AppGetLogsRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        for number in range(3):
            yield api_pb2.TaskLogsBatch(entry_id=str(number))


def serve(tmp_path: Path, check: Callable[[ModalClientStub, Services], Awaitable[None]]) -> None:
    """Runs a check against a server with these services."""

    async def run() -> None:
        context = Context(store=Store(None), settings=Settings(), state_dir=tmp_path)
        services = Services()
        server = GrpcServer([RpcRouter(context, [services], Credentials(tokens={"ak": "as"}))])
        port = await server.listen(0)
        channel = Channel(LOOPBACK, port, status_details_codec=StatusDetailsCodec())
        try:
            await check(ModalClientStub(channel), services)
        finally:
            channel.close()
            server.close()
            await server.wait_closed()

    asyncio.run(run())


def test_tries_with_one_key_are_one_call_also_at_the_same_time(tmp_path: Path) -> None:
    async def check(stub: ModalClientStub, services: Services) -> None:
        metadata = {**TOKEN, "x-idempotency-key": "one"}
        together = await asyncio.gather(*(stub.ClientHello(Empty(), metadata=metadata) for _ in range(5)))
        later = await stub.ClientHello(Empty(), metadata=metadata)
        assert {answer.warning for answer in [*together, later]} == {"1"}
        other = await stub.ClientHello(Empty(), metadata={**TOKEN, "x-idempotency-key": "two"})
        assert other.warning == "2"

    serve(tmp_path, check)


def test_a_try_that_was_cut_off_leaves_the_next_one_free(tmp_path: Path) -> None:
    async def check(stub: ModalClientStub, services: Services) -> None:
        metadata = {**TOKEN, "x-idempotency-key": "one"}
        with pytest.raises(asyncio.TimeoutError):
            await stub.ClientHello(Empty(), metadata=metadata, timeout=0.01)
        assert (await stub.ClientHello(Empty(), metadata=metadata)).warning

    serve(tmp_path, check)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"x-modal-token-id": "ak", "x-modal-token-secret": "wrong"},
        {"x-modal-token-id": "ak"},
        {"x-modal-local-task": "ta-1", "x-modal-local-task-secret": "guess"},
        {"x-modal-local-task": "ta-1"},
    ],
)
def test_strangers_are_not_let_in(tmp_path: Path, metadata: dict[str, str]) -> None:
    async def check(stub: ModalClientStub, services: Services) -> None:
        with pytest.raises(GRPCError) as refused:
            await stub.ClientHello(Empty(), metadata=metadata)
        assert refused.value.status is Status.UNAUTHENTICATED
        assert services.hellos == 0

    serve(tmp_path, check)


def test_what_is_not_served_is_named_and_logged_once(tmp_path: Path) -> None:
    async def check(stub: ModalClientStub, services: Services) -> None:
        for _ in range(3):
            with pytest.raises(GRPCError, match="does not serve SandboxCreate") as refused:
                await stub.SandboxCreate(api_pb2.SandboxCreateRequest(), metadata=TOKEN)
            assert refused.value.status is Status.UNIMPLEMENTED

    with capture_logs() as logs:
        serve(tmp_path, check)
    assert [entry["method"] for entry in logs if entry["event"] == "rpc.unserved"] == ["SandboxCreate"]


def test_errors_and_streams_cross_the_wire(tmp_path: Path) -> None:
    async def check(stub: ModalClientStub, services: Services) -> None:
        with pytest.raises(GRPCError, match="too much") as refused:
            await stub.WorkspaceNameLookup(Empty(), metadata=TOKEN)
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        batches = await stub.AppGetLogs(api_pb2.AppGetLogsRequest(), metadata=TOKEN)
        assert [batch.entry_id for batch in batches] == ["0", "1", "2"]

    serve(tmp_path, check)


def test_one_rpc_is_served_by_one(tmp_path: Path) -> None:
    context = Context(store=Store(None), settings=Settings(), state_dir=tmp_path)
    with pytest.raises(ValueError, match="is served twice"):
        RpcRouter(context, [Services(), Services()], Credentials())
