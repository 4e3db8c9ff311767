"""What training adds to the ledger: how runs go, how fast they are, and moves between pools."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ledger.decisions import Limits, RunOnModal
from ledger.errors import UnknownOutcome
from ledger.models import JobRecord, Kind, record_from_fields
from ledger.retries import Cause
from ledger.scripts import ScriptRunner

#: Rows that are kept of one job: a few runs' worth, whatever their length.
ROWS_KEPT = 400

#: Causes that say nothing about the job. They are counted anew from each checkpoint: a run that gets on does not fail.
OUTER_CAUSES = (
    Cause.LEASE_LOST, Cause.CRASH, Cause.PREEMPTED, Cause.TIMEOUT, Cause.CANCELLED_REMOTELY, Cause.RESULT_LOST,
    Cause.RESULT_EXPIRED, Cause.DELIVERY,
)  # fmt: skip


class Training:
    """The verbs of whoever trains, and of whoever watches it."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def note(
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

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """What a run has told, oldest first: `attempt`, `n`, `at` (its own clock, seconds since 1970), `kind`, ..."""
        texts = self._runner.guarded(lambda: self._runner.client.lrange(f"{self._prefix}:train:{job_id}", 0, -1))
        return [json.loads(text) for text in texts]

    def speeds(self) -> dict[str, float]:
        """What has been learnt of speeds: `speed_key` -> seconds per training example."""
        raw = self._runner.guarded(lambda: self._runner.client.hgetall(f"{self._prefix}:train:speeds"))
        return {key: float(value) for key, value in raw.items()}

    def waiting_inhouse(self, kind: Kind, *, limit: int) -> list[JobRecord]:
        """Jobs that are placed in-house and wait for a slot, the next one first. Unreadable ones are left out."""
        client = self._runner.client

        def read() -> list[Any]:
            ids: Any = client.zrange(f"{self._prefix}:waiting:inhouse:{kind}", 0, limit - 1)
            pipe = client.pipeline(transaction=False)
            for job_id in ids:
                pipe.hgetall(f"{self._prefix}:job:{job_id}")
            return pipe.execute(raise_on_error=False)

        return [record for row in self._runner.guarded(read) if (record := _readable(row)) is not None]

    def recall(self, record: JobRecord, decision: RunOnModal, *, limits: Limits, reason: str) -> bool:
        """Have a job that waits for an in-house slot decided about again, because Modal should have it.

        Returns:
            Whether it was; not if it has begun or moved on, nor if a limit keeps it off Modal now.
        """
        answer = self._runner.call(
            "recall",
            id=record.id,
            attempt=record.attempt,
            reason=reason,
            decision=vars(decision),
            limits=limits.to_wire(tenant=record.tenant, kind=record.kind),
        )
        return bool(answer["outcome"] == "recalled")

    def hold_spawn(self, job_id: str, attempt: int, *, lease_s: float) -> bool:
        """Keep the claim on an attempt that is being prepared for its spawn. False: it is not ours any more."""
        answer = self._runner.call("hold_spawn", id=job_id, attempt=attempt, lease_ms=int(lease_s * 1000))
        return bool(answer["outcome"] == "held")


def _readable(row: object) -> JobRecord | None:
    """None: there is no record, or whoever loads it next puts it into quarantine."""
    if not isinstance(row, dict) or not row:
        return None
    try:
        return record_from_fields(row)
    except (KeyError, ValueError, TypeError):
        return None
