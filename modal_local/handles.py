"""What clients are told about functions and classes: handle metadata, made from the records. Pure."""

from collections.abc import Mapping

from modal_proto import api_pb2

from modal_local.records import AppRecord, ClassRecord, FunctionRecord
from modal_local.registry import Registry


def function_metadata(
    registry: Registry, function: FunctionRecord, *, staged: bool = False
) -> api_pb2.FunctionHandleMetadata:
    """The handle metadata of a function or a variant.

    Args:
        registry: where the base of a variant is found.
        function: the function.
        staged: of the definition that is about to be published, rather than of the published one.
    """
    base = registry.base(function)
    if base.published is None and base.staged is None:
        metadata = api_pb2.FunctionHandleMetadata()
        if base.precreated is not None:
            metadata.CopyFrom(base.precreated)
        return _with_web_urls(metadata, base)
    definition = registry.definition(function, staged=staged)
    definition_id = base.staged_id if staged and base.staged is not None else registry.definition_id(function)
    metadata = api_pb2.FunctionHandleMetadata(
        app_id=function.app_id,
        base_function_id=base.function_id,
        function_name=definition.function_name,
        function_type=definition.function_type,
        is_method=definition.is_method,
        definition_id=definition_id,
        class_parameter_info=definition.class_parameter_info,
        function_schema=definition.function_schema,
        supported_input_formats=definition.supported_input_formats,
        supported_output_formats=definition.supported_output_formats,
    )
    for name, method in definition.method_definitions.items():
        metadata.method_handle_metadata[name].CopyFrom(method_metadata(function.app_id, definition_id, name, method))
    return _with_web_urls(metadata, base)


def _with_web_urls(metadata: api_pb2.FunctionHandleMetadata, base: FunctionRecord) -> api_pb2.FunctionHandleMetadata:
    metadata.web_url = base.web_urls.get("", "")
    for name, method in metadata.method_handle_metadata.items():
        method.web_url = base.web_urls.get(name, "")
    return metadata


def method_metadata(
    app_id: str, definition_id: str, name: str, method: api_pb2.MethodDefinition
) -> api_pb2.FunctionHandleMetadata:
    """The handle metadata of one method of a class."""
    return api_pb2.FunctionHandleMetadata(
        app_id=app_id,
        function_name=method.function_name,
        function_type=method.function_type,
        is_method=True,
        use_method_name=name,
        definition_id=definition_id,
        function_schema=method.function_schema,
        supported_input_formats=method.supported_input_formats,
        supported_output_formats=method.supported_output_formats,
    )


def function_data(definition: api_pb2.Function, web_urls: Mapping[str, str]) -> api_pb2.FunctionData:
    """The shape that FunctionCreate and FunctionGet answer with; the SDK wants at least one ranked function in it."""
    data = api_pb2.FunctionData(
        module_name=definition.module_name,
        function_name=definition.function_name,
        implementation_name=definition.implementation_name,
        function_type=definition.function_type,
        timeout_secs=definition.timeout_secs,
        startup_timeout_secs=definition.startup_timeout_secs,
        autoscaler_settings=definition.autoscaler_settings,
        is_class=definition.is_class,
        class_parameter_info=definition.class_parameter_info,
        is_method=definition.is_method,
        method_definitions_set=True,
        function_schema=definition.function_schema,
        supported_input_formats=definition.supported_input_formats,
        supported_output_formats=definition.supported_output_formats,
        routing_region=definition.routing_region,
        webhook_config=definition.webhook_config,
        web_url=web_urls.get("", ""),
    )
    for name, method in definition.method_definitions.items():
        data.method_definitions[name].CopyFrom(method)
        data.method_definitions[name].web_url = web_urls.get(name, "")
    if definition.HasField("schedule"):
        data.schedule.CopyFrom(definition.schedule)
    data.ranked_functions.add(rank=0, function=definition)
    return data


def class_metadata(registry: Registry, record: ClassRecord, *, staged: bool = False) -> api_pb2.ClassHandleMetadata:
    """The handle metadata of a class: that of its service function."""
    service = class_function(registry, record)
    if service is None:
        return api_pb2.ClassHandleMetadata()
    return api_pb2.ClassHandleMetadata(
        class_function_id=service.function_id,
        class_function_metadata=function_metadata(registry, service, staged=staged),
    )


def class_function(registry: Registry, record: ClassRecord) -> FunctionRecord | None:
    """The one function, named `Class.*`, that serves a class."""
    if not record.tag:
        return None
    wanted = f"{record.tag}.*"
    for function in registry.functions_of(record.app_id):
        if function.tag == wanted and not function.base_id:
            return function
    return None


def app_layout(registry: Registry, app: AppRecord) -> api_pb2.AppLayout:
    """All objects of an app with their metadata, as containers and redeploying clients want it."""
    layout = api_pb2.AppLayout()
    for tag, function_id in app.function_ids.items():
        layout.function_ids[tag] = function_id
        function = registry.functions[function_id]
        layout.objects.add(object_id=function_id, function_handle_metadata=function_metadata(registry, function))
    for tag, class_id in app.class_ids.items():
        layout.class_ids[tag] = class_id
        record = registry.classes[class_id]
        layout.objects.add(object_id=class_id, class_handle_metadata=class_metadata(registry, record))
    return layout
