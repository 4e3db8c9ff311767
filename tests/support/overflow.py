"""The overflow plane without Celery around it: a real ledger, the real SDK, a modal_local; artifacts go nowhere."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import modal

from infra.artifacts import ArtifactStore, Video
from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger import Ledger
from ledger.decisions import RunOnModal
from ledger.models import Artifact, JobRecord
from ledger.nudges import Nudge
from modal_local.admin_client import AdminClient
from tests.support.ledgers import place, submit
from tests.support.modal_command import run_modal
from tests.support.settings import settings_of
from tests.support.waiting import until
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.follower import Follower
from workers.overflow.modal_sdk.client import ModalSdk
from workers.overflow.spawner import Spawner
from workers.resources import Resources
from workers.services import FollowerThread

ROOT = Path(__file__).parents[2]
APP = "overspill-renderer"


class NoStore(ArtifactStore):
    """Takes every video, and keeps none."""

    def put_video(self, job_id: str, attempt: int, video: Video) -> Artifact:
        """Nothing is put."""
        return Artifact(self.bucket, f"render/{job_id}/{attempt}/video.mp4", None, len(video.mp4), video.sha256)


class NoNudger(CeleryNudger):
    """Sends nothing: a test does everything in its own order."""

    def send(self, nudge: Nudge) -> bool:
        """Not sent."""
        return True


def deploy_renderer(environment: Mapping[str, str]) -> None:
    """Deploy the renderer by Modal's own command."""
    done = run_modal("deploy", "-m", "modal_apps.renderer", cwd=ROOT, env={**_plain_environment(), **environment})
    assert done.returncode == 0, done.stderr


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}


def client_of(environment: Mapping[str, str]) -> modal.Client:
    """A client of one server, whatever others this process talks to."""
    previous = os.environ.get("MODAL_SERVER_URL")
    os.environ["MODAL_SERVER_URL"] = environment["MODAL_SERVER_URL"]
    try:
        return modal.Client.from_credentials(environment["MODAL_TOKEN_ID"], environment["MODAL_TOKEN_SECRET"])
    finally:
        if previous is None:
            del os.environ["MODAL_SERVER_URL"]
        else:
            os.environ["MODAL_SERVER_URL"] = previous


@dataclass
class Plane:
    """One overflow plane on a ledger and a Modal."""

    settings: Settings
    ledger: Ledger
    resources: Resources
    modal: ModalSdk
    gate: Gate
    admin: AdminClient

    @classmethod
    def on(
        cls, ledger: Ledger, environment: Mapping[str, str], client: modal.Client, *,
        artifacts: ArtifactStore | None = None, app: str = APP,
        rules: BreakerRules | None = None, **fields: Any,
    ) -> "Plane":  # fmt: skip
        """A plane whose settings are `fields`, beside what finds the ledger."""
        settings = settings_of(
            {
                "ledger_url": ledger.settings.url.get_secret_value(),
                "ledger_prefix": ledger.prefix,
                "orphan_sweep_every_s": 3600,
                **fields,
            }
        )
        resources = Resources(settings, ledger, artifacts or NoStore(settings), NoNudger(settings))
        renderer = ModalSdk(
            app_name=app, environment=None, max_result_bytes=settings.modal.max_result_bytes, client=client
        )
        gate = Gate(ledger, rules or BreakerRules())
        return cls(settings, ledger, resources, renderer, gate, AdminClient(environment["MODAL_LOCAL_ADMIN_URL"]))

    def placed(self, prompt: str, *, gpu: str = "H100", reserve_usd_micros: int = 1_000_000) -> str:
        """A job that is placed on Modal and waits for its spawn."""
        job_id = submit(self.ledger, prompt=prompt)
        rate = self.settings.modal.prices.usd_nanos_per_s(gpu)
        place(self.ledger, RunOnModal(gpu=gpu, reserve_usd_micros=reserve_usd_micros, usd_nanos_per_s=rate))
        return job_id

    def spawn(self) -> dict[str, int]:
        """Spawn all that waits."""
        return Spawner(self.resources, self.modal, self.gate).run(worker="test")

    @contextmanager
    def following(self) -> Iterator[None]:
        """A follower at work."""
        service = FollowerThread(Follower(self.resources, self.modal, self.gate))
        service.start()
        try:
            assert service.ready(10)
            yield
        finally:
            service.stop()

    def ended(self, job_id: str, *, timeout_s: float = 20) -> JobRecord:
        """Wait for a job's end."""
        return until(lambda: self.ledger.jobs.get(job_id), lambda record: record.is_terminal, timeout_s=timeout_s)

    def attempt_ended(self, job_id: str, number: int = 1, *, timeout_s: float = 20) -> dict[str, str]:
        """Wait for an attempt's end, whatever becomes of its job."""
        return until(lambda: self.ledger.jobs.attempt(job_id, number), lambda at: "outcome" in at, timeout_s=timeout_s)
