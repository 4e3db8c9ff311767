"""What a dispatcher does: take the queued jobs that come next, see the cluster whole, commit decisions."""

import json
from typing import Any

from ledger import nudges
from ledger.decisions import Decision, Hold, Receipt, RunInhouse, RunOnModal, Shed, SpillState
from ledger.errors import UnknownOutcome
from ledger.models import JobRecord, Kind, record_from_fields
from ledger.outcomes import ClaimedJob, Held, Placed, PlaceOutcome, Refused, Stale, WasShed
from ledger.refusals import Refusal
from ledger.scripts import ScriptRunner
from ledger.stages import Stage
from ledger.states import Pool
from ledger.view import ClusterView, KindView, MoneyView


def _wire(decision: Decision) -> dict[str, object]:
    match decision:
        case RunInhouse():
            return {"to": "inhouse"}
        case RunOnModal():
            return {"to": "modal", **vars(decision)}
        case Hold(reason, again_in_s, timeout_s):
            return {
                "to": "hold",
                "reason": reason,
                "again_in_ms": int(again_in_s * 1000),
                "timeout_ms": int(timeout_s * 1000),
            }
        case Shed(code, message):
            return {"to": "shed", "code": code, "message": message}


class Placement:
    """The dispatchers' verbs."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def claim_queued(self, kind: Kind, *, limit: int, lease_s: float) -> list[ClaimedJob]:
        """Take up to `limit` queued jobs of a kind, by priority and age; ours for `lease_s` seconds."""
        answer = self._runner.call("claim_queued", kind=kind, limit=limit, lease_ms=int(lease_s * 1000))
        claimed: list[ClaimedJob] = []
        for row in answer["jobs"] or []:
            try:
                claimed.append(ClaimedJob(record_from_fields(row), int(row["claim"])))
            except (KeyError, ValueError, TypeError) as error:
                self.quarantine(row["id"], reason=f"a field is missing or wrong ({error!r})")
        return claimed

    def quarantine(self, job_id: str, *, reason: str) -> None:
        """Take a job out of every queue, for its record cannot be read; the reason is kept with its id."""
        self._runner.call("quarantine", id=job_id, why=reason[:500])

    def view(self) -> ClusterView:
        """One consistent picture of everything that a decision may look at."""
        answer = self._runner.call("view", kinds=[str(kind) for kind in Kind])
        return ClusterView(
            now_ms=int(answer["now_ms"]),
            kinds={Kind(name): _kind_view(row) for name, row in answer["kinds"].items()},
            modal_attempts=int(answer["modal_attempts"]),
            held=int(answer["held"]),
            money=MoneyView(
                int(answer["spent_usd_micros"]),
                int(answer["reserved_usd_micros"]),
                int(answer["day_spent_usd_micros"]),
                Stage(int(answer["stage"])),
                int(answer["drain_priority"]),
                int(answer["max_modal_attempts"]),
            ),
            override=answer["override"],
        )

    def would_refuse(self, decision: RunOnModal, *, tenant: str, kind: Kind, priority: int) -> Refusal | None:
        """The limit that would keep such a job off Modal now; None: `place` would place it. Changes nothing."""
        answer = self._runner.call("would_refuse", decision=vars(decision), tenant=tenant, kind=kind, priority=priority)
        match answer["outcome"]:
            case "free":
                return None
            case "refused":
                return Refusal(answer["reason"])
            case other:
                raise UnknownOutcome("would_refuse", other)

    def place(
        self,
        claimed: ClaimedJob,
        decision: Decision,
        *,
        receipt: Receipt,
        spill: SpillState | None = None,
    ) -> PlaceOutcome:
        """Commit a decision with its receipt. The limits in force are checked inside, under Redis's one thread."""
        record = claimed.record
        answer = self._runner.call(
            "place",
            id=record.id,
            claim=claimed.claim,
            decision=_wire(decision),
            receipt=json.dumps(receipt.to_wire()),
            rule=receipt.rule,
            spill=None if spill is None else {"active": spill.active},
        )
        match answer["outcome"]:
            case "placed":
                pool = Pool.MODAL if isinstance(decision, RunOnModal) else Pool.INHOUSE
                return Placed(int(answer["attempt"]), nudges.run(pool, record.kind))
            case "held":
                return Held()
            case "shed":
                return WasShed()
            case "refused":
                return Refused(answer["reason"])
            case "stale":
                return Stale()
            case other:
                raise UnknownOutcome("place", other)

    def note_spill(self, kind: Kind, *, was: SpillState, now: SpillState) -> None:
        """A policy changed its mind about spilling without deciding about a job; somebody else's change stands."""
        self._runner.call("note_spill", kind=kind, active=now.active, was_since_ms=was.since_ms)

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

    def recall(self, record: JobRecord, decision: RunOnModal, *, reason: str) -> bool:
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
        )
        return bool(answer["outcome"] == "recalled")

    def training_speeds(self) -> dict[str, float]:
        """What has been learnt of speeds: `speed_key` -> seconds per training example."""
        raw = self._runner.guarded(lambda: self._runner.client.hgetall(f"{self._prefix}:train:speeds"))
        return {key: float(value) for key, value in raw.items()}


def _kind_view(row: dict[str, Any]) -> KindView:
    return KindView(
        queued=int(row["queued"]),
        waiting_inhouse=int(row["waiting_inhouse"]),
        active_inhouse=int(row["active_inhouse"]),
        live_slots=int(row["live_slots"]),
        oldest_waiting_ms=int(row["oldest_waiting_ms"]),
        spill=SpillState(bool(row["spill_active"]), int(row["spill_since_ms"])),
    )


def _readable(row: object) -> JobRecord | None:
    """None: there is no record, or whoever loads it next puts it into quarantine."""
    if not isinstance(row, dict) or not row:
        return None
    try:
        return record_from_fields(row)
    except (KeyError, ValueError, TypeError):
        return None
