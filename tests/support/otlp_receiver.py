"""A collector for traces on loopback: takes OTLP over HTTP, and keeps every span."""

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, as it came over the wire. Ids are hex; times are seconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    #: Empty: it is the first of its trace.
    parent_id: str
    began_at: float
    ended_at: float
    attributes: dict[str, Any] = field(default_factory=dict)


class OtlpReceiver:
    """What has come so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []

    def take(self, body: bytes) -> None:
        """Keep what one request has brought."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            ReceivedSpan(
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                began_at=span.start_time_unix_nano / 1e9,
                ended_at=span.end_time_unix_nano / 1e9,
                attributes={
                    entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in span.attributes
                },
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace."""
        with self._lock:
            return [span for span in self._spans if span.trace_id == trace_id]


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A collector on a free port for the time of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(10)
