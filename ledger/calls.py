"""What an overflow worker does with Modal calls: write the intent, record the call, follow it, stop and settle it."""

from collections.abc import Sequence
from typing import Literal

from ledger.containers import Usage
from ledger.errors import UnknownOutcome
from ledger.models import Kind
from ledger.outcomes import DueCancel, EndedEarly, Refused, Stale, ToppedUp
from ledger.scripts import ScriptRunner


class Calls:
    """The verbs about one call: recorded, topped up, stopped, settled; part of `ModalCalls`."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

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
                call_deadline_ms=int(row["call_deadline_ms"]) if row.get("call_deadline_ms") else None,
            )
            for row in answer["cancels"] or []
            # (A kind of a newer version: its own followers stop the call.)
            if row.get("kind") in set(Kind)
        ]

    def stop_orphan(
        self, job_id: str, attempt: int, *, call_id: str, announced_at: float, first_check_s: float, deadline_s: float
    ) -> Literal["adopted", "stopping", "known", "settled", "unknown"]:
        """A call says that it works on an attempt.

        Args:
            job_id: the job that the call names.
            attempt: the attempt that it names.
            call_id: the call.
            announced_at: when it began, seconds since 1970; bounds what it can have cost.
            first_check_s: if it is adopted, when a follower looks at it first, seconds from now.
            deadline_s: if it is adopted, our own wall-clock bound of it, seconds from now.

        Returns:
            `adopted`: the attempt still waited for its spawner's answer, and this call is it. `stopping`: nobody waits
            for it any more, and a follower stops it. `known`: it is the attempt's own. `settled`: it was, and its books
            are closed. `unknown`: the ledger has no such job or attempt.
        """
        answer = self._runner.call(
            "stop_orphan",
            id=job_id,
            attempt=attempt,
            call_id=call_id,
            announced_ms=int(announced_at * 1000),
            first_check_ms=int(first_check_s * 1000),
            deadline_ms=int(deadline_s * 1000),
        )
        match answer["outcome"]:
            case "adopted":
                return "adopted"
            case "stopping":
                return "stopping"
            case "known":
                return "settled" if answer["settled"] else "known"
            case "unknown":
                return "unknown"
            case other:
                raise UnknownOutcome("stop_orphan", other)

    def settle_cancel(self, job_id: str, attempt: int, *, cost_usd_micros: int = 0, usage: Usage | None = None) -> None:
        """A call that had to be stopped has ended: book what its containers cost, give back its reservation."""
        self._runner.call(
            "settle_cancel",
            id=job_id,
            attempt=attempt,
            cost_usd_micros=cost_usd_micros,
            usage=usage.to_wire() if usage else None,
        )

    def top_up(self, job_id: str, attempt: int, *, reserve_usd_micros: int) -> ToppedUp | Refused | Stale:
        """Set aside at least so much for a live attempt in all, if every dollar cap allows it; never less than it has.

        A refusal changes nothing; the caller decides whether the call goes on (workers/placement/stages.py).
        """
        answer = self._runner.call(
            "top_up",
            id=job_id,
            attempt=attempt,
            reserve_usd_micros=reserve_usd_micros,
        )
        match answer["outcome"]:
            case "topped_up":
                return ToppedUp(int(answer["reserved_usd_micros"]))
            case "refused":
                return Refused(answer["reason"])
            case "stale":
                return Stale()
            case other:
                raise UnknownOutcome("top_up", other)

    def idle_ended(
        self, kind: Kind, *, gpu: str, alive: int, asked_s_ago: float, busy: Sequence[str] = (), limit: int = 500
    ) -> EndedEarly:
        """Modal said how many containers of a kind and class exist: idle ones beyond that are paid up to now only.

        A container that is alive is never taken for gone, as long as the arguments are true: without `busy`, each one
        that exists may be one of the idle ones.

        Args:
            kind: the kind of job that the containers run.
            gpu: their class.
            alive: `num_total_runners` of the function's current statistics.
            asked_s_ago: how long ago Modal was asked, seconds (from before the question, by a steady clock).
            busy: containers of which the caller knows that a call works in them; they are not idle, so the bound is
                tighter by them.
            limit: containers at most at a time.
        """
        answer = self._runner.call(
            "idle_ended",
            kind=kind,
            gpu=gpu,
            alive=alive,
            busy=list(busy),
            asked_ago_ms=round(asked_s_ago * 1000),
            limit=limit,
        )
        return EndedEarly(int(answer["count"]), int(answer["given_back_usd_micros"]))
