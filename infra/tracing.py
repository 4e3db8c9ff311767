"""Traces: one for each job, from the HTTP request to the artifact, across Celery and Modal. Off unless it is asked for.

It is on where the extra `otel` is installed and OTEL_EXPORTER_OTLP_ENDPOINT names a collector (OpenTelemetry's own
variables say the rest). The context travels with the job in the ledger, as a W3C `traceparent`, because no message of
ours carries a job. A job that came without one has a trace all the same: its ids are made from the job's id, so every
process finds the same. Containers on Modal need no packages: their timings come back in the envelope, and become spans
that the control plane makes.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
_NANOS = 1_000_000_000
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: Spans wait so long for company before they are sent, milliseconds: a pool's child may be ended without notice.
_SENT_AFTER_MS = 500
#: How long a batch is tried to be sent, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise, seconds.
_SEND_WITHIN_S = 3.0

#: The context of what this task or thread does now.
_here: ContextVar[str | None] = ContextVar("traceparent", default=None)


class Span(Protocol):
    """A piece of work that is being done."""

    @property
    def traceparent(self) -> str | None:
        """What continues it elsewhere; None: traces are off."""

    def note(self, **attributes: object) -> None:
        """Add facts about it: never a prompt, a key, or anything else that logs must not hold."""


class Tracing(Protocol):
    """Makes spans. The parent is what is given, else the span around it in this task or thread."""

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere."""

    def span(self, name: str, *, parent: str | None = None, **attributes: object) -> AbstractContextManager[Span]:
        """A span for the time of a block; what is begun inside is its child."""

    def past(
        self, name: str, *, began_at: float, ended_at: float, parent: str | None = None, **attributes: object
    ) -> str | None:
        """A span of something that is over, seconds since 1970; returns what makes others its children."""

    def close(self) -> None:
        """Send what waits; may be called twice."""


def of_job(job_id: str, traceparent: str | None) -> str:
    """The context of a job: what it was submitted with, else one that every process makes alike from its id."""
    if traceparent is not None and valid(traceparent):
        return traceparent
    digest = hashlib.sha256(job_id.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def valid(traceparent: str | None) -> bool:
    """Whether it is a context of version 00 (https://www.w3.org/TR/trace-context/)."""
    return traceparent is not None and _TRACEPARENT.fullmatch(traceparent) is not None


@contextmanager
def inside(traceparent: str | None) -> Iterator[None]:
    """What is begun in the block is a child of this context."""
    token = _here.set(traceparent)
    try:
        yield
    finally:
        _here.reset(token)


class _NoSpan:
    """What there is where traces are off."""

    traceparent: str | None = None

    def note(self, **attributes: object) -> None:
        """Nothing."""


class Off:
    """No traces."""

    is_on = False

    @contextmanager
    def span(self, name: str, *, parent: str | None = None, **attributes: object) -> Iterator[Span]:
        """Nothing, around the block."""
        yield _NO_SPAN

    def past(
        self, name: str, *, began_at: float, ended_at: float, parent: str | None = None, **attributes: object
    ) -> str | None:
        """Nothing."""
        return None

    def close(self) -> None:
        """Nothing."""


_NO_SPAN = _NoSpan()


@dataclass(frozen=True)
class _OpenSpan:
    """A span of the SDK's."""

    span: "object"
    traceparent: str | None

    def note(self, **attributes: object) -> None:
        """Add facts."""
        self.span.set_attributes(_plain(attributes))  # type: ignore[attr-defined]  # the SDK may not be installed


class OpenTelemetry:
    """Spans by OpenTelemetry's SDK."""

    is_on = True

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("overspill")

    @contextmanager
    def span(self, name: str, *, parent: str | None = None, **attributes: object) -> Iterator[Span]:
        """A span for the time of a block. What the block raises is noted, and passes through."""
        opened = self._tracer.start_span(name, context=_context(parent or _here.get()), attributes=_plain(attributes))
        mine = _OpenSpan(opened, _traceparent_of(opened))
        try:
            with inside(mine.traceparent):
                yield mine
        except BaseException as error:
            opened.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            opened.end()

    def past(
        self, name: str, *, began_at: float, ended_at: float, parent: str | None = None, **attributes: object
    ) -> str | None:
        """A span of something that is over."""
        began_ns, ended_ns = round(began_at * _NANOS), round(max(began_at, ended_at) * _NANOS)
        over = self._tracer.start_span(
            name, context=_context(parent or _here.get()), start_time=began_ns, attributes=_plain(attributes)
        )
        over.end(end_time=ended_ns)
        return _traceparent_of(over)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def _context(traceparent: str | None) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 - an extra
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier = {"traceparent": traceparent} if traceparent else {}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _traceparent_of(span: object) -> str:
    context = span.get_span_context()  # type: ignore[attr-defined]  # the SDK may not be installed
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _plain(attributes: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """Attributes as OpenTelemetry takes them, in its spelling of names: `overspill.job_id`."""
    return {
        f"overspill.{name}": value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in attributes.items()
        if value is not None
    }


def tracing() -> Tracing:
    """This process's traces: made when first asked for, anew after a fork."""
    return _of_process(os.getpid(), os.environ.get(ENDPOINT_VARIABLE, ""))


@functools.lru_cache(maxsize=1)
def _of_process(_process_id: int, endpoint: str) -> Tracing:
    if not endpoint:
        return Off()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        return Off()
    name = os.environ.get("OTEL_SERVICE_NAME", "overspill")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    # A collector that is away must not hold up a worker that stops.
    exporter = OTLPSpanExporter(timeout=float(os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT", _SEND_WITHIN_S)))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SENT_AFTER_MS))
    return OpenTelemetry(provider)
