"""The demo's last line, and whether it was a success. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overspill.cli.demo_train.runs import ACCURACY, RECOGNISED


@dataclass(frozen=True)
class TrainVerdict:
    """How it went.

    Attributes:
        accuracy: the classifier's, on the held-out part; None: it did not come so far.
        recognised: share of the transformer's samples that the classifier recognises.
        preemptions: kills that a run has survived.
        video: where the video lies.
        complaints: what else is not as it should be, a sentence each.
    """

    accuracy: float | None
    recognised: float | None
    preemptions: int
    video: Path | None
    complaints: Sequence[str] = ()

    @property
    def all_complaints(self) -> list[str]:
        """What is not as it should be."""
        said = list(self.complaints)
        if self.accuracy is not None and self.accuracy < ACCURACY:
            said.append(f"expected the classifier to reach {ACCURACY:.0%}, it reached {self.accuracy:.1%}")
        if self.recognised is not None and self.recognised < RECOGNISED:
            said.append(f"expected {RECOGNISED:.0%} of the samples to be recognised, got {self.recognised:.0%}")
        if not self.preemptions:
            said.append("expected a run to survive a preemption, none was struck")
        if None in (self.accuracy, self.recognised, self.video):
            said.append("it did not come to its end")
        return said

    @property
    def exit_code(self) -> int:
        """0 only if there is nothing to complain about."""
        return 1 if self.all_complaints else 0

    @property
    def last_line(self) -> str:
        """What a script reads."""
        accuracy = "-" if self.accuracy is None else f"{self.accuracy * 100:.1f} %"
        recognised = "-" if self.recognised is None else f"{self.recognised * 100:.0f} %"
        kills = f"{self.preemptions} preemption{'' if self.preemptions == 1 else 's'} survived"
        return f"demo-train: classifier {accuracy}, samples {recognised} recognised, {kills}, video {self.video or '-'}"
