"""What the API needs from others, as protocols; `infra` has the implementations, tests may bring their own."""

from typing import Literal, Protocol

from ledger.models import Artifact
from ledger.nudges import Nudge

Variant = Literal["video", "thumbnail"]


class NudgeSender(Protocol):
    """Sends Celery messages. A nudge that is lost costs time, never a job."""

    def send(self, nudge: Nudge) -> bool:
        """Send it within a few seconds, or give up. Never raises. True if it was sent."""

    def close(self) -> None:
        """Let go of the broker; may be called twice."""


class Signer(Protocol):
    """Makes addresses that let every holder fetch a result for a while."""

    def presigned_url(self, artifact: Artifact, *, variant: Variant) -> str:
        """The address of the video or of its thumbnail."""
