"""Where web functions are reached: a loopback port for each, and the way from a request to its function."""

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from aiohttp import web
from modal_proto import api_pb2

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.contracts import BlobFiles
from modal_local.errors import InvalidArgumentError, RpcError
from modal_local.http import LOOPBACK, loopback_only
from modal_local.records import AppRecord, CallRecord, FunctionRecord, InputRecord
from modal_local.registry import Registry
from modal_local.web import messages
from modal_local.web.exchange import CALL_PARAMETER, Exchange, answer_http, answer_websocket
from modal_local.web.messages import BadRequestError

_ADDRESSES = "web_addresses"
_UNSPECIFIED = api_pb2.WEBHOOK_TYPE_UNSPECIFIED
_MAX_BODY_BYTES = 4 * 1024**3  # as on Modal


class Calls(Protocol):
    """What the gateway asks of the scheduler's dispatcher."""

    def submit(self, record: InputRecord) -> None:
        """An input is ready to run."""

    def check_open(self, function_id: str) -> None:
        """Raises RpcError for a function that cannot be called now."""

    def cancel_call(self, call: CallRecord, *, terminate_containers: bool) -> None:
        """Ends a call."""


class Gateway:
    """Serves web functions.

    Args:
        context: what services share.
        registry: functions.
        book: calls.
        blobs: where containers put long messages.
        tokens: proxy tokens that are let in, by id.

    Attributes:
        calls: the dispatcher; set before the first request.
        bind: finds the variant of a class with serialised parameters, given its function id; set likewise.
    """

    calls: Calls
    bind: Callable[[str, bytes], str]

    def __init__(
        self, context: Context, registry: Registry, book: CallBook, blobs: BlobFiles, tokens: Mapping[str, str]
    ) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._blobs = blobs
        self._tokens = tokens
        self._targets: dict[int, tuple[str, str]] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Opens the ports of what is deployed. Who had asked an earlier run of the server is not there any more."""
        for function in list(self._registry.functions.values()):
            if not function.web_urls:
                continue
            app = self._registry.apps.get(function.app_id)
            for record in [r for r in self._book.unfinished() if r.call.function_id == function.function_id]:
                self._book.end(record, api_pb2.FunctionGetOutputsItem(result=_gone()))
            if app is not None and app.live:
                for name in list(function.web_urls):
                    await self._open(app, function, name)
                self._registry.save_function(function)

    async def stop(self) -> None:
        """Closes all ports. May be called twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for keeper in self._keepers:
            keeper.cancel()
        self._targets.clear()

    # Addresses.

    async def give_addresses(
        self,
        function: FunctionRecord,
        config: api_pb2.WebhookConfig,
        methods: Mapping[str, api_pb2.MethodDefinition],
    ) -> None:
        """Gives a function, and each web method of a class, its URL, and listens there.

        Raises:
            InvalidArgumentError: it asks for what is not served here.
        """
        configs = {"": config, **{name: method.webhook_config for name, method in methods.items()}}
        wanted = {name: one for name, one in configs.items() if one.type != _UNSPECIFIED}
        for one in wanted.values():
            if one.custom_domains:
                raise InvalidArgumentError("modal_local does not serve custom domains of web functions.")
        function.web_urls = {name: url for name, url in function.web_urls.items() if name in wanted}
        app = self._registry.app(function.app_id)
        for name in wanted:
            await self._open(app, function, name)

    async def _open(self, app: AppRecord, function: FunctionRecord, name: str) -> None:
        ephemeral = "dev" if app.ephemeral else ""
        key = json.dumps([app.environment, app.name or app.description, ephemeral, function.tag, name])
        async with self._opening:
            kept = self._context.store.get(_ADDRESSES, key)
            port = int(kept or 0)
            if port not in self._targets:
                port = await self._listen(port)
                self._context.store.put(_ADDRESSES, key, str(port).encode())
            self._targets[port] = (function.function_id, name)
        function.web_urls[name] = f"http://{LOOPBACK}:{port}"

    async def _listen(self, port: int) -> int:
        if self._runner is None:
            app = web.Application(middlewares=[loopback_only], client_max_size=_MAX_BODY_BYTES)
            app.router.add_route("*", "/{path:.*}", self._serve)
            # A client that goes away ends its call, as on Modal.
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
            await self._runner.setup()
        for wanted in (port, 0):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, wanted))
            except OSError:
                listener.close()
                self._context.logger.warning("web.port_taken", port=wanted)
                continue
            await web.SockSite(self._runner, listener).start()
            return int(listener.getsockname()[1])
        raise InvalidArgumentError("No port is free for a web function.")

    # Requests.

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        _, port = request.get_extra_info("sockname")
        function_id, method = self._targets[port]
        function = self._registry.functions[function_id]
        try:
            self.calls.check_open(function_id)
        except RpcError:
            return web.Response(status=404, text="modal-http: app for invoked web endpoint is stopped")
        if self._config(function, method).requires_proxy_auth and not self._authorised(request):
            return web.Response(status=401, text="modal-http: missing credentials for proxy authorization")
        resumed = request.query.get(CALL_PARAMETER)
        if resumed is not None:
            return await self._resume(request, resumed)
        try:
            target = self._variant(function, request)
        except BadRequestError as error:
            return web.Response(status=400, text=f"modal-http: bad request: {error}")
        websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        exchange = self._begin(target, method, request, "websocket" if websocket else "http")
        if websocket:
            with self._ended_with_its_client(exchange):
                try:
                    return await answer_websocket(exchange, request)
                finally:
                    exchange.end()
        body = asyncio.create_task(exchange.send_body(request))
        try:
            return await self._answer(exchange, request)
        finally:
            body.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await body

    def _config(self, function: FunctionRecord, method: str) -> api_pb2.WebhookConfig:
        definition = self._registry.definition(function)
        return definition.method_definitions[method].webhook_config if method else definition.webhook_config

    def _authorised(self, request: web.Request) -> bool:
        secret = self._tokens.get(request.headers.get("Modal-Key", ""))
        return secret is not None and hmac.compare_digest(secret, request.headers.get("Modal-Secret", ""))

    def _variant(self, function: FunctionRecord, request: web.Request) -> str:
        schema = self._registry.definition(function).class_parameter_info.schema
        if not schema:
            return function.function_id
        return self.bind(function.function_id, messages.parameters(schema, request.query))

    def _begin(self, function_id: str, method: str, request: web.Request, kind: str) -> Exchange:
        asked = api_pb2.FunctionMapRequest(
            function_id=function_id,
            function_call_type=api_pb2.FUNCTION_CALL_TYPE_UNARY,
            function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
        )
        call = self._book.open_call(function_id, self._registry.functions[function_id].app_id, asked, "")
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        host, port = request.get_extra_info("peername")
        described = messages.scope(
            kind,
            request.method,
            request.raw_path,
            request.raw_headers,
            (str(host), int(port)),
            [name.strip() for name in offered.split(",") if name.strip()],
        )
        record = self._book.add_input(call, 0, messages.scope_input(described, method))
        self._book.close_call(call, 1)
        exchange = Exchange(call, record, lambda blob_id: self._blobs.path_of(blob_id).read_bytes())
        self.calls.submit(record)
        keeper = asyncio.create_task(exchange.forget_when_over())
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)
        return exchange

    async def _resume(self, request: web.Request, call_id: str) -> web.StreamResponse:
        exchange = self._exchanges.get(call_id)
        if exchange is None:
            return web.Response(status=404, text="modal-http: invalid function call id")
        return await self._answer(exchange, request)

    async def _answer(self, exchange: Exchange, request: web.Request) -> web.StreamResponse:
        call_id = exchange.call.call_id
        with self._ended_with_its_client(exchange):
            if await exchange.begins(self._context.settings.web_timeout_s):
                self._exchanges.pop(call_id, None)
                try:
                    return await answer_http(exchange, request)
                finally:
                    exchange.end()
        # Too long for one request: the client comes back for the answer, and nothing is lost if it is slow to.
        self._exchanges[call_id] = exchange
        again = request.rel_url.update_query({CALL_PARAMETER: call_id})
        return web.Response(status=303, headers={"Location": str(again)})

    @contextlib.contextmanager
    def _ended_with_its_client(self, exchange: Exchange) -> Iterator[None]:
        try:
            yield
            if exchange.broken_off:
                self.calls.cancel_call(exchange.call, terminate_containers=False)
        except (asyncio.CancelledError, ConnectionError):
            exchange.end()
            self.calls.cancel_call(exchange.call, terminate_containers=False)
            raise


def _gone() -> api_pb2.GenericResult:
    return api_pb2.GenericResult(
        status=api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, exception="The server was restarted."
    )
