"""What followers and spawners share through the ledger: calls in flight, hints, the breaker, the rate of spawns.

Everything here is done a batch at a time: one process follows ten thousand calls, and a script for each would be too
much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ledger.errors import UnknownOutcome
from ledger.models import JobRecord, Kind, record_from_fields
from ledger.outcomes import DueCall, DueCalls
from ledger.scripts import ScriptRunner

#: A call that has said that it ended is looked at again after this, seconds.
SOON_S = 0.25


@dataclass(frozen=True)
class Release:
    """A call that was looked at and still runs: when to look again."""

    job_id: str
    attempt: int
    again_in_s: float
    progress: int | None = None


@dataclass(frozen=True)
class Hint:
    """What a call said of itself on its way."""

    job_id: str
    attempt: int
    call_id: str
    what: Literal["started", "progress", "done"]
    progress: int | None = None
    peak_gpu_memory_bytes: int | None = None
    #: For `done`: when its result can be there, seconds from now.
    look_in_s: float = 0.0


@dataclass(frozen=True)
class Announced:
    """A call that says that it works on an attempt."""

    job_id: str
    attempt: int
    call_id: str


Standing = Literal["live", "settled", "unrecorded"]


@dataclass(frozen=True)
class Shares:
    """Which partitions of the queue of hints are this follower's, and how many followers there are."""

    partitions: Sequence[int]
    followers: int


@dataclass(frozen=True)
class StoredBreaker:
    """The breaker as the ledger remembers it. `memory` is the machine's own JSON; None: it has never moved."""

    phase: str
    reason: str
    memory: str | None
    version: int
    now_ms: int


@dataclass(frozen=True)
class SpawnRate:
    """A token bucket: a rate of spawns in the long run, and a number at once."""

    per_s: float
    burst: float


@dataclass(frozen=True)
class SpawnClaim:
    """Attempts taken to be spawned, and what the spawner should know."""

    records: Sequence[JobRecord]
    #: Of the breaker: closed, open or half_open.
    phase: str
    #: How many more wait.
    waiting: int
    #: Until the bucket has another token, seconds.
    wait_s: float
    #: How long ago the last hint came, seconds; None: none ever did.
    hint_age_s: float | None


class Polling:
    """The verbs that spawners and pollers share between processes; part of `ModalCalls`."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

    def claim_spawns(self, *, worker: str, limit: int, lease_s: float, rate: SpawnRate) -> SpawnClaim:
        """Take Modal attempts to spawn, below the shared rate; none while the breaker is open.

        The intent is written here, before any call exists.
        """
        answer = self._runner.call(
            "claim_spawns",
            worker=worker,
            limit=limit,
            lease_ms=int(lease_s * 1000),
            rate={"per_s": rate.per_s, "burst": rate.burst},
        )
        hints_ms = answer.get("hints_ms")
        records: list[JobRecord] = []
        for row in answer["jobs"] or []:
            try:
                records.append(record_from_fields(row))
            except (KeyError, ValueError, TypeError) as error:
                self._runner.call("quarantine", id=row["id"], why=f"a field is missing or wrong ({error!r})"[:500])
        return SpawnClaim(
            records=records,
            phase=str(answer["phase"]),
            waiting=int(answer["waiting"]),
            wait_s=int(answer["wait_ms"]) / 1000,
            hint_age_s=None if hints_ms is None else (int(answer["now_ms"]) - int(hints_ms)) / 1000,
        )

    def reschedule_spawns(
        self, attempts: Sequence[tuple[str, int]] | None, *, reason: str, pause_s: float, limit: int = 500
    ) -> list[str]:
        """Modal may not be used now: attempts of which no call exists are decided about again, at no cost to the job.

        Args:
            attempts: which; None: all that wait for their spawn, up to `limit`.
            reason: why, for the job's history.
            pause_s: until they are decided about again, seconds.
            limit: how many at most.
        """
        answer = self._runner.call(
            "reschedule_spawns",
            attempts=None if attempts is None else [{"id": one, "attempt": number} for one, number in attempts],
            limit=limit,
            reason=reason,
            pause_ms=int(pause_s * 1000),
        )
        return list(answer["ids"] or [])

    def hold_spawn(self, job_id: str, attempt: int, *, lease_s: float) -> bool:
        """Keep the claim on an attempt that is being prepared for its spawn. False: it is not ours any more."""
        answer = self._runner.call("hold_spawn", id=job_id, attempt=attempt, lease_ms=int(lease_s * 1000))
        return bool(answer["outcome"] == "held")

    def claim_due(self, *, limit: int, lease_s: float) -> DueCalls:
        """Take calls that are due to be looked at, for `lease_s` seconds."""
        answer = self._runner.call("claim_calls", limit=limit, lease_ms=int(lease_s * 1000))
        now_ms = int(answer["now_ms"])
        next_ms = answer.get("next_ms")
        calls = [
            DueCall(
                job_id=row["id"],
                attempt=int(row["attempt"]),
                kind=Kind(row["kind"]),
                gpu=row.get("gpu") or "",
                call_id=row.get("call_id") or "",
                now_ms=now_ms,
                spawned_ms=int(row["spawned_ms"]),
                call_deadline_ms=int(row["call_deadline_ms"]),
                progress=int(row["progress"]),
                hinted_ms=_whole(row.get("hinted_ms")),
                begun_ms=_whole(row.get("begun_ms")),
                said_ended_ms=_whole(row.get("said_ended_ms")),
                reserved_usd_micros=int(row["reserved_usd_micros"]),
                usd_nanos_per_s=int(row["usd_nanos_per_s"]),
            )
            for row in answer["calls"] or []
        ]
        next_in_s = None if next_ms is None else max(0.0, (int(next_ms) - now_ms) / 1000)
        return DueCalls(calls, int(answer["in_flight"]), next_in_s)

    def keep_claims(self, calls: Sequence[tuple[str, int]], *, lease_s: float) -> list[str]:
        """Hold on to claimed calls (job and attempt) for `lease_s` seconds from now.

        Returns the ids of those of which the claim had lapsed: another follower may have them.
        """
        answer = self._runner.call(
            "keep_calls",
            lease_ms=int(lease_s * 1000),
            calls=[{"id": job_id, "attempt": attempt} for job_id, attempt in calls],
        )
        return list(answer["lapsed"] or [])

    def release_claims(self, releases: Sequence[Release]) -> list[str]:
        """These calls still run. Returns the ids of jobs whose attempt is not the newest any more."""
        answer = self._runner.call(
            "release_calls",
            soon_ms=int(SOON_S * 1000),
            calls=[
                {
                    "id": one.job_id,
                    "attempt": one.attempt,
                    "again_in_ms": int(one.again_in_s * 1000),
                    "progress": one.progress,
                }
                for one in releases
            ],
        )
        return list(answer["stale"] or [])

    def note_hints(self, hints: Sequence[Hint]) -> list[Announced]:
        """Calls said something of themselves. Returns those that began and that the ledger does not know yet."""
        answer = self._runner.call(
            "note_hints",
            hints=[
                {
                    "id": one.job_id,
                    "attempt": one.attempt,
                    "call_id": one.call_id,
                    "what": one.what,
                    "progress": one.progress,
                    "peak_gpu_memory_bytes": one.peak_gpu_memory_bytes,
                    "look_in_ms": int(one.look_in_s * 1000),
                }
                for one in hints
            ],
        )
        return [Announced(row["id"], int(row["attempt"]), row["call_id"]) for row in answer["unrecorded"] or []]

    def compare_announced(self, announced: Sequence[Announced]) -> list[Standing]:
        """Which of these calls the ledger knows, in their order."""
        answer = self._runner.call(
            "announced",
            calls=[{"id": one.job_id, "attempt": one.attempt, "call_id": one.call_id} for one in announced],
        )
        return list(answer["standings"] or [])

    def share_partitions(self, *, owner: str, lease_s: float, partitions: int) -> Shares:
        """Take or keep this follower's fair part of the partitions; with `lease_s` 0 it leaves."""
        answer = self._runner.call("share_partitions", owner=owner, lease_ms=int(lease_s * 1000), partitions=partitions)
        return Shares([int(number) for number in answer["mine"] or []], int(answer["followers"]))

    def idle_pools(self, *, limit: int = 1000) -> list[tuple[Kind, str]]:
        """The kinds and GPU classes of which containers may idle now."""
        answer = self._runner.call("idle_pools", limit=limit)
        named = (name.partition(":") for name in answer["pools"] or [])
        return [(Kind(kind), gpu) for kind, _, gpu in named if kind in set(Kind)]

    def breaker(self) -> StoredBreaker:
        """The breaker before Modal as it stands."""
        return _breaker(self._runner.call("breaker"))

    def move_breaker(
        self, *, version: int, phase: str, reason: str, memory: str
    ) -> tuple[Literal["moved", "stale"], StoredBreaker]:
        """Replace the breaker's memory, unless somebody else has done so since `version`; returns what stands now."""
        answer = self._runner.call("breaker", version=version, phase=phase, reason=reason, memory=memory)
        match answer["outcome"]:
            case "breaker":
                return "moved", _breaker(answer)
            case "stale":
                return "stale", _breaker(answer)
            case other:
                raise UnknownOutcome("breaker", other)


def _breaker(answer: dict[str, object]) -> StoredBreaker:
    memory = answer.get("memory")
    return StoredBreaker(
        phase=str(answer["phase"]),
        reason=str(answer["reason"]),
        memory=None if memory is None else str(memory),
        version=int(str(answer["version"])),
        now_ms=int(str(answer["now_ms"])),
    )


def _whole(value: object) -> int | None:
    return None if value is None else int(float(str(value)))
