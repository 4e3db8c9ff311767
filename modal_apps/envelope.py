"""How a remote method answers: an envelope of plain types, and never a raised exception.

A remote `TimeoutError` would look like "pending" to the caller, a remote `SystemExit` would end its process, and an
unpicklable one would hide what happened. So the method catches everything that it may, and says it in words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modal_apps.wire import (
    LONGEST_S,
    MOST,
    WrongPart,
    fields,
    flag,
    moment,
    name,
    number,
    text,
    whole,
    whole_or_none,
)

#: Raised when the shape changes, so that an old container is told from a new one.
VERSION = 1


@dataclass(frozen=True)
class Timings:
    """When what happened, by the container's clock: seconds since 1970.

    That clock may be wrong, or be set while the method works; the durations come from clocks that nobody sets. Old
    containers give the times alone.
    """

    container_started_at: float
    started_at: float
    finished_at: float
    #: Seconds that the method ran.
    ran_s: float | None = None
    #: Seconds from the start of the container's process to the method's end.
    container_age_s: float | None = None

    @property
    def execution_s(self) -> float:
        """Seconds that the method ran."""
        return max(0.0, self.finished_at - self.started_at if self.ran_s is None else self.ran_s)

    @property
    def age_s(self) -> float:
        """Seconds from the container's start to the method's end."""
        age_s = self.finished_at - self.container_started_at if self.container_age_s is None else self.container_age_s
        return max(self.execution_s, age_s)

    @property
    def startup_s(self) -> float:
        """Seconds from the container's start to the method's, as its first input sees them."""
        return self.age_s - self.execution_s


@dataclass(frozen=True)
class RemoteError:
    """What went wrong, in a word of a bounded set and a sentence."""

    #: invalid_request | out_of_memory | cancelled | superseded | not_announced | result_too_large | upload_failed |
    #: error
    cause: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class Envelope:
    """One answer. Exactly one of `value` and `error` is set."""

    timings: Timings
    container_id: str
    #: Whether this was the container's first input: its cold start was paid for by this call.
    cold_start: bool
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None = None
    value: Mapping[str, Any] | None = None
    error: RemoteError | None = None
    #: Containers that worked on the same call before and died at it: (id, when it began).
    earlier: tuple[tuple[str, float], ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """As plain types that any Python can unpickle."""
        return {
            "version": VERSION,
            "ok": self.error is None,
            "value": dict(self.value) if self.value is not None else None,
            "error": vars(self.error) if self.error is not None else None,
            "timings": vars(self.timings),
            "container_id": self.container_id,
            "cold_start": self.cold_start,
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_gpu_memory_bytes": self.peak_gpu_memory_bytes,
            "earlier": [list(one) for one in self.earlier],
        }


class BadEnvelope(ValueError):
    """What came back is not an envelope of this version."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(
            f"expected an envelope of version {VERSION} from the remote method, got {detail}. "
            "Deploy the app again from this version: `modal deploy -m modal_apps.renderer`."
        )


#: Containers that died at one call before, at most; Modal starts an input again a few times.
MOST_EARLIER = 100


def parse(wire: object) -> Envelope:
    """Read an answer. Its value is of plain types, and is read by whoever knows what was asked for.

    Raises:
        BadEnvelope: it is something else.
    """
    if not isinstance(wire, Mapping):
        raise BadEnvelope(f"a value of type {type(wire).__name__}")
    version = wire.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        known = isinstance(version, int) and -MOST <= version <= MOST
        raise BadEnvelope(f"version {version}" if known else "no version")
    try:
        envelope = _parsed(wire)
    except WrongPart as cause:
        raise BadEnvelope(f"one with a wrong part ({cause})") from cause
    except (KeyError, TypeError, ValueError, ArithmeticError) as cause:
        raise BadEnvelope(f"one with a wrong or missing part ({type(cause).__name__})") from cause
    if (envelope.value is None) == (envelope.error is None):
        raise BadEnvelope("one with not exactly one of value and error")
    return envelope


def _parsed(wire: Mapping[str, Any]) -> Envelope:
    value, error = wire["value"], wire["error"]
    return Envelope(
        timings=_timings(fields("timings", wire["timings"])),
        container_id=name("container_id", wire["container_id"], may_be_empty=True),
        cold_start=flag("cold_start", wire["cold_start"]),
        peak_memory_bytes=whole("peak_memory_bytes", wire["peak_memory_bytes"]),
        peak_gpu_memory_bytes=whole_or_none("peak_gpu_memory_bytes", wire["peak_gpu_memory_bytes"]),
        value=None if value is None else fields("value", value),
        error=None if error is None else _error(fields("error", error)),
        earlier=starts("earlier", wire.get("earlier", [])),
    )


def _error(wire: Mapping[str, Any]) -> RemoteError:
    return RemoteError(
        name("cause", wire["cause"]), text("message", wire["message"]), flag("retryable", wire["retryable"])
    )


def starts(part: str, wire: object) -> tuple[tuple[str, float], ...]:
    """Containers and when each began: (id, seconds since 1970).

    Raises:
        WrongPart: it is something else.
    """
    if not isinstance(wire, list | tuple) or len(wire) > MOST_EARLIER:
        raise WrongPart(part, f"at most {MOST_EARLIER} containers", wire)
    found = []
    for one in wire:
        if not isinstance(one, list | tuple) or len(one) != 2:  # noqa: PLR2004 - a pair
            raise WrongPart(part, "pairs of a container and when it began", one)
        found.append((name(part, one[0], may_be_empty=True), moment(part, one[1])))
    return tuple(found)


def _timings(wire: Mapping[str, Any]) -> Timings:
    return Timings(
        *(moment(part, wire[part]) for part in ("container_started_at", "started_at", "finished_at")),
        *(
            None if wire.get(part) is None else number(part, wire[part], most=LONGEST_S)
            for part in ("ran_s", "container_age_s")
        ),
    )
