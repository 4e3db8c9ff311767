"""Around every request: its id, its line in the log, and an answer in our shape even if everything else broke."""

import secrets
import time

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_error

log = structlog.get_logger(__name__)

_FIRST_SERVER_ERROR = 500


class Envelope:
    """ASGI middleware. Adds `x-request-id` to every answer and binds it to every line that is logged meanwhile."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._serve(scope, receive, send, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status: int | None = None

        async def send_stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_stamped)
        except ClientDisconnect:
            log.info("request.abandoned", method=scope["method"], path=scope["path"])
            return
        except Exception:
            log.exception("request.crashed", method=scope["method"], path=scope["path"])
            if status is not None:
                raise
            await internal_error().response()(scope, receive, send_stamped)
        _log_answer(scope, status, time.perf_counter() - started)


def _log_answer(scope: Scope, status: int | None, seconds: float) -> None:
    answered = log.warning if status is None or status >= _FIRST_SERVER_ERROR else log.info
    answered(
        "request.answered",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        duration_ms=round(seconds * 1000, 1),
    )
