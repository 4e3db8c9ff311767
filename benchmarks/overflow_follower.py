"""One follower in a process of its own, for `benchmarks.overflow`: what it costs is measured from outside.

S3 is left out: artifacts go nowhere. Everything else is the product's: the ledger, the SDK, the follower.
"""

import asyncio
import contextlib
import signal

from infra.artifacts import ArtifactStore, Video
from infra.limits import open_ledger
from infra.logs import configure_logging
from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger.models import Artifact
from ledger.nudges import Nudge
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.follower import Follower
from workers.overflow.modal_sdk.client import ModalSdk
from workers.resources import Resources


class NoStore(ArtifactStore):
    """Takes every video, and keeps none."""

    def put_video(self, job_id: str, attempt: int, video: Video) -> Artifact:
        """Nothing is put."""
        return Artifact(self.bucket, f"render/{job_id}/{attempt}/video.mp4", None, len(video.mp4), video.sha256)


class NoNudger(CeleryNudger):
    """Sends nothing: the benchmark does everything in its own order."""

    def send(self, nudge: Nudge) -> bool:
        """Not sent."""
        return True


def resources_of(settings: Settings) -> Resources:
    """The open ends of a process of the benchmark."""
    return Resources(settings, open_ledger(settings), NoStore(settings), NoNudger(settings))


def modal_of(settings: Settings) -> ModalSdk:
    """The way to Modal."""
    return ModalSdk(
        app_name=settings.modal.app,
        environment=settings.modal.environment,
        max_result_bytes=settings.modal.max_result_bytes,
    )


async def follow() -> None:
    """Follow until SIGTERM."""
    settings = Settings()
    configure_logging(settings)
    resources = resources_of(settings)
    follower = Follower(resources, modal_of(settings), Gate(resources.ledger, BreakerRules()))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, follower.wake_and_stop)
    print("ready", flush=True)
    await follower.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow())
