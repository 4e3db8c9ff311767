"""How training runs go: what they tell of themselves, kept bounded for each job."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ledger.errors import UnknownOutcome
from ledger.retries import Cause
from ledger.scripts import ScriptRunner

#: Rows that are kept of one job: a few runs' worth, whatever their length.
ROWS_KEPT = 400

#: Causes that say nothing about the job. They are counted anew from each checkpoint: a run that gets on does not fail.
OUTER_CAUSES = (
    Cause.LEASE_LOST, Cause.CRASH, Cause.PREEMPTED, Cause.TIMEOUT, Cause.CANCELLED_REMOTELY, Cause.RESULT_LOST,
    Cause.RESULT_EXPIRED, Cause.DELIVERY,
)  # fmt: skip


class TrainingRuns:
    """The verbs of whoever trains, and of whoever watches it; part of `Attempts`."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def note_training(
        self,
        job_id: str,
        attempt: int,
        rows: Sequence[Mapping[str, Any]],
        *,
        progress: int | None = None,
        speed: tuple[str, float] | None = None,
    ) -> int:
        """Keep rows about a run; returns how many were new.

        Args:
            job_id: the job.
            attempt: the attempt that they are about.
            rows: JSON objects, each with its number `n` in the attempt, growing.
            progress: 0 to 100, of the whole job.
            speed: what was learnt: a key (`speed_key`), and seconds per training example.
        """
        answer = self._runner.call(
            "note_train",
            id=job_id,
            attempt=attempt,
            rows=[
                {
                    "n": int(row["n"]),
                    "text": json.dumps({"attempt": attempt, **row}),
                    "kind": row.get("kind"),
                    "step": row.get("step", 0),
                }
                for row in rows
            ],
            outer_causes=OUTER_CAUSES,
            kept=ROWS_KEPT,
            progress=progress,
            speed=None if speed is None else {"key": speed[0], "seconds_per_example": speed[1]},
        )
        match answer["outcome"]:
            case "noted":
                return int(answer["new"])
            case "unknown":
                return 0
            case other:
                raise UnknownOutcome("note_train", other)

    def training_rows(self, job_id: str) -> list[dict[str, Any]]:
        """What a run has told, oldest first: `attempt`, `n`, `at` (its own clock, seconds since 1970), `kind`, ..."""
        texts = self._runner.guarded(lambda: self._runner.client.lrange(f"{self._prefix}:train:{job_id}", 0, -1))
        return [json.loads(text) for text in texts]
