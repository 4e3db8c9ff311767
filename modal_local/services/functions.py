"""Functions: declared, defined, looked up, varied by options and parameters, and steered."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import base64
import hashlib
from collections.abc import Mapping
from typing import Protocol

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.handles import function_data, function_metadata, method_metadata
from modal_local.limits import check_definition
from modal_local.records import FunctionRecord
from modal_local.registry import Registry, merge_options
from modal_local.rpc import Caller
from modal_local.schedules.times import ScheduleError, next_due
from modal_local.services.apps import definition_id
from modal_local.services.bucket_mounts import check_bucket_mounts
from modal_local.web.gateway import Gateway


class PoolFigures(Protocol):
    """What the scheduler tells about the pool of a function."""

    def stats(self, function_id: str) -> api_pb2.FunctionStats:
        """Backlog, containers, running inputs."""

    def reconsider(self, function_id: str) -> None:
        """The pool's settings have changed."""


class FunctionService:
    """Serves FunctionPrecreate, Create, Get, BindParams and the scheduling parameters."""

    def __init__(self, context: Context, registry: Registry, pools: PoolFigures, gateway: Gateway) -> None:
        self._context = context
        self._gateway = gateway
        self._registry = registry
        self._pools = pools

    async def FunctionPrecreate(
        self, request: api_pb2.FunctionPrecreateRequest, caller: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        """Gives a function its id before it is defined."""
        self._registry.app(request.app_id)
        function = self._existing(request.app_id, request.existing_function_id, request.function_name)
        metadata = api_pb2.FunctionHandleMetadata(
            app_id=request.app_id,
            function_name=request.function_name,
            function_type=request.function_type,
            function_schema=request.function_schema,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        for name, method in request.method_definitions.items():
            metadata.method_handle_metadata[name].CopyFrom(method_metadata(request.app_id, "", name, method))
        function.precreated = metadata
        await self._gateway.give_addresses(function, request.webhook_config, request.method_definitions)
        self._registry.save_function(function)
        handle = function_metadata(self._registry, function, staged=True) if function.staged else metadata
        for name, url in function.web_urls.items():
            (handle.method_handle_metadata[name] if name else handle).web_url = url
        return api_pb2.FunctionPrecreateResponse(function_id=function.function_id, handle_metadata=handle)

    def _existing(self, app_id: str, function_id: str, tag: str) -> FunctionRecord:
        found = self._registry.functions.get(function_id)
        if found is not None and found.app_id == app_id:
            return found
        return FunctionRecord(function_id=self._context.ids.new("fu"), app_id=app_id, tag=tag)

    async def FunctionCreate(
        self, request: api_pb2.FunctionCreateRequest, caller: Caller
    ) -> api_pb2.FunctionCreateResponse:
        """Takes a definition in; it takes effect when the app is published."""
        self._registry.app(request.app_id)
        if request.HasField("function_data") and request.function_data.ranked_functions:
            # Several GPU types in order of preference: the first one is what runs here.
            definition = request.function_data.ranked_functions[0].function
        else:
            definition = request.function
        check_definition(definition)
        check_bucket_mounts(definition.cloud_bucket_mounts)
        self._check_schedule(definition)
        tag = definition.function_name
        function = self._existing(request.app_id, request.existing_function_id, tag)
        function.tag = tag
        await self._gateway.give_addresses(function, definition.webhook_config, definition.method_definitions)
        function.staged = api_pb2.Function()
        function.staged.CopyFrom(definition)
        function.staged_id = definition_id(definition)
        self._registry.save_function(function)
        return api_pb2.FunctionCreateResponse(
            function_id=function.function_id,
            function=_with_urls(definition, function.web_urls),
            function_data=function_data(definition, function.web_urls),
            handle_metadata=function_metadata(self._registry, function, staged=True),
        )

    def _check_schedule(self, definition: api_pb2.Function) -> None:
        if not definition.HasField("schedule"):
            return
        now = self._context.clock.now()
        try:
            next_due(definition.schedule, now, now)
        except ScheduleError as error:
            raise InvalidArgumentError(str(error)) from None

    async def FunctionGet(self, request: api_pb2.FunctionGetRequest, caller: Caller) -> api_pb2.FunctionGetResponse:
        """Looks up a function of a deployed app by name."""
        environment = self._context.environment(request.environment_name)
        app = self._registry.deployed_app(request.app_name, environment)
        if app is None:
            raise NotFoundError(f"App '{request.app_name}' not found in environment '{environment}'")
        function_id = app.function_ids.get(request.object_tag)
        if function_id is None:
            raise NotFoundError(f"App '{request.app_name}' has no Function '{request.object_tag}'")
        function = self._registry.function(function_id)
        return api_pb2.FunctionGetResponse(
            function_id=function_id,
            handle_metadata=function_metadata(self._registry, function),
            function=function_data(self._registry.definition(function), self._registry.base(function).web_urls),
        )

    async def FunctionGetById(
        self, request: api_pb2.FunctionGetByIdRequest, caller: Caller
    ) -> api_pb2.FunctionGetByIdResponse:
        """Looks up a function by id."""
        function = self._registry.function(request.function_id)
        return api_pb2.FunctionGetByIdResponse(
            function=function_data(self._registry.definition(function), self._registry.base(function).web_urls),
            handle_metadata=function_metadata(self._registry, function),
        )

    async def FunctionBindParams(
        self, request: api_pb2.FunctionBindParamsRequest, caller: Caller
    ) -> api_pb2.FunctionBindParamsResponse:
        """The variant of a function with these parameters and options; the same ones give the same id."""
        base = self._registry.base(self._registry.function(request.function_id))
        options = request.function_options if request.HasField("function_options") else None
        self._check(base, options)
        if options is not None:
            check_bucket_mounts(options.cloud_bucket_mounts)
        variant = self.variant(base, request.serialized_params, options)
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=variant.function_id, handle_metadata=function_metadata(self._registry, variant)
        )

    def variant(
        self, base: FunctionRecord, params: bytes, options: api_pb2.FunctionOptions | None = None
    ) -> FunctionRecord:
        """The variant of a function with these serialised parameters and options."""
        variant_id = _variant_id(base.function_id, params, options)
        variant = self._registry.functions.get(variant_id)
        if variant is None:
            variant = FunctionRecord(
                function_id=variant_id,
                app_id=base.app_id,
                tag=base.tag,
                base_id=base.function_id,
                serialized_params=params,
            )
            if options is not None:
                variant.options = api_pb2.FunctionOptions()
                variant.options.CopyFrom(options)
            self._registry.save_function(variant)
            self._pools.reconsider(variant_id)
        return variant

    def _check(self, base: FunctionRecord, options: api_pb2.FunctionOptions | None) -> None:
        if options is None:
            return
        merged = merge_options(self._registry.definition(base), options)
        check_definition(merged)
        limit = merged.autoscaler_settings.max_containers
        if limit and merged.autoscaler_settings.min_containers > limit:
            raise InvalidArgumentError(
                f"min_containers ({merged.autoscaler_settings.min_containers}) is more than max_containers ({limit})."
            )

    async def FunctionListVariants(
        self, request: api_pb2.FunctionListVariantsRequest, caller: Caller
    ) -> api_pb2.FunctionListVariantsResponse:
        """The variants of a function."""
        base = self._registry.base(self._registry.function(request.function_id))
        response = api_pb2.FunctionListVariantsResponse()
        for function in self._registry.functions_of(base.app_id):
            if function.base_id == base.function_id:
                response.infos.add(
                    function_id=function.function_id,
                    serialized_params=function.serialized_params,
                    function_options=function.options,
                )
        return response

    async def FunctionGetCurrentStats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest, caller: Caller
    ) -> api_pb2.FunctionStats:
        """Backlog and containers of a function's pool."""
        return self._pools.stats(self._registry.function(request.function_id).function_id)

    async def FunctionUpdateSchedulingParams(
        self, request: api_pb2.FunctionUpdateSchedulingParamsRequest, caller: Caller
    ) -> api_pb2.FunctionUpdateSchedulingParamsResponse:
        """Changes a pool's limits while it runs; a redeploy of the app resets them."""
        function = self._registry.function(request.function_id)
        override = api_pb2.AutoscalerSettings()
        if function.autoscaler is not None:
            override.CopyFrom(function.autoscaler)
        override.MergeFrom(request.settings)
        settings = self._current(function, override)
        if settings.max_containers and settings.min_containers > settings.max_containers:
            raise InvalidArgumentError(
                f"min_containers ({settings.min_containers}) is more than max_containers ({settings.max_containers})."
            )
        function.autoscaler = override
        self._registry.save_function(function)
        self._pools.reconsider(function.function_id)
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=settings)

    async def FunctionGetSchedulingParams(
        self, request: api_pb2.FunctionGetSchedulingParamsRequest, caller: Caller
    ) -> api_pb2.FunctionGetSchedulingParamsResponse:
        """The limits that hold, those of the definition, and what overrides them."""
        function = self._registry.function(request.function_id)
        static = self._registry.definition(function).autoscaler_settings
        return api_pb2.FunctionGetSchedulingParamsResponse(
            autoscaler_configuration=api_pb2.AutoscalerConfiguration(
                settings=self._current(function, function.autoscaler),
                static_settings=static,
                override_settings=function.autoscaler,
            )
        )

    def _current(
        self, function: FunctionRecord, override: api_pb2.AutoscalerSettings | None
    ) -> api_pb2.AutoscalerSettings:
        settings = api_pb2.AutoscalerSettings()
        settings.CopyFrom(self._registry.definition(function).autoscaler_settings)
        if override is not None:
            settings.MergeFrom(override)
        return settings


def _with_urls(definition: api_pb2.Function, web_urls: Mapping[str, str]) -> api_pb2.Function:
    """What the client shows of a definition: with the URLs that it has been given."""
    if not web_urls:
        return definition
    shown = api_pb2.Function()
    shown.CopyFrom(definition)
    for name, url in web_urls.items():
        (shown.method_definitions[name] if name else shown).web_url = url
    return shown


def _variant_id(base_id: str, params: bytes, options: api_pb2.FunctionOptions | None) -> str:
    digest = hashlib.sha256(base_id.encode() + b"\0" + len(params).to_bytes(8, "big") + params)
    if options is not None:
        digest.update(options.SerializeToString(deterministic=True))
    text = base64.b32encode(digest.digest()).decode().strip("=")
    return f"fu-{text[:22]}"
