"""Real Prometheus and Alertmanager on free loopback ports, and a webhook that remembers what it was told."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.redis_server import free_port
from tests.support.waiting import until

MONITORING = Path(__file__).parents[2] / "monitoring"


def needs(*programs: str) -> None:
    """Skip where one of these programs is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (make setup-tests)")


@dataclass(frozen=True)
class Told:
    """One alert in one message to the webhook."""

    at: float
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


@dataclass
class Webhook:
    """What Alertmanager has said, in order."""

    url: str
    told: list[Told] = field(default_factory=list)

    def of(self, name: str, status: str, *, since: float = 0.0) -> list[Told]:
        """Alerts of a name, firing or resolved."""
        return [one for one in self.told if (one.name, one.status) == (name, status) and one.at >= since]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A receiver for Alertmanager's messages."""
    remembered = Webhook("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                remembered.told.append(Told(time.monotonic(), alert["status"], alert["labels"], alert["annotations"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    remembered.url = f"http://127.0.0.1:{server.server_port}/alerts"
    thread = threading.Thread(target=server.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield remembered
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _running(command: list[str], *, ready_url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as log_file:
        process = subprocess.Popen(command, stdout=log_file, stderr=subprocess.STDOUT)
    try:
        until(lambda: _status(ready_url), lambda status: status == 200, timeout_s=60)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


@contextmanager
def running_alertmanager(folder: Path, *, configuration: str) -> Iterator[str]:
    """Alertmanager with this configuration; its address without a scheme."""
    port = free_port()
    path = folder / "alertmanager.yml"
    path.write_text(configuration)
    command = [
        "prometheus-alertmanager", f"--config.file={path}", f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with _running(command, ready_url=f"http://127.0.0.1:{port}/-/ready", log=folder / "alertmanager.log"):
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that can be asked."""

    url: str

    def query(self, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """The series that an expression has, now or at a time (seconds since 1970)."""
        moment = {} if at is None else {"time": str(at)}
        answer = httpx.get(
            f"{self.url}/api/v1/query", params={"query": expression, **moment}, timeout=10, trust_env=False
        ).json()
        assert answer["status"] == "success", answer
        result = answer["data"]["result"]
        assert isinstance(result, list)
        return result

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return {series["metric"]["alertname"] for series in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def running_prometheus(
    folder: Path, *, exporter: str, rules: Mapping[str, str], alertmanager: str, every: str
) -> Iterator[Prometheus]:
    """Prometheus that scrapes the exporter (`host:port`) and evaluates these rules, both as often as `every` says."""
    port = free_port()
    for name, text in rules.items():
        (folder / name).write_text(text)
    configuration = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(folder / name) for name in rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "overspill", "static_configs": [{"targets": [exporter]}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(configuration))
    command = [
        "prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _running(command, ready_url=f"{url}/-/ready", log=folder / "prometheus.log"):
        yield Prometheus(url)
