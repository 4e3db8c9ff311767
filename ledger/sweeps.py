"""What the reconciler does again and again. Every sweep is bounded, and harmless when two run at once."""

import json
from collections.abc import Mapping

from ledger.errors import UnknownOutcome
from ledger.models import Artifact, Kind
from ledger.nudges import Nudge, all_nudges, decide
from ledger.outcomes import ExpiredLease
from ledger.retries import RULES, Cause
from ledger.scripts import ScriptRunner


class Sweeps:
    """The reconciler's verbs."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

    def lead(self, duty: str, *, owner: str, lease_s: float) -> bool:
        """Take or keep a duty that one process at a time has. True: it is ours for `lease_s` seconds."""
        answer = self._runner.call("lead", duty=duty, owner=owner, lease_ms=int(lease_s * 1000))
        match answer["outcome"]:
            case "leading":
                return True
            case "following":
                return False
            case other:
                raise UnknownOutcome("lead", other)

    def resign(self, duty: str, *, owner: str) -> None:
        """Lay a duty down, so that another need not wait for the lease to end."""
        self._runner.call("lead", duty=duty, owner=owner, lease_ms=0)

    def done(self, duty: str) -> None:
        """A duty was done, and went well. Who has it and fails each time is seen by when that was last."""
        self._runner.call("done", duty=duty)

    def expire_leases(
        self, *, limit: int, max_attempts: int | Mapping[Kind, int], jitter: float = 1.0
    ) -> list[ExpiredLease]:
        """Take attempts away from holders that have not renewed: their jobs wait again, or have failed.

        Args:
            limit: leases in one sweep.
            max_attempts: attempts that a job may have in all, whatever the causes; for every kind, or by kind.
            jitter: a random share, 0.0 to 1.0, for the pause before another attempt.
        """
        by_kind = max_attempts if isinstance(max_attempts, Mapping) else dict.fromkeys(Kind, max_attempts)
        answer = self._runner.call(
            "expire_leases",
            limit=limit,
            max_attempts_by_kind={str(kind): by_kind[kind] for kind in Kind},
            jitter=jitter,
            rules={cause: RULES[cause].to_wire() for cause in (Cause.LEASE_LOST, Cause.SPAWN_LOST)},
        )
        return [
            ExpiredLease(row["id"], int(row["attempt"]), Kind(row["kind"]), row["cause"], row["outcome"])
            for row in answer["jobs"] or []
        ]

    def overdue_nudges(self, *, limit: int) -> list[tuple[Nudge, int]]:
        """Nudges that seem lost, each with how many jobs wait for it (at most `limit`)."""
        by_queue: dict[str, Nudge] = {}
        for nudge in all_nudges():
            by_queue.setdefault(nudge.queue, nudge)
        answer = self._runner.call("overdue_nudges", queues=list(by_queue), limit=limit)
        return [(by_queue[queue], int(number)) for queue, number in dict(answer["counts"] or {}).items()]

    def idle_containers(self, *, limit: int) -> int:
        """Book the idle tails of containers that are certainly gone; returns how many."""
        return int(self._runner.call("idle_containers", limit=limit)["count"])

    def stray_reservations(self, *, limit: int) -> list[str]:
        """Give back reservations that no attempt will ever settle; returns whose they were (there should be none)."""
        found: list[str] = []
        after = 0
        while True:
            answer = self._runner.call("stray_reservations", limit=limit, after=after)
            strays = list(answer["ids"] or [])
            found += strays
            after += int(answer["scanned"]) - len(strays)
            if int(answer["scanned"]) < limit:
                return found

    def retire(self, kind: Kind, *, older_than_s: float, limit: int) -> tuple[int, list[Artifact]]:
        """Forget jobs that ended longer ago; returns how many, and their artifacts, to be removed from S3."""
        artifacts, ids = self.retire_by_name(kind, older_than_s=older_than_s, limit=limit)
        return len(ids), artifacts

    def retire_by_name(self, kind: Kind, *, older_than_s: float, limit: int) -> tuple[list[Artifact], list[str]]:
        """The same; returns the artifacts and the ids, for jobs that leave more in S3 than their artifact."""
        answer = self._runner.call("retire", kind=kind, older_than_ms=int(older_than_s * 1000), limit=limit)
        return [Artifact(**json.loads(text)) for text in answer["artifacts"] or []], list(answer["ids"] or [])

    def due_held(self, *, limit: int) -> tuple[list[Nudge], list[str]]:
        """Held jobs whose time has come: the nudges for those that are decided about again, the ids of those shed."""
        answer = self._runner.call("due_held", limit=limit)
        kinds = sorted({Kind(row["kind"]) for row in answer["requeued"] or []})
        return [decide(kind) for kind in kinds], [row["id"] for row in answer["shed"] or []]
