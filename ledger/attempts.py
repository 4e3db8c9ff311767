"""What the holder of an attempt does: start, renew, deliver, complete, fail. Every verb carries the fencing token."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from ledger import nudges
from ledger.containers import Usage
from ledger.errors import UnknownOutcome
from ledger.models import Artifact, JobRecord, Kind, record_from_fields
from ledger.outcomes import Completed, Delivering, Failed, Lost, Renewed, Requeued, Stale
from ledger.retries import RULES, Cause, RetryRule, memory_named_in
from ledger.training import TrainingRuns


class Attempts(TrainingRuns):
    """The verbs of GPU workers, and of followers when a call has ended."""

    def start_inhouse(
        self, kind: Kind, *, worker: str, lease_s: float, usd_nanos_per_s: int = 0, holder: str = ""
    ) -> JobRecord | None:
        """Take the in-house attempt that comes next, for `lease_s` seconds; None if none waits.

        At `usd_nanos_per_s` nano-dollars a second its time is booked, however it ends. `holder` is what `held_by` finds
        it by.
        """
        answer = self._runner.call(
            "start_inhouse",
            kind=kind,
            worker=worker,
            holder=holder,
            lease_ms=int(lease_s * 1000),
            usd_nanos_per_s=usd_nanos_per_s,
        )
        match answer["outcome"]:
            case "started":
                return record_from_fields(answer["job"])
            case "empty":
                return None
            case other:
                raise UnknownOutcome("start_inhouse", other)

    def held_by(self, holder: str) -> JobRecord | None:
        """The job of the in-house attempt that is alive and was started by this holder; None if there is none.

        It reads every attempt that is alive in-house: as many as there are own slots.
        """
        client: Any = self._runner.client

        def read() -> dict[str, str] | None:
            for kind in Kind:
                for job_id in client.zrange(f"{self._prefix}:active:inhouse:{kind}", 0, -1):
                    fields: dict[str, str] = client.hgetall(f"{self._prefix}:job:{job_id}")
                    attempt = f"{self._prefix}:attempt:{job_id}:{fields.get('attempt')}"
                    if fields and client.hget(attempt, "holder") == holder:
                        return fields
            return None

        found = self._runner.guarded(read)
        return record_from_fields(found) if found else None

    def renew(self, job_id: str, attempt: int, *, lease_s: float, progress: int | None = None) -> Renewed | Lost:
        """Keep an in-house attempt for another `lease_s` seconds; `progress` is 0 to 100."""
        answer = self._runner.call("renew", id=job_id, attempt=attempt, lease_ms=int(lease_s * 1000), progress=progress)
        match answer["outcome"]:
            case "renewed":
                return Renewed()
            case "lost":
                return Lost(answer["state"], int(answer["attempt"]))
            case other:
                raise UnknownOutcome("renew", other)

    def begin_delivery(self, job_id: str, attempt: int) -> Delivering | Stale:
        """Say that the result is there and is about to be put into S3."""
        answer = self._runner.call("begin_delivery", id=job_id, attempt=attempt)
        match answer["outcome"]:
            case "delivering":
                return Delivering()
            case "stale":
                return Stale(answer["state"], int(answer["attempt"]))
            case other:
                raise UnknownOutcome("begin_delivery", other)

    def complete(
        self,
        job_id: str,
        attempt: int,
        *,
        artifact: Artifact,
        measurements: Mapping[str, object],
        cost_usd_micros: int = 0,
        usage: Usage | None = None,
    ) -> Completed | Stale:
        """Publish the artifact: from here on the job points to it. Only the newest attempt can.

        What it cost is `cost_usd_micros` (in-house), or the Modal containers of `usage`.
        """
        answer = self._runner.call(
            "complete",
            id=job_id,
            attempt=attempt,
            artifact=json.dumps(asdict(artifact)),
            measurements=json.dumps(dict(measurements)),
            cost_usd_micros=cost_usd_micros,
            usage=usage.to_wire() if usage else None,
        )
        match answer["outcome"]:
            case "completed":
                return Completed()
            case "already":
                return Completed(already=True)
            case "stale":
                return Stale(answer["state"], int(answer["attempt"]))
            case other:
                raise UnknownOutcome("complete", other)

    def fail(
        self,
        job_id: str,
        attempt: int,
        *,
        cause: Cause,
        message: str,
        max_attempts: int,
        jitter: float,
        rule: RetryRule | None = None,
        cost_usd_micros: int = 0,
        usage: Usage | None = None,
        call_may_run: bool = False,
        where: Literal["cuda", "host"] | None = None,
    ) -> Requeued | Failed | Stale:
        """End an attempt without a result.

        Args:
            job_id: the job.
            attempt: the fencing token.
            cause: what ended it; each cause is counted apart.
            message: what happened, for the user.
            max_attempts: attempts that the job may have in all, whatever the causes.
            jitter: a random share, 0.0 to 1.0, for the pause before another attempt.
            rule: how often this cause is forgiven; None: as ledger/retries.py says.
            cost_usd_micros: what the attempt cost, in-house.
            usage: the Modal containers that it cost.
            call_may_run: its Modal call may still be running; a follower will stop it and settle then.
            where: which memory ran out, for `Cause.OUT_OF_MEMORY`; None: as far as the message tells.
        """
        if cause is Cause.OUT_OF_MEMORY and where is None:
            where = memory_named_in(message)
        answer = self._runner.call(
            "fail_attempt",
            id=job_id,
            attempt=attempt,
            cause=cause,
            message=message[:2000],
            rule=(rule or RULES[cause]).to_wire(),
            jitter=jitter,
            max_attempts=max_attempts,
            cost_usd_micros=cost_usd_micros,
            usage=usage.to_wire() if usage else None,
            must_stop=call_may_run,
            where=where,
        )
        match answer["outcome"]:
            case "requeued":
                return Requeued(nudges.decide(Kind(answer["kind"])))
            case "failed":
                return Failed()
            case "stale":
                return Stale(answer["state"], int(answer["attempt"]))
            case other:
                raise UnknownOutcome("fail_attempt", other)

    def slot_lives(self, kinds: Sequence[Kind], *, worker: str, lease_s: float) -> None:
        """An in-house slot for these kinds lives, for `lease_s` seconds from now."""
        self._runner.call("slot", kinds=list(kinds), worker=worker, lease_ms=int(lease_s * 1000))

    def slot_leaves(self, kinds: Sequence[Kind], *, worker: str) -> None:
        """An in-house slot stops in good order."""
        self._runner.call("slot", kinds=list(kinds), worker=worker, lease_ms=0)
