"""What maintenance does again and again. Every call is bounded, and harmless when two processes make it at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import IllegalTransition, UnknownOutcome
from ledger.models import Kind
from ledger.nudges import Nudge, all_nudges, decide
from ledger.outcomes import ExpiredLease
from ledger.retries import RULES, Cause
from ledger.scripts import ScriptRunner


@dataclass(frozen=True)
class Retired:
    """What one call of `retire` did."""

    #: Jobs that are gone; what they have left in stores is noted for deletion.
    ids: Sequence[str]
    #: Jobs at the front that stay until their last call is stopped and settled; the next call of a round skips them.
    kept: int
    #: Whether another call finds more to do now.
    more: bool


class Maintenance:
    """The verbs of maintenance services, and of whatever else one process at a time does."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

    def lead(self, duty: str, *, owner: str, lease_s: float) -> bool:
        """Take or keep the lease on a duty, which one process at a time leads. True: ours for `lease_s` seconds."""
        answer = self._runner.call("lead", duty=duty, owner=owner, lease_ms=int(lease_s * 1000))
        match answer["outcome"]:
            case "leading":
                return True
            case "following":
                return False
            case other:
                raise UnknownOutcome("lead", other)

    def resign(self, duty: str, *, owner: str) -> None:
        """Give up the lease on a duty, so that another process need not wait for its end."""
        self._runner.call("lead", duty=duty, owner=owner, lease_ms=0)

    def done(self, duty: str) -> None:
        """A round of a duty went well. A duty whose rounds all fail is seen by the time of the last one that did."""
        self._runner.call("done", duty=duty, failed=False)

    def failed(self, duty: str) -> int:
        """A round of a duty failed; returns how many have failed in a row."""
        return int(self._runner.call("done", duty=duty, failed=True)["failed_rounds"])

    def expire_leases(
        self, *, limit: int, max_attempts: int | Mapping[Kind, int], jitter: float = 1.0
    ) -> list[ExpiredLease]:
        """Take attempts away from holders that have not renewed: their jobs wait again, or have failed.

        Args:
            limit: leases in one sweep.
            max_attempts: attempts that a job may have in all, whatever the causes; for every kind, or by kind.
            jitter: a random share, 0.0 to 1.0, for the pause before another attempt.

        Raises:
            IllegalTransition: a bug of ours about single jobs; the others of the batch are done.
        """
        by_kind = max_attempts if isinstance(max_attempts, Mapping) else dict.fromkeys(Kind, max_attempts)
        answer = self._runner.call(
            "expire_leases",
            limit=limit,
            max_attempts_by_kind={str(kind): by_kind[kind] for kind in Kind},
            jitter=jitter,
            rules={cause: RULES[cause].to_wire() for cause in (Cause.LEASE_LOST, Cause.SPAWN_LOST)},
        )
        _raise_errors(answer)
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

    def leaked_reservations(self, *, limit: int) -> tuple[list[str], int]:
        """Give back reservations that no attempt will ever settle, of those whose time for a check has come.

        Returns:
            Whose they were (there should be none), and how many were checked: fewer than `limit` if none is left.
        """
        answer = self._runner.call("leaked_reservations", limit=limit)
        return list(answer["ids"] or []), int(answer["checked"])

    def retire(
        self,
        kind: Kind,
        *,
        older_than_s: float,
        bucket: str,
        limit: int,
        on_volume: bool = False,
        skip: int = 0,
        attempts: int = 2000,
    ) -> Retired:
        """Forget jobs that ended longer ago, and note what they have left in stores for deletion.

        Args:
            kind: of these jobs.
            older_than_s: since their end, seconds.
            bucket: where they have left objects in S3.
            limit: jobs in one call.
            on_volume: train jobs may have left files on Modal's volume.
            skip: jobs at the front that earlier calls of this round have kept.
            attempts: records of attempts in one call. A job that claims more goes in several calls.
        """
        answer = self._runner.call(
            "retire",
            kind=kind,
            older_than_ms=int(older_than_s * 1000),
            limit=limit,
            skip=skip,
            budget=attempts,
            bucket=bucket,
            on_volume=on_volume,
        )
        return Retired(list(answer["ids"] or []), int(answer["kept"]), bool(answer["more"]))

    def due_held(self, *, limit: int) -> tuple[list[Nudge], list[str]]:
        """Held jobs whose time has come: the nudges for those that are decided about again, the ids of those shed.

        Raises:
            IllegalTransition: a bug of ours about single jobs; the others of the batch are done.
        """
        answer = self._runner.call("due_held", limit=limit)
        _raise_errors(answer)
        kinds = sorted({Kind(row["kind"]) for row in answer["requeued"] or []})
        return [decide(kind) for kind in kinds], [row["id"] for row in answer["shed"] or []]


def _raise_errors(answer: Mapping[str, Any]) -> None:
    """A script could not move some jobs on. It has moved the others of its batch."""
    if answer["errors"]:
        raise IllegalTransition("; ".join(row["error"] for row in answer["errors"]))
