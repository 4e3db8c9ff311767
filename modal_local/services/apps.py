"""Apps: created, published, looked up, stopped. Publishing is the one moment at which new code takes over."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import hashlib
from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.handles import app_layout
from modal_local.records import AppRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller
from modal_local.services.releases import Releases

_LISTED = (
    api_pb2.APP_STATE_DEPLOYED,
    api_pb2.APP_STATE_EPHEMERAL,
    api_pb2.APP_STATE_DETACHED,
    api_pb2.APP_STATE_DETACHED_DISCONNECTED,
    api_pb2.APP_STATE_STOPPED,
    api_pb2.APP_STATE_STOPPING,
)
# The SDK's heartbeat comes every 15 s; an ephemeral app whose client is silent for this long is stopped.
EPHEMERAL_TIMEOUT_S = 90.0


class AppService:
    """Serves the App* RPCs.

    Args:
        context: what services share.
        registry: where apps are kept.
        releases: where each deployment is kept.
        on_publish: told the app id when new definitions have taken over.
        on_stop: told the app id when an app ends.
        running: how many containers an app has now.
    """

    def __init__(
        self,
        context: Context,
        registry: Registry,
        releases: Releases,
        *,
        on_publish: Callable[[str], None],
        on_stop: Callable[[str], None],
        running: Callable[[str], int],
    ) -> None:
        self._context = context
        self._registry = registry
        self._releases = releases
        self._on_publish = on_publish
        self._on_stop = on_stop
        self._running = running

    async def AppCreate(self, request: api_pb2.AppCreateRequest, caller: Caller) -> api_pb2.AppCreateResponse:
        """Makes a new app."""
        app = self._new_app(request.description, request.environment_name, request.app_state)
        app.tags = dict(request.tags)
        self._registry.save_app(app)
        return api_pb2.AppCreateResponse(
            app_id=app.app_id, app_page_url=self._page(app.app_id), app_logs_url=self._page(app.app_id)
        )

    def _new_app(self, description: str, environment: str, state: int) -> AppRecord:
        now = self._context.clock.now()
        return AppRecord(
            app_id=self._context.ids.new("ap"),
            description=description,
            environment=self._context.environment(environment),
            state=state or api_pb2.APP_STATE_INITIALIZING,
            created_at=now,
            last_heartbeat=self._context.clock.steady(),
        )

    def _page(self, app_id: str) -> str:
        return f"{self._context.http_base_url}/admin/apps/{app_id}"

    async def AppGetOrCreate(
        self, request: api_pb2.AppGetOrCreateRequest, caller: Caller
    ) -> api_pb2.AppGetOrCreateResponse:
        """Looks an app up by name, and makes it if asked to."""
        environment = self._context.environment(request.environment_name)
        app = self._registry.deployed_app(request.app_name, environment)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise NotFoundError(f"App {request.app_name!r} not found in environment {environment!r}.")
            app = self._new_app(request.app_name, environment, api_pb2.APP_STATE_DEPLOYED)
            app.name = request.app_name
            app.deployed_at = app.created_at
            self._registry.save_app(app)
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id)

    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, caller: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        """The deployed app of that name, or an empty id."""
        environment = self._context.environment(request.environment_name)
        app = self._registry.deployed_app(request.name, environment)
        if app is None:
            return api_pb2.AppGetByDeploymentNameResponse(environment_name=environment)
        return api_pb2.AppGetByDeploymentNameResponse(
            app_id=app.app_id, environment_name=environment, lifecycle=_lifecycle(app)
        )

    async def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, caller: Caller) -> api_pb2.AppGetLayoutResponse:
        """What is published in an app."""
        return api_pb2.AppGetLayoutResponse(app_layout=app_layout(self._registry, self._registry.app(request.app_id)))

    async def AppGetLifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, caller: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        """State and times of an app."""
        return api_pb2.AppGetLifecycleResponse(lifecycle=_lifecycle(self._registry.app(request.app_id)))

    async def AppGetInfo(self, request: api_pb2.AppGetInfoRequest, caller: Caller) -> api_pb2.AppGetInfoResponse:
        """Name and environment of an app."""
        app = self._registry.app(request.app_id)
        return api_pb2.AppGetInfoResponse(info=_handle(app))

    async def AppPublish(self, request: api_pb2.AppPublishRequest, caller: Caller) -> api_pb2.AppPublishResponse:
        """Makes what was created the running state, all at once."""
        app = self._registry.app(request.app_id)
        if not app.live:
            raise InvalidArgumentError(f"App {app.app_id} is stopped and cannot be published.")
        changed = self._switch(app, request)
        deploying = request.app_state == api_pb2.APP_STATE_DEPLOYED
        if deploying:
            self._take_name(app, request)
            changed = True
        elif request.app_state != api_pb2.APP_STATE_UNSPECIFIED:
            app.state = request.app_state
        app.tags.update(request.tags)
        self._registry.save_app(app)
        self._on_publish(app.app_id)
        return api_pb2.AppPublishResponse(
            url=self._page(app.app_id), deployed_at=app.deployed_at if deploying and changed else 0.0
        )

    def _switch(self, app: AppRecord, request: api_pb2.AppPublishRequest) -> bool:
        changed = dict(request.function_ids) != app.function_ids or dict(request.class_ids) != app.class_ids
        app.function_ids = dict(request.function_ids)
        app.class_ids = dict(request.class_ids)
        for tag, class_id in app.class_ids.items():
            record = self._registry.classes[class_id]
            record.tag = tag
            self._registry.save_class(record)
        for function_id in app.function_ids.values():
            function = self._registry.functions[function_id]
            if function.staged is not None:
                changed = changed or function.staged_id != function.published_id
                function.published, function.published_id = function.staged, function.staged_id
                function.staged, function.staged_id = None, ""
                self._registry.save_function(function)
        return changed

    def _take_name(self, app: AppRecord, request: api_pb2.AppPublishRequest) -> None:
        app.state = api_pb2.APP_STATE_DEPLOYED
        app.name = request.name or app.name
        app.description = app.name
        self._releases.open(app, client_version=request.client_version, tag=request.deployment_tag)

    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, caller: Caller) -> Empty:
        """The client of an ephemeral app is there."""
        self._registry.app(request.app_id).last_heartbeat = self._context.clock.steady()
        return Empty()

    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, caller: Caller) -> Empty:
        """The client disconnects: an ephemeral app ends, a detached or deployed one continues."""
        app = self._registry.app(request.app_id)
        if app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING) and not app.deployed_at:
            self.stop_app(app)
        elif app.state == api_pb2.APP_STATE_DETACHED:
            app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
            self._registry.save_app(app)
        return Empty()

    async def AppStop(self, request: api_pb2.AppStopRequest, caller: Caller) -> Empty:
        """Ends an app: its calls are terminated, its containers stopped."""
        self.stop_app(self._registry.app(request.app_id))
        return Empty()

    def stop_app(self, app: AppRecord) -> None:
        """Ends an app; one that has ended stays so."""
        if not app.live:
            return
        app.state = api_pb2.APP_STATE_STOPPED
        app.stopped_at = self._context.clock.now()
        self._registry.save_app(app)
        self._on_stop(app.app_id)

    def reap(self) -> None:
        """Stops ephemeral apps whose client has gone silent."""
        limit = self._context.clock.steady() - EPHEMERAL_TIMEOUT_S
        for app in list(self._registry.apps.values()):
            if app.ephemeral and app.last_heartbeat < limit:
                self.stop_app(app)

    async def AppList(self, request: api_pb2.AppListRequest, caller: Caller) -> api_pb2.AppListResponse:
        """The apps of an environment."""
        environment = self._context.environment(request.environment_name)
        response = api_pb2.AppListResponse()
        for app in sorted(self._registry.apps.values(), key=lambda app: app.created_at):
            if app.environment != environment or app.state not in _LISTED:
                continue
            response.apps.add(
                app_id=app.app_id,
                description=app.name or app.description,
                name=app.name,
                state=app.state,
                created_at=app.created_at,
                stopped_at=app.stopped_at,
                n_running_tasks=self._running(app.app_id),
                metadata=_handle(app),
            )
        return response

    async def AppDeploymentHistory(
        self, request: api_pb2.AppDeploymentHistoryRequest, caller: Caller
    ) -> api_pb2.AppDeploymentHistoryResponse:
        """The deployments of an app."""
        app = self._registry.app(request.app_id)
        response = api_pb2.AppDeploymentHistoryResponse(production_app_version=app.version)
        for entry in app.history:
            response.app_deployment_histories.add(
                app_id=app.app_id,
                version=entry["version"],
                client_version=entry["client_version"],
                deployed_at=entry["deployed_at"],
                deployed_by="local",
                tag=entry["tag"],
                rollback_version=entry.get("rollback_version", 0),
                rollback_allowed=self._releases.kept(app, entry["version"]) is not None,
            )
        return response

    async def AppSetTags(self, request: api_pb2.AppSetTagsRequest, caller: Caller) -> Empty:
        """Replaces an app's tags."""
        app = self._registry.app(request.app_id)
        app.tags = dict(request.tags)
        self._registry.save_app(app)
        return Empty()

    async def AppGetTags(self, request: api_pb2.AppGetTagsRequest, caller: Caller) -> api_pb2.AppGetTagsResponse:
        """An app's tags."""
        return api_pb2.AppGetTagsResponse(tags=self._registry.app(request.app_id).tags)


def definition_id(definition: api_pb2.Function) -> str:
    """The same for the same definition, different for any other."""
    digest = hashlib.sha256(definition.SerializeToString(deterministic=True)).hexdigest()
    return f"de-{digest[:22]}"


def _handle(app: AppRecord) -> api_pb2.AppHandleMetadata:
    return api_pb2.AppHandleMetadata(
        app_id=app.app_id,
        description=app.name or app.description,
        environment_name=app.environment,
        lifecycle=_lifecycle(app),
    )


def _lifecycle(app: AppRecord) -> api_pb2.AppLifecycle:
    state: Any = app.state  # an enum's value, which the stubs type apart from int
    return api_pb2.AppLifecycle(
        app_state=state,
        created_at=app.created_at,
        created_by="local",
        deployed_at=app.deployed_at,
        deployed_by="local" if app.deployed_at else "",
        version=app.version,
        stopped_at=app.stopped_at,
        stopped_by="local" if app.stopped_at else "",
    )
