"""Classes: a name in an app for the service function `Class.*`."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import NotFoundError
from modal_local.handles import class_metadata
from modal_local.records import ClassRecord
from modal_local.registry import Registry
from modal_local.rpc import Caller


class ClassService:
    """Serves ClassCreate and ClassGet."""

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry

    async def ClassCreate(self, request: api_pb2.ClassCreateRequest, caller: Caller) -> api_pb2.ClassCreateResponse:
        """Makes a class, or takes the one that is there; its name comes when the app is published."""
        self._registry.app(request.app_id)
        record = self._registry.classes.get(request.existing_class_id)
        if record is None or record.app_id != request.app_id:
            record = ClassRecord(class_id=self._context.ids.new("cs"), app_id=request.app_id, tag="")
            self._registry.save_class(record)
        return api_pb2.ClassCreateResponse(
            class_id=record.class_id, handle_metadata=class_metadata(self._registry, record, staged=True)
        )

    async def ClassGet(self, request: api_pb2.ClassGetRequest, caller: Caller) -> api_pb2.ClassGetResponse:
        """Looks up a class of a deployed app by name."""
        environment = self._context.environment(request.environment_name)
        app = self._registry.deployed_app(request.app_name, environment)
        if app is None:
            raise NotFoundError(f"App '{request.app_name}' not found in environment '{environment}'")
        class_id = app.class_ids.get(request.object_tag)
        if class_id is None:
            raise NotFoundError(f"App '{request.app_name}' has no class '{request.object_tag}'")
        record = self._registry.classes[class_id]
        return api_pb2.ClassGetResponse(class_id=class_id, handle_metadata=class_metadata(self._registry, record))
