"""Earlier deployments of an app: kept, and put in force again."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import base64
import json
from collections.abc import Callable
from typing import Any

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import FailedPreconditionError, NotFoundError
from modal_local.records import AppRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller

_RELEASES = "releases"
#: So many deployments of an app can be gone back to.
RELEASES_KEPT = 20
_PREVIOUS = -1


class Releases:
    """Keeps what each version of an app consists of.

    Args:
        context: what services share.
        registry: apps and functions.
    """

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry

    def open(self, app: AppRecord, *, client_version: str, tag: str = "", rollback_version: int = 0) -> None:
        """Makes what is published now the newest version of a deployed app, and keeps it."""
        app.deployed_at = self._context.clock.now()
        app.version += 1
        for function in self._registry.functions_of(app.app_id):
            if function.autoscaler is not None:  # a deploy resets what autoscaler.update() has set
                function.autoscaler = None
                self._registry.save_function(function)
        app.history.append(
            {
                "version": app.version,
                "deployed_at": app.deployed_at,
                "client_version": client_version,
                "tag": tag,
                "rollback_version": rollback_version,
            }
        )
        self._registry.save_app(app)
        self._keep(app)

    def _keep(self, app: AppRecord) -> None:
        definitions = {}
        for function_id in app.function_ids.values():
            function = self._registry.functions[function_id]
            if function.published is not None:
                packed = base64.b64encode(function.published.SerializeToString()).decode()
                definitions[function_id] = [function.published_id, packed]
        value = {"function_ids": app.function_ids, "class_ids": app.class_ids, "definitions": definitions}
        self._context.store.put(_RELEASES, _key(app, app.version), json.dumps(value).encode())
        self._context.store.delete(_RELEASES, _key(app, app.version - RELEASES_KEPT))

    def kept(self, app: AppRecord, version: int) -> dict[str, Any] | None:
        """What a version consisted of; None if it is not known any more."""
        value = self._context.store.get(_RELEASES, _key(app, version))
        return None if value is None else json.loads(value)

    def restore(self, app: AppRecord, version: int) -> None:
        """Puts the definitions of a version in force.

        Raises:
            NotFoundError: it is not known.
        """
        release = self.kept(app, version)
        if release is None:
            raise NotFoundError(f"App {app.name!r} has no version {version} that can be gone back to.")
        app.function_ids, app.class_ids = dict(release["function_ids"]), dict(release["class_ids"])
        for function_id, (definition_id, packed) in release["definitions"].items():
            function = self._registry.functions[function_id]
            function.published = api_pb2.Function.FromString(base64.b64decode(packed))
            function.published_id = definition_id
            self._registry.save_function(function)


class ReleaseService:
    """Serves AppRollback and AppRollover.

    Args:
        context: what services share.
        registry: apps and functions.
        releases: what was deployed before.
        on_publish: told the app id when new definitions have taken over.
    """

    def __init__(
        self, context: Context, registry: Registry, releases: Releases, on_publish: Callable[[str], None]
    ) -> None:
        self._context = context
        self._registry = registry
        self._releases = releases
        self._on_publish = on_publish

    async def AppRollback(self, request: api_pb2.AppRollbackRequest, caller: Caller) -> api_pb2.AppRollbackResponse:
        """Deploys an earlier version again, as a new one; -1 is the one before the newest."""
        app = self._deployed(request.app_id)
        version = app.version - 1 if request.version == _PREVIOUS else request.version
        self._releases.restore(app, version)
        self._releases.open(app, client_version="", rollback_version=version)
        self._on_publish(app.app_id)
        return api_pb2.AppRollbackResponse(url=self._page(app), deployed_at=app.deployed_at)

    async def AppRollover(self, request: api_pb2.AppRolloverRequest, caller: Caller) -> api_pb2.AppRolloverResponse:
        """Replaces all containers of an app by new ones of the same definitions."""
        app = self._deployed(request.app_id)
        for function_id in app.function_ids.values():
            function = self._registry.functions[function_id]
            function.published_id = self._context.ids.new("de")
            self._registry.save_function(function)
        self._releases.open(app, client_version="")
        self._on_publish(app.app_id)
        return api_pb2.AppRolloverResponse(url=self._page(app), deployed_at=app.deployed_at)

    def _deployed(self, app_id: str) -> AppRecord:
        app = self._registry.app(app_id)
        if app.state != api_pb2.APP_STATE_DEPLOYED:
            raise FailedPreconditionError(f"App {app_id!r} is not deployed.")
        return app

    def _page(self, app: AppRecord) -> str:
        return f"{self._context.http_base_url}/admin/apps/{app.app_id}"


def _key(app: AppRecord, version: int) -> str:
    return f"{app.app_id}/{version}"
