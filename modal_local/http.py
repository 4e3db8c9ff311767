"""The HTTP side: blobs, volume blocks and the admin API, on one loopback port."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web

from modal_local.rpc import is_loopback

LOOPBACK = "127.0.0.1"
_MAX_BODY_BYTES = 8 * 1024**3


class HasRoutes(Protocol):
    """A service that contributes HTTP routes."""

    def routes(self) -> list[web.RouteDef]:
        """The routes, with absolute paths of their own (`/blob/...`, `/admin/...`)."""


@web.middleware
async def loopback_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses whoever is not on this machine."""
    if request.remote is not None and not is_loopback(request.remote):
        raise web.HTTPForbidden(text=f"modal_local answers loopback only; this came from {request.remote}.")
    return await handler(request)


class HttpServer:
    """One aiohttp server on a free loopback port."""

    def __init__(self, services: Sequence[object]) -> None:
        self._app = web.Application(middlewares=[loopback_only], client_max_size=_MAX_BODY_BYTES)
        for service in services:
            routes = getattr(service, "routes", None)
            if routes is not None:
                self._app.add_routes(routes())
        self._runner: web.AppRunner | None = None
        self.base_url = ""

    async def start(self, port: int = 0) -> str:
        """Listens and returns the base URL, without a slash at the end.

        Raises:
            OSError: the port is taken.
        """
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.base_url = f"http://{LOOPBACK}:{bound}"
        return self.base_url

    async def stop(self) -> None:
        """Stops listening. May be called twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
