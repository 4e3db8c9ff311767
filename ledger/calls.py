"""What an overflow worker does with Modal calls: write the intent, record the call, follow it, stop and settle it."""

from typing import Literal

from ledger.containers import Usage
from ledger.errors import UnknownOutcome
from ledger.models import JobRecord, Kind, record_from_fields
from ledger.outcomes import DueCall, DueCancel, Stale
from ledger.scripts import ScriptRunner


class Calls:
    """The verbs of spawners and followers."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def claim_spawns(self, *, worker: str, limit: int, lease_s: float) -> list[JobRecord]:
        """Take Modal attempts to spawn. The intent is written here, before any call exists."""
        answer = self._runner.call("claim_spawns", worker=worker, limit=limit, lease_ms=int(lease_s * 1000))
        return [record_from_fields(row) for row in answer["jobs"] or []]

    def record_call(self, job_id: str, attempt: int, *, call_id: str, first_check_s: float, deadline_s: float) -> bool:
        """Record a spawned call. False: the attempt is not wanted any more, and the call is marked to be stopped.

        Args:
            job_id: the job.
            attempt: the fencing token.
            call_id: Modal's id of the call.
            first_check_s: when a follower looks at it first, seconds from now.
            deadline_s: our own wall-clock bound of the call, seconds from now.
        """
        answer = self._runner.call(
            "record_call",
            id=job_id,
            attempt=attempt,
            call_id=call_id,
            first_check_ms=int(first_check_s * 1000),
            deadline_ms=int(deadline_s * 1000),
        )
        match answer["outcome"]:
            case "recorded":
                return True
            case "unwanted":
                return False
            case other:
                raise UnknownOutcome("record_call", other)

    def claim_due(self, *, limit: int, lease_s: float) -> list[DueCall]:
        """Take calls that are due to be looked at, for `lease_s` seconds."""
        answer = self._runner.call("claim_calls", limit=limit, lease_ms=int(lease_s * 1000))
        return [
            DueCall(
                record=record_from_fields(row["job"]),
                now_ms=int(answer["now_ms"]),
                spawned_ms=int(row["spawned_ms"]),
                call_deadline_ms=int(row["call_deadline_ms"]),
            )
            for row in answer["calls"] or []
        ]

    def release(self, job_id: str, attempt: int, *, again_in_s: float, progress: int | None = None) -> Stale | None:
        """The call still runs: look again in `again_in_s` seconds."""
        answer = self._runner.call(
            "release_call", id=job_id, attempt=attempt, again_in_ms=int(again_in_s * 1000), progress=progress
        )
        match answer["outcome"]:
            case "released":
                return None
            case "stale":
                return Stale()
            case other:
                raise UnknownOutcome("release_call", other)

    def claim_cancels(self, *, limit: int, again_in_s: float) -> list[DueCancel]:
        """Calls that must be stopped. Each falls due again after `again_in_s` seconds until it is settled."""
        answer = self._runner.call("claim_cancels", limit=limit, lease_ms=int(again_in_s * 1000))
        return [
            DueCancel(
                job_id=row["id"],
                attempt=int(row["attempt"]),
                kind=Kind(row["kind"]),
                call_id=row.get("call_id"),
                gpu=row.get("gpu") or "",
                now_ms=int(answer["now_ms"]),
                spawned_ms=int(row["spawned_ms"]) if row.get("spawned_ms") else None,
                spawn_intent_ms=int(row["spawn_intent_ms"]) if row.get("spawn_intent_ms") else None,
            )
            for row in answer["cancels"] or []
            if row.get("kind")
        ]

    def stop_orphan(
        self, job_id: str, attempt: int, *, call_id: str, announced_at: float
    ) -> Literal["stopping", "known", "unknown"]:
        """A call says that it works on an attempt. `stopping`: the ledger knew another or none, and stops this one.

        Args:
            job_id: the job that the call names.
            attempt: the attempt that it names.
            call_id: the call.
            announced_at: when it began, seconds since 1970; bounds what it can have cost.
        """
        answer = self._runner.call(
            "stop_orphan", id=job_id, attempt=attempt, call_id=call_id, announced_ms=int(announced_at * 1000)
        )
        match answer["outcome"]:
            case "stopping":
                return "stopping"
            case "known":
                return "known"
            case "unknown":
                return "unknown"
            case other:
                raise UnknownOutcome("stop_orphan", other)

    def is_settled(self, job_id: str, attempt: int) -> bool:
        """Whether nothing more is expected of an attempt: its books are closed, or it is not known at all."""
        fields = self._runner.guarded(
            lambda: self._runner.client.hmget(f"{self._prefix}:attempt:{job_id}:{attempt}", "pool", "settled")
        )
        return fields[0] is None or fields[1] is not None

    def settle_cancel(self, job_id: str, attempt: int, *, cost_usd_micros: int = 0, usage: Usage | None = None) -> None:
        """A call that had to be stopped has ended: book what its containers cost, give back its reservation."""
        self._runner.call(
            "settle_cancel",
            id=job_id,
            attempt=attempt,
            cost_usd_micros=cost_usd_micros,
            usage=usage.to_wire() if usage else None,
        )
