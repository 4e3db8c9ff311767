"""The apps, functions and classes that exist, and what each definition means once its options are merged in."""

import base64
import json
from typing import Any

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import NotFoundError
from modal_local.limits import known_card
from modal_local.ports import web_server_ports
from modal_local.records import AppRecord, ClassRecord, FunctionRecord, PoolSettings

_APPS, _FUNCTIONS, _CLASSES = "apps", "functions", "classes"


class Registry:
    """Everything that a deploy creates. Each change is written to the store at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.apps: dict[str, AppRecord] = {}
        self.functions: dict[str, FunctionRecord] = {}
        self.classes: dict[str, ClassRecord] = {}
        self._effective: dict[str, tuple[str, api_pb2.Function]] = {}
        for key, value in context.store.items(_APPS):
            self.apps[key] = AppRecord(**json.loads(value))
            # Nobody could send a heartbeat while the server was away.
            self.apps[key].last_heartbeat = context.clock.steady()
        for key, value in context.store.items(_FUNCTIONS):
            self.functions[key] = _function_from_json(json.loads(value))
        for key, value in context.store.items(_CLASSES):
            self.classes[key] = ClassRecord(**json.loads(value))

    def app(self, app_id: str) -> AppRecord:
        """The app. Raises NotFoundError."""
        found = self.apps.get(app_id)
        if found is None:
            raise NotFoundError(f"App {app_id!r} not found.")
        return found

    def deployed_app(self, name: str, environment: str) -> AppRecord | None:
        """The app that is deployed under a name now."""
        for app in self.apps.values():
            if app.name == name and app.environment == environment and app.state == api_pb2.APP_STATE_DEPLOYED:
                return app
        return None

    def function(self, function_id: str) -> FunctionRecord:
        """The function. Raises NotFoundError, also when its app is stopped."""
        found = self.functions.get(function_id)
        if found is None or not self.app(found.app_id).live:
            raise NotFoundError(f"Function {function_id!r} not found.")
        return found

    def base(self, function: FunctionRecord) -> FunctionRecord:
        """The function that a variant is a variant of; itself for any other."""
        return self.functions[function.base_id] if function.base_id else function

    def definition(self, function: FunctionRecord, *, staged: bool = False) -> api_pb2.Function:
        """What a container of this function runs: the published definition with the variant's options merged in.

        Raises:
            NotFoundError: nothing is published yet.
        """
        base = self.base(function)
        source = base.staged if staged and base.staged is not None else base.published or base.staged
        if source is None:
            raise NotFoundError(f"Function {function.tag!r} is declared, but not published.")
        if function.options is None:
            return source
        key = self.definition_id(function)
        cached = self._effective.get(function.function_id)
        if cached is not None and cached[0] == key and not staged:
            return cached[1]
        merged = merge_options(source, function.options)
        self._effective[function.function_id] = (key, merged)
        return merged

    def definition_id(self, function: FunctionRecord) -> str:
        """The id of the published definition; a redeploy that changes something changes it."""
        base = self.base(function)
        return base.published_id or base.staged_id

    def pool_settings(self, function: FunctionRecord) -> PoolSettings:
        """What the autoscaler goes by."""
        return pool_settings(self.definition(function), function.autoscaler)

    def save_app(self, app: AppRecord) -> None:
        """Keeps an app."""
        self.apps[app.app_id] = app
        self._context.store.put(_APPS, app.app_id, json.dumps(app.as_json()).encode())

    def save_function(self, function: FunctionRecord) -> None:
        """Keeps a function."""
        self.functions[function.function_id] = function
        self._effective.pop(function.function_id, None)
        self._context.store.put(_FUNCTIONS, function.function_id, json.dumps(_function_as_json(function)).encode())

    def save_class(self, record: ClassRecord) -> None:
        """Keeps a class."""
        self.classes[record.class_id] = record
        value = {"class_id": record.class_id, "app_id": record.app_id, "tag": record.tag}
        self._context.store.put(_CLASSES, record.class_id, json.dumps(value).encode())

    def functions_of(self, app_id: str) -> list[FunctionRecord]:
        """All functions of an app, variants too."""
        return [function for function in self.functions.values() if function.app_id == app_id]


def merge_options(source: api_pb2.Function, options: api_pb2.FunctionOptions) -> api_pb2.Function:
    """A copy of a definition with `with_options()` and the like merged in."""
    merged = api_pb2.Function()
    merged.CopyFrom(source)
    given = {field.name for field, _ in options.ListFields()}
    _merge_resources(merged, options)
    if options.HasField("retry_policy"):
        merged.retry_policy.CopyFrom(options.retry_policy)
    for mine, theirs in (
        ("timeout_secs", "timeout_secs"),
        ("max_concurrent_inputs", "max_concurrent_inputs"),
        ("target_concurrent_inputs", "target_concurrent_inputs"),
        ("batch_max_size", "batch_max_size"),
        ("batch_linger_ms", "batch_linger_ms"),
        ("cloud_provider_str", "cloud_provider_str"),
    ):
        if theirs in given:
            setattr(merged, mine, getattr(options, theirs))
    for mine, theirs in (
        ("max_containers", "concurrency_limit"),
        ("scaledown_window", "task_idle_timeout_secs"),
        ("min_containers", "warm_pool_size"),
        ("buffer_containers", "buffer_containers"),
    ):
        if theirs in given:
            setattr(merged.autoscaler_settings, mine, getattr(options, theirs))
    return merged


def _merge_resources(merged: api_pb2.Function, options: api_pb2.FunctionOptions) -> None:
    if options.HasField("resources"):
        if options.resources.HasField("gpu_config"):
            merged.resources.ClearField("gpu_config")
        merged.resources.MergeFrom(options.resources)
    if options.scheduler_placement.regions:
        del merged.scheduler_placement.regions[:]
        merged.scheduler_placement.regions.extend(options.scheduler_placement.regions)
    if options.replace_secret_ids:
        del merged.secret_ids[:]
    merged.secret_ids.extend(options.secret_ids)
    if options.replace_volume_mounts:
        del merged.volume_mounts[:]
    merged.volume_mounts.extend(options.volume_mounts)
    if options.replace_cloud_bucket_mounts:
        del merged.cloud_bucket_mounts[:]
    merged.cloud_bucket_mounts.extend(options.cloud_bucket_mounts)
    merged.mount_ids.extend(options.mount_ids)


def pool_settings(definition: api_pb2.Function, override: api_pb2.AutoscalerSettings | None) -> PoolSettings:
    """Reads a definition, with the overrides of `autoscaler.update()`."""
    scaling = api_pb2.AutoscalerSettings()
    scaling.CopyFrom(definition.autoscaler_settings)
    if override is not None:
        scaling.MergeFrom(override)
    gpu = definition.resources.gpu_config
    defaults = PoolSettings()
    target = definition.target_concurrent_inputs or definition.max_concurrent_inputs or 1
    if scaling.HasField("target_concurrency"):
        target = scaling.target_concurrency or target
    # A port that is fixed can be had once on a machine.
    most = 1 if web_server_ports(definition) else scaling.max_containers or definition.concurrency_limit
    return PoolSettings(
        min_containers=scaling.min_containers or definition.warm_pool_size,
        max_containers=most,
        buffer_containers=scaling.buffer_containers,
        scaledown_window_s=scaling.scaledown_window or definition.task_idle_timeout_secs or defaults.scaledown_window_s,
        inputs_per_container=max(target, definition.batch_max_size, 1),
        timeout_s=definition.timeout_secs or defaults.timeout_s,
        startup_timeout_s=definition.startup_timeout_secs or definition.timeout_secs or defaults.startup_timeout_s,
        gpu_type=known_card(gpu.gpu_type) if gpu.count else "",
        gpu_count=gpu.count,
        cpu_cores=definition.resources.milli_cpu / 1000 or defaults.cpu_cores,
        memory_mib=definition.resources.memory_mb or defaults.memory_mib,
        single_use=definition.single_use_containers,
        snapshots=definition.checkpointing_enabled,
        region=next(iter(definition.scheduler_placement.regions), ""),
        nonpreemptible=definition.scheduler_placement.nonpreemptible,
    )


def _pack(message: Any) -> str | None:
    return None if message is None else base64.b64encode(message.SerializeToString()).decode()


def _unpack(kind: Any, text: str | None) -> Any:
    return None if text is None else kind.FromString(base64.b64decode(text))


def _function_as_json(function: FunctionRecord) -> dict[str, Any]:
    return {
        "function_id": function.function_id,
        "app_id": function.app_id,
        "tag": function.tag,
        "published": _pack(function.published),
        "published_id": function.published_id,
        "staged": _pack(function.staged),
        "staged_id": function.staged_id,
        "base_id": function.base_id,
        "serialized_params": base64.b64encode(function.serialized_params).decode(),
        "options": _pack(function.options),
        "autoscaler": _pack(function.autoscaler),
        "precreated": _pack(function.precreated),
        "web_urls": function.web_urls,
    }


def _function_from_json(value: dict[str, Any]) -> FunctionRecord:
    return FunctionRecord(
        function_id=value["function_id"],
        app_id=value["app_id"],
        tag=value["tag"],
        published=_unpack(api_pb2.Function, value["published"]),
        published_id=value["published_id"],
        staged=_unpack(api_pb2.Function, value["staged"]),
        staged_id=value["staged_id"],
        base_id=value["base_id"],
        serialized_params=base64.b64decode(value["serialized_params"]),
        options=_unpack(api_pb2.FunctionOptions, value["options"]),
        autoscaler=_unpack(api_pb2.AutoscalerSettings, value["autoscaler"]),
        precreated=_unpack(api_pb2.FunctionHandleMetadata, value["precreated"]),
        web_urls=value.get("web_urls", {}),
    )
