"""The faults that there are, as data. Pure."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from grpclib.const import Status

from modal_local.errors import ModalLocalError
from modal_local.faults.results import RESULT_STATUSES, is_exception_name
from modal_local.settings import CRASH_POLICIES

Kind = Literal[
    # of a running container, at once
    "kill",
    "oom",
    "preempt",
    "hang",
    # of the next containers that start, or that take an input
    "enter_failure",
    "start_failure",
    "crash_on_input",
    "result",
    # of the scheduler, while in force
    "crash_policy",
    "gpu_exhausted",
    "cold_start",
    # of results, at once
    "expire_results",
    # of RPCs, while in force
    "unavailable",
    "internal",
    "permission_denied",
    "status",
    "resource_exhausted",
    "lost_answer",
    "latency",
    "rate_limit",
    # of the server
    "stream_limit",
    "disconnect",
    "clock_skew",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
RPC_STATUSES: tuple[str, ...] = tuple(status.name for status in Status if status is not Status.OK)
#: What acts once and is over.
ONE_SHOT: frozenset[Kind] = frozenset({"kill", "oom", "preempt", "hang", "expire_results", "disconnect"})
#: Default kinds of random faults: those that heal.
RANDOM_KINDS: tuple[Kind, ...] = ("kill", "oom", "preempt", "unavailable", "lost_answer", "start_failure")


class FaultError(ModalLocalError):
    """A fault that makes no sense; the sentence says which field."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: which.
        at_s: for scripts: seconds after the server's start.
        for_s: how long it stays in force; None: until its count is used up, or it is cleared.
        count: how often it applies; None: always (a one-shot fault applies to one container).
        function: only containers or calls of the function with this tag (`square`, `Renderer.*`).
        task_id: only this container.
        call_id: only this call (`expire_results`).
        methods: only these RPCs; empty means all of clients' (`rate_limit`: those that make calls).
        gpu: for `gpu_exhausted`.
        policy: for `crash_policy`.
        limit: for `crash_policy`, deaths that are forgiven; for `stream_limit`, streams of one connection.
        retry_after_s: for `resource_exhausted` and `rate_limit`; None sends no retry detail.
        seconds: for `latency`, `clock_skew` and `cold_start`.
        jitter_s: for `latency`: maximum random addition, seconds.
        per_s: for `rate_limit`.
        burst: for `rate_limit`.
        message: of `enter_failure` and `result`, and of the errors of RPCs.
        status: for `status`, of gRPC (`DATA_LOSS`); for `result`, how inputs end (`TIMEOUT`), FAILURE if it is empty.
        exception: for `result`: what the client raises, by its name in `modal.exception` or with its module.
    """

    kind: Kind
    at_s: float = 0.0
    for_s: float | None = None
    count: int | None = None
    function: str = ""
    task_id: str = ""
    call_id: str = ""
    methods: tuple[str, ...] = ()
    gpu: str = ""
    policy: str = "reschedule"
    limit: int = 0
    retry_after_s: float | None = None
    seconds: float = 0.0
    jitter_s: float = 0.0
    per_s: float = 200.0
    burst: float = 1000.0
    message: str = "injected: @enter failed"
    status: str = ""
    exception: str = ""


@dataclass(frozen=True, slots=True)
class RandomFaults:
    """Faults drawn at random: their kinds, the mean time between two, and when that is to end."""

    mean_interval_s: float
    kinds: tuple[Kind, ...] = RANDOM_KINDS
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class FaultScript:
    """A file of faults."""

    faults: tuple[Fault, ...] = ()
    random: tuple[RandomFaults, ...] = ()
    seed: int = 0


@dataclass(slots=True)
class ActiveFault:
    """A fault in force.

    Attributes:
        ends_at: by the steady clock, in seconds.
        left: remaining applications.
        strikes: how often it was applied.
    """

    fault_id: str
    fault: Fault
    ends_at: float | None
    left: int | None
    strikes: int = 0
    tokens: float = field(default=0.0)
    tokens_at: float = field(default=0.0)

    def over(self, now: float) -> bool:
        """Whether it has no more effect."""
        return (self.ends_at is not None and now >= self.ends_at) or self.left == 0

    def strike(self) -> None:
        """It has had its effect once more."""
        self.strikes += 1
        if self.left is not None:
            self.left -= 1


_TYPES: dict[str, tuple[type, ...]] = {
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
}


def read_fault(data: Mapping[str, Any]) -> Fault:
    """Reads a fault from JSON or TOML.

    Raises:
        FaultError: an unknown kind or field, or a value of the wrong type.
    """
    given = dict(data)
    kind = given.get("kind")
    if kind not in KINDS:
        raise FaultError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}.")
    known = {one.name: str(getattr(one.type, "__name__", one.type)) for one in fields(Fault)}
    for name, value in given.items():
        if name not in known:
            raise FaultError(f"{kind}: unknown field {name!r}; there are {', '.join(known)}.")
        if name == "methods":
            given[name] = tuple(str(one) for one in value)
            continue
        allowed = _TYPES.get(known[name])
        if allowed is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            raise FaultError(f"{kind}.{name}: expected {known[name]}, got {value!r}.")
    fault = Fault(**given)
    _check(fault)
    return fault


def _check(fault: Fault) -> None:
    if fault.policy not in CRASH_POLICIES:
        raise FaultError(f"policy: expected one of {', '.join(CRASH_POLICIES)}, got {fault.policy!r}.")
    if fault.kind == "gpu_exhausted" and not fault.gpu:
        raise FaultError("gpu_exhausted: expected a GPU type in `gpu`.")
    if fault.kind == "stream_limit" and fault.limit < 1:
        raise FaultError(f"stream_limit: expected a limit of at least 1, got {fault.limit}.")
    if fault.kind == "status" and fault.status not in RPC_STATUSES:
        raise FaultError(f"status.status: expected one of {', '.join(RPC_STATUSES)}, got {fault.status!r}.")
    if fault.kind == "result" and fault.status not in ("", *RESULT_STATUSES):
        raise FaultError(f"result.status: expected one of {', '.join(RESULT_STATUSES)}, got {fault.status!r}.")
    if fault.exception and not is_exception_name(fault.exception):
        raise FaultError(f"{fault.kind}.exception: expected a name such as VersionError, got {fault.exception!r}.")
    if fault.kind == "rate_limit" and fault.per_s <= 0:
        raise FaultError(f"rate_limit: expected per_s above 0, got {fault.per_s}.")


def read_script(text: str) -> FaultScript:
    """Reads a TOML file: `seed`, `[[fault]]` and `[[random]]` tables.

    Raises:
        FaultError: no TOML, or something in it makes no sense.
    """
    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise FaultError(f"The fault script is no TOML: {error}") from error
    unknown = set(data) - {"seed", "fault", "random"}
    if unknown:
        raise FaultError(f"Fault script: expected `seed`, [[fault]] and [[random]], got {', '.join(sorted(unknown))}.")
    return FaultScript(
        faults=tuple(read_fault(one) for one in data.get("fault", [])),
        random=tuple(_read_random(one) for one in data.get("random", [])),
        seed=int(data.get("seed", 0)),
    )


def _read_random(data: Mapping[str, Any]) -> RandomFaults:
    mean = data.get("mean_interval_s")
    if not isinstance(mean, int | float) or mean <= 0:
        raise FaultError(f"random.mean_interval_s: expected seconds above 0, got {mean!r}.")
    kinds = tuple(kind for kind in KINDS if kind in data.get("kinds", RANDOM_KINDS))
    if len(kinds) != len(data.get("kinds", RANDOM_KINDS)):
        raise FaultError(f"random.kinds: expected some of {', '.join(KINDS)}, got {data.get('kinds')!r}.")
    return RandomFaults(float(mean), kinds, data.get("until_s"))
