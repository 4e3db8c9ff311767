"""What people look at: the calls in flight, and the newest events. Bounded reads; no decision rests on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.scripts import ScriptRunner
from ledger.states import State


@dataclass(frozen=True)
class CallInFlight:
    """One attempt on Modal that is alive, or whose call is being stopped. Times are milliseconds by Redis's clock.

    Attributes:
        job_id: its job.
        attempt: its number.
        gpu: its class, as Modal spells it.
        state: its job's state; None: the job moved on, and the call is being stopped.
        placed_ms: when it was placed.
        spawned_ms: when its call was made; None: it waits for its spawn.
        began_ms: when the remote method is known to have begun; None: it is not known to have.
        progress: 0 to 100.
        reserved_usd_micros: what is set aside for it, micro-dollars.
        call_id: Modal's id of the call.
    """

    job_id: str
    attempt: int
    gpu: str
    state: State | None
    placed_ms: int | None
    spawned_ms: int | None
    began_ms: int | None
    progress: int
    reserved_usd_micros: int
    call_id: str | None

    @property
    def is_stopping(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.state is None


@dataclass(frozen=True)
class LatestEvent:
    """One entry of the stream of events."""

    at_ms: int
    event: str
    job_id: str
    kind: str
    state: str
    attempt: int
    pool: str | None
    gpu: str | None
    detail: str | None


class Activity:
    """The verbs of those who only watch; part of `Stats`."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def events(self, *, limit: int) -> list[LatestEvent]:
        """The newest events, newest first."""
        rows = self._runner.guarded(lambda: self._runner.client.xrevrange(f"{self._prefix}:events", count=limit))
        return [_event(entry_id, fields) for entry_id, fields in rows]

    def journal(self) -> list[dict[str, str]]:
        """Every movement of Modal's dollars that is still kept, oldest first; see ledger/lua/_money.lua."""
        rows: list[tuple[str, dict[str, str]]] = self._runner.guarded(
            lambda: self._runner.client.xrange(f"{self._prefix}:journal")
        )
        return [fields for _, fields in rows]

    def calls_in_flight(self, *, limit: int) -> tuple[list[CallInFlight], int]:
        """The oldest attempts alive on Modal, then calls that are being stopped; and how many there are in all."""
        client, prefix = self._runner.client, self._prefix

        def members() -> tuple[list[str], list[str], int]:
            pipe = client.pipeline(transaction=False)
            pipe.zrange(f"{prefix}:modal", 0, limit - 1)
            pipe.zrange(f"{prefix}:cancels", 0, limit - 1)
            pipe.zcard(f"{prefix}:modal")
            pipe.zcard(f"{prefix}:cancels")
            alive, stopping, alive_count, stopping_count = pipe.execute()
            return alive, stopping, alive_count + stopping_count

        alive, stopping, total = self._runner.guarded(members)
        jobs = self._hashes([f"{prefix}:job:{job_id}" for job_id in alive])
        wanted = [(job["id"], int(job["attempt"]), job) for job in jobs if job.get("id") and job.get("attempt")]
        wanted += [(member.rpartition(":")[0], int(member.rpartition(":")[2]), {}) for member in stopping]
        wanted = wanted[:limit]
        attempts = self._hashes([f"{prefix}:attempt:{job_id}:{number}" for job_id, number, _ in wanted])
        return [_call(*one, fields) for one, fields in zip(wanted, attempts, strict=True)], total

    def _hashes(self, keys: list[str]) -> list[dict[str, str]]:
        def read() -> list[Any]:
            pipe = self._runner.client.pipeline(transaction=False)
            for key in keys:
                pipe.hgetall(key)
            return pipe.execute(raise_on_error=False)

        rows = self._runner.guarded(read) if keys else []
        return [row if isinstance(row, dict) else {} for row in rows]


def _call(job_id: str, number: int, job: Mapping[str, str], attempt: Mapping[str, str]) -> CallInFlight:
    return CallInFlight(
        job_id=job_id,
        attempt=number,
        gpu=attempt.get("gpu", ""),
        state=State(job["state"]) if job.get("state") in set(State) else None,
        placed_ms=_whole(attempt.get("placed_ms")),
        spawned_ms=_whole(attempt.get("spawned_ms")),
        began_ms=_whole(attempt.get("begun_ms")),
        progress=_whole(job.get("progress")) or 0,
        reserved_usd_micros=_whole(attempt.get("reserved_usd_micros")) or 0,
        call_id=attempt.get("call_id") or None,
    )


def _event(entry_id: str, fields: Mapping[str, str]) -> LatestEvent:
    return LatestEvent(
        at_ms=int(entry_id.partition("-")[0]),
        event=fields.get("event", ""),
        job_id=fields.get("id", ""),
        kind=fields.get("kind", ""),
        state=fields.get("state", ""),
        attempt=_whole(fields.get("attempt")) or 0,
        pool=fields.get("pool") or None,
        gpu=fields.get("gpu") or None,
        detail=fields.get("detail") or None,
    )


def _whole(text: str | None) -> int | None:
    return int(float(text)) if text else None
