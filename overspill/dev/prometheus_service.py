"""Prometheus, where it is installed: scrapes the stack's exporter, with the rules of monitoring/prometheus."""

import json
import shutil
from pathlib import Path

import httpx

from overspill.dev.environment import inherited
from overspill.dev.errors import MissingProgram
from overspill.dev.ports import free_ports
from overspill.dev.process import LeashedProcess
from overspill.dev.readiness import wait_until

_READY_TIMEOUT_S = 60.0
_STOP_GRACE_S = 5.0
_ANSWER_TIMEOUT_S = 1.0
#: In development one wants to see what has just happened.
_EVERY = "5s"
INSTALL_PROMETHEUS = "install it with `sudo apt-get install prometheus` (Debian, Ubuntu) or `make setup-tests`"


def find_prometheus() -> str | None:
    """The path of prometheus; None: it is not installed, and the stack does without."""
    return shutil.which("prometheus")


class PrometheusService:
    """One Prometheus on a free port. Port and data outlive a stop.

    Args:
        folder: for its configuration and data.
        logs: for its log.
        exporter: `host:port` of the exporter.
        rules: the folder of the rules' files.
    """

    def __init__(self, folder: Path, *, logs: Path, exporter: str, rules: Path) -> None:
        self._folder = folder
        self._log = logs / "prometheus.log"
        self._exporter = exporter
        self._rules = rules
        self.port = free_ports(1)[0]
        self.process: LeashedProcess | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What points others at it."""
        return {"OVERSPILL_PROMETHEUS_URL": self.url}

    def start(self) -> None:
        """Start it; `ready` tells when it answers.

        Raises:
            MissingProgram: prometheus is not installed.
        """
        binary = find_prometheus()
        if binary is None:
            raise MissingProgram("prometheus", INSTALL_PROMETHEUS)
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(self._configuration(), encoding="utf-8")
        self.process = LeashedProcess(
            [
                binary, f"--config.file={configuration}", f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=15d",
                "--enable-feature=exemplar-storage", "--log.level=warn",
            ],
            environment=inherited(self._folder.parent),
            log=self._log,
        )  # fmt: skip
        self.process.start()

    def _configuration(self) -> str:
        """JSON is YAML, too."""
        return json.dumps(
            {
                "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
                "rule_files": [str(self._rules / "*.yml")],
                "scrape_configs": [{"job_name": "overspill", "static_configs": [{"targets": [self._exporter]}]}],
            },
            indent=2,
        )

    def ready(self) -> None:
        """Return when it answers queries.

        Raises:
            NotReady: not within a minute.
        """

        def answers() -> bool:
            try:
                answer = httpx.get(f"{self.url}/-/ready", timeout=_ANSWER_TIMEOUT_S, trust_env=False)
            except httpx.HTTPError:
                return False
            return answer.status_code == httpx.codes.OK

        wait_until(answers, name="prometheus", timeout_s=_READY_TIMEOUT_S, process=self.process)

    def stop(self) -> None:
        """Stop it; the data is kept. May be called twice."""
        if self.process is not None:
            self.process.stop(grace_s=_STOP_GRACE_S)
