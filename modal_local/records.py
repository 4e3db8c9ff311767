"""The records that the control plane keeps: apps, functions, calls, inputs, containers. Hardly any behaviour."""

import asyncio
import contextlib
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from modal_proto import api_pb2

CANCELLED_MESSAGE = "Function call was cancelled by user or a failure."
_DEFAULT_TIMEOUT_S = 300
_DEFAULT_SCALEDOWN_S = 60


@dataclass(slots=True)
class AppRecord:
    """An app: its published layout and its history.

    Attributes:
        state: a value of api_pb2.AppState.
        function_ids: published function tags to ids.
        class_ids: published class tags to ids.
        history: one entry for each deployment: version, deployed_at, client_version, tag.
    """

    app_id: str
    description: str
    environment: str
    state: int
    created_at: float
    name: str = ""
    deployed_at: float = 0.0
    stopped_at: float = 0.0
    version: int = 0
    last_heartbeat: float = 0.0
    function_ids: dict[str, str] = field(default_factory=dict)
    class_ids: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether functions of this app may be called."""
        return self.state in (
            api_pb2.APP_STATE_EPHEMERAL,
            api_pb2.APP_STATE_DETACHED,
            api_pb2.APP_STATE_DETACHED_DISCONNECTED,
            api_pb2.APP_STATE_DEPLOYED,
            api_pb2.APP_STATE_INITIALIZING,
            api_pb2.APP_STATE_DERIVED,
        )

    @property
    def ephemeral(self) -> bool:
        """Whether the app ends with its client."""
        return self.state == api_pb2.APP_STATE_EPHEMERAL

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)


@dataclass(slots=True)
class FunctionRecord:
    """A function, or a variant of one (parameters, options).

    Attributes:
        tag: the name that it has in its app (`render`, `Renderer.*`).
        published: the definition that new containers run; None until the app is published.
        staged: the definition that the next publish makes the published one.
        base_id: for a variant, the function that it is a variant of.
        web_urls: where it is reached as a web function; of a class, by method. Empty for what is none.
    """

    function_id: str
    app_id: str
    tag: str
    published: api_pb2.Function | None = None
    published_id: str = ""
    staged: api_pb2.Function | None = None
    staged_id: str = ""
    base_id: str = ""
    serialized_params: bytes = b""
    options: api_pb2.FunctionOptions | None = None
    autoscaler: api_pb2.AutoscalerSettings | None = None
    precreated: api_pb2.FunctionHandleMetadata | None = None
    web_urls: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ClassRecord:
    """A class of an app: a name for its service function."""

    class_id: str
    app_id: str
    tag: str


class InputState(Enum):
    """Where an input is."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"  # for its next retry
    DONE = "done"


@dataclass(slots=True, eq=False)
class InputRecord:
    """One input of a call.

    Attributes:
        attempt: raised each time the input is handed out again; what an older one reports is dropped.
        failures: how many of the user's retries are used up.
        output: how it ended.
    """

    input_id: str
    call: "CallRecord"
    index: int
    payload: api_pb2.FunctionInput
    created_at: float
    state: InputState = InputState.PENDING
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    task_id: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    output: api_pb2.FunctionGetOutputsItem | None = None
    expired: bool = False
    timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state is InputState.DONE

    def stop_timer(self) -> None:
        """Its time is no longer measured."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True, eq=False)
class CallRecord:
    """A function call: one input, or the many of a map.

    Attributes:
        total: how many inputs it will have; None until the client has sent it.
        idempotency_key: of the RPC that made it: a client that missed the answer, over a restart even, asks again.
        order: the inputs in the order in which they ended, which is what a map's client reads on.
    """

    call_id: str
    function_id: str
    app_id: str
    call_type: int
    invocation: int
    parent_input_id: str
    created_at: float
    total: int | None = None
    inputs: dict[int, InputRecord] = field(default_factory=dict)
    order: list[InputRecord] = field(default_factory=list)
    unfinished: int = 0
    cancelled: bool = False
    idempotency_key: str = ""
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    data_in: list[api_pb2.DataChunk] = field(default_factory=list)
    data_out: dict[str, list[api_pb2.DataChunk]] = field(default_factory=dict)

    def wake(self) -> None:
        """Tells everyone who waits for this call that something has changed."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, timeout_s: float | None) -> None:
        """Returns when something has changed, or after this many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter
        finally:
            if not waiter.done():
                waiter.cancel()
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What the autoscaler and the bill go by for one pool, in seconds and containers.

    Attributes:
        region: the first one that the function asks for; empty for anywhere.
    """

    min_containers: int = 0
    max_containers: int = 0
    buffer_containers: int = 0
    scaledown_window_s: float = _DEFAULT_SCALEDOWN_S
    inputs_per_container: int = 1
    timeout_s: float = _DEFAULT_TIMEOUT_S
    startup_timeout_s: float = _DEFAULT_TIMEOUT_S
    gpu_type: str = ""
    gpu_count: int = 0
    cpu_cores: float = 0.125
    memory_mib: int = 128
    single_use: bool = False
    snapshots: bool = False
    region: str = ""
    nonpreemptible: bool = False


class ContainerState(Enum):
    """The life of a container."""

    DELAYED = "delayed"  # its cold start is being drawn out
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # takes no new input, ends after its last
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class ContainerRecord:
    """A container and what it does now.

    Attributes:
        running: the inputs that it has been given and not answered, with the attempt of each.
        last_call: the call of the input that it has let go of last: it may still be heard of.
        waiter: the open request for inputs, if there is one.
        cancels: inputs to be cancelled with the next heartbeat.
        cancelling: inputs that it was asked to cancel and has not released yet.
        failure: what it reported when its import or @enter failed.
        idle_since: by the steady clock, as is `last_heartbeat`; the other times are the wall clock's.
    """

    task_id: str
    function_id: str
    app_id: str
    definition_id: str
    settings: PoolSettings
    created_at: float
    state: ContainerState = ContainerState.STARTING
    started_at: float = 0.0
    ready_at: float = 0.0
    ended_at: float = 0.0
    idle_since: float = 0.0
    last_heartbeat: float = 0.0
    inputs_done: int = 0
    running: dict[str, InputRecord] = field(default_factory=dict)
    last_call: str = ""
    waiter: "InputRequest | None" = None
    cancels: list[str] = field(default_factory=list)
    cancelling: set[str] = field(default_factory=set)
    cancel_event: asyncio.Event = field(default_factory=asyncio.Event)
    failure: api_pb2.GenericResult | None = None
    exit_code: int | None = None
    end_reason: str = ""

    @property
    def heard_calls(self) -> tuple[str, ...]:
        """Whose output it is that comes now: of the calls that it has in hand, or of the last one."""
        if self.running:
            return tuple({one.call.call_id: None for one in self.running.values()})
        return (self.last_call,) if self.last_call else ()

    @property
    def live(self) -> bool:
        """Whether it occupies its place."""
        return self.state is not ContainerState.ENDED

    @property
    def takes_inputs(self) -> bool:
        """Whether it counts as capacity for new inputs."""
        return self.state in (ContainerState.DELAYED, ContainerState.STARTING, ContainerState.READY)


@dataclass(slots=True, eq=False)
class InputRequest:
    """A container's open request for inputs."""

    answer: asyncio.Future[api_pb2.FunctionGetInputsResponse]
    batch_max_size: int = 0
    batch_linger_s: float = 0.0
