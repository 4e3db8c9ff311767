"""HTTP: `/metrics` in Prometheus's or OpenMetrics' words, `/healthz`. Start, ready, stop; may be stopped twice."""

import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from infra.settings import Settings
from monitoring.exporter.exposition import CONTENT_TYPE, as_openmetrics
from monitoring.exporter.facts import Facts
from monitoring.exporter.families import families
from monitoring.exporter.reading import Reader

log = structlog.get_logger(__name__)

#: A client that sends no request is dropped after this, seconds.
_IDLE_CLIENT_S = 10.0


class LedgerCollector(Collector):
    """Reads at each scrape; keeps nothing."""

    def __init__(self, reader: Reader, facts: Facts) -> None:
        self._reader = reader
        self._facts = facts

    def describe(self) -> list[Family]:
        """Nothing: asked when it is registered, when no Redis need be there."""
        return []

    def collect(self) -> Iterator[Family]:
        """Read, and say it in metrics."""
        return families(self._reader.read(), self._facts)


class Exporter:
    """Serves metrics on one port."""

    def __init__(self, settings: Settings) -> None:
        self._reader = Reader(settings)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(LedgerCollector(self._reader, Facts.of(settings)))
        registry = self._registry

        class Handler(_Handler):
            """One request to this exporter."""

            def metrics(self) -> tuple[bytes, str]:
                if "application/openmetrics-text" in self.headers.get("Accept", ""):
                    return as_openmetrics(registry.collect()), CONTENT_TYPE
                return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

        self._http = ThreadingHTTPServer((settings.exporter.host, settings.exporter.port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="exporter", daemon=True)
        self._stopped = False

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._http.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def ready(self) -> bool:
        """Whether it answers. It binds its port when it is made, so a request is never refused, at most late."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer nothing any more."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._reader.close()


class _Handler(BaseHTTPRequestHandler):
    """Routes; subclasses know the metrics."""

    server_version = "overspill-exporter"
    sys_version = ""
    timeout = _IDLE_CLIENT_S

    def metrics(self) -> tuple[bytes, str]:
        """Body and content type of /metrics."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            try:
                body, content_type = self.metrics()
            except Exception:
                log.exception("exporter.scrape_failed")
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the scrape failed; see the exporter's log\n")
                return
            self._answer(HTTPStatus.OK, body, content_type)
        elif path == "/healthz":
            self._answer(HTTPStatus.OK, b"ok\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"expected /metrics or /healthz\n")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Scrapes are not news."""
