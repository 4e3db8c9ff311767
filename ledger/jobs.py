"""Jobs as callers see them: submit, status, list, cancel."""

import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from ledger import nudges
from ledger.errors import (
    IdempotencyConflict,
    JobNotFound,
    ModelNotFound,
    RecordUnreadable,
    TenantQuotaExceeded,
    UnknownOutcome,
)
from ledger.models import Job, JobRecord, Kind, new_job_id, record_from_fields
from ledger.outcomes import AlreadyEnded, Cancelled, Submitted
from ledger.quotas import RATE_BURST_S, Quotas
from ledger.scripts import ScriptRunner
from ledger.states import SCHEMA

#: What a listing reads of a record: all but a spec, and the trace.
LISTED_FIELDS = (
    "id", "schema", "kind", "tenant", "state", "priority", "burst", "created_ms", "changed_ms", "attempt", "pool",
    "gpu", "worker", "call_id", "progress", "deadline_ms", "started_ms", "finished_ms", "held_reason", "outgrown_gpu",
    "outgrown_inhouse", "exhausted_gpus", "error_code", "error_message", "cost_usd_micros", "artifact", "traceparent",
    "brief",
)  # fmt: skip
#: Where a job came in.
Source = Literal["api", "client", "celery"]


@dataclass(frozen=True)
class Event:
    """One step in a job's life. `at_ms` is Redis's time."""

    at_ms: int
    event: str
    state: str
    attempt: int
    pool: str | None
    gpu: str | None
    detail: str | None


@dataclass(frozen=True)
class Page:
    """A part of a listing, newest or oldest first as asked."""

    records: Sequence[JobRecord]
    has_more: bool


class Jobs:
    """What callers from outside may ask for."""

    def __init__(self, runner: ScriptRunner, *, prefix: str, idempotency_ttl_s: int, quotas: Quotas) -> None:
        self._runner = runner
        self._prefix = prefix
        self._idempotency_ttl_s = idempotency_ttl_s
        self._quotas = quotas

    def submit(
        self,
        job: Job,
        *,
        source: Source,
        idempotency_key: str | None = None,
        is_retry: bool = False,
        retry_window_s: int = 0,
        traceparent: str | None = None,
    ) -> Submitted:
        """Write a job into the ledger. When this returns, the job is accepted; send the nudge then.

        Args:
            job: what is asked for.
            source: where it came in.
            idempotency_key: the caller's; the same key gives the same job back.
            is_retry: the caller says that it sent this request before, without a key.
            retry_window_s: how long such a repetition is recognised, seconds; 0: never.
            traceparent: the caller's trace, to go on in the job's (W3C Trace Context).

        Raises:
            IdempotencyConflict: the key stands for another request.
            TenantQuotaExceeded: the tenant has as much as it may have; the job was not accepted.
            ModelNotFound: the job uses the model of a train job that its tenant does not have.
            LedgerUnavailable, LedgerFull: the job was not accepted (or, if the answer was lost, was accepted whole).
        """
        job_id = new_job_id(job.kind, int(time.time() * 1000), secrets.token_bytes(10))
        answer = self._runner.call(
            "submit",
            id=job_id,
            kind=job.kind,
            tenant=job.tenant,
            priority=job.priority,
            burst=job.burst,
            spec=job.model_dump_json(),
            digest=job.digest(),
            first_digest=job.first_digest(),
            source=source,
            deadline_s=job.deadline_s,
            uses=job.uses,
            brief=job.brief(),
            quota=self._quotas.of(job.tenant).to_wire(),
            quota_is_said=self._quotas.said,
            rate_burst_ms=RATE_BURST_S * 1000,
            idempotency_key=idempotency_key,
            idempotency_ttl_s=self._idempotency_ttl_s,
            is_retry=is_retry,
            retry_window_s=retry_window_s,
            traceparent=traceparent,
        )
        match answer["outcome"]:
            case "created" | "existing" as outcome:
                return Submitted(answer["id"], outcome == "created", nudges.decide(job.kind))
            case "conflict":
                raise IdempotencyConflict(idempotency_key or "", answer["id"])
            case "quota":
                raise TenantQuotaExceeded(job.tenant, answer["what"], math.ceil(answer["retry_after_ms"] / 1000))
            case "model_not_found":
                raise ModelNotFound(job.uses or "")
            case other:
                raise UnknownOutcome("submit", other)

    def announce_quotas(self) -> None:
        """Have the ledger bind clients, whose settings say nothing of quotas, by those of this process.

        Raises:
            LedgerUnavailable, LedgerFull: they are as they were.
        """
        if not self._quotas.said:
            return
        pipe = self._runner.client.pipeline(transaction=True)
        pipe.delete(f"{self._prefix}:quotas")
        for tenant, text in self._quotas.texts().items():
            pipe.hset(f"{self._prefix}:quotas", tenant, text)
        self._runner.guarded(pipe.execute)

    def was_accepted(self, job: Job, *, idempotency_key: str | None, is_retry: bool) -> bool:
        """Whether `submit` would give an older job back (or complain of the key), instead of accepting a new one."""
        if idempotency_key is not None:
            keys = [f"{self._prefix}:idempotency:{job.tenant}:{idempotency_key}"]
        elif is_retry:
            digests = (job.digest(), job.first_digest())
            keys = [f"{self._prefix}:retry:{job.tenant}:{digest}" for digest in digests]
        else:
            return False
        return bool(self._runner.guarded(lambda: self._runner.client.exists(*keys)))

    def get(self, job_id: str) -> JobRecord:
        """How a job stands.

        Raises:
            JobNotFound: no job has this id.
            RecordUnreadable: its record was written by another version, or is damaged.
        """
        fields = self._runner.guarded(lambda: _hash_or_none(self._runner.client, f"{self._prefix}:job:{job_id}"))
        if fields is None:
            raise RecordUnreadable(job_id, "the key holds a value of another type")
        if not fields:
            raise JobNotFound(job_id)
        return _readable(job_id, fields)

    def quarantined(self) -> dict[str, str]:
        """Jobs whose record cannot be read, each with the reason. They are in no queue; the rest goes on."""
        found: dict[str, str] = self._runner.guarded(lambda: self._runner.client.hgetall(f"{self._prefix}:quarantine"))
        return found

    def cancel(self, job_id: str, *, reason: str = "cancelled by request") -> Cancelled | AlreadyEnded:
        """End a job, from whatever state.

        Raises:
            JobNotFound: no job has this id.
        """
        answer = self._runner.call("cancel", id=job_id, reason=reason)
        match answer["outcome"]:
            case "cancelled":
                return Cancelled(answer["state"])
            case "already_terminal":
                return AlreadyEnded(answer["state"])
            case "unknown":
                raise JobNotFound(job_id)
            case other:
                raise UnknownOutcome("cancel", other)

    def page(
        self,
        kind: Kind,
        *,
        tenant: str | None = None,
        after: str | None = None,
        limit: int = 20,
        newest_first: bool = True,
    ) -> Page:
        """A page of jobs by time of creation, beginning after the job `after`."""
        index = f"{self._prefix}:tenant:{tenant}:{kind}" if tenant else f"{self._prefix}:jobs:{kind}"
        client = self._runner.client

        def read() -> tuple[list[Any], bool]:
            start = 0
            if after is not None:
                rank: Any = client.zrevrank(index, after) if newest_first else client.zrank(index, after)
                if rank is None:
                    return [], False
                start = int(rank) + 1
            ids: Any = client.zrange(index, start, start + limit, desc=newest_first)
            pipe = client.pipeline(transaction=False)
            for job_id in ids[:limit]:
                pipe.hmget(f"{self._prefix}:job:{job_id}", LISTED_FIELDS)
            rows = [
                {name: value for name, value in zip(LISTED_FIELDS, row, strict=True) if value is not None}
                if isinstance(row, list)
                else {}
                for row in pipe.execute(raise_on_error=False)
            ]
            # Long specs are not read: their beginning lies beside them.
            short = [row for row in rows if row and "brief" not in row]
            for row in short:
                pipe.hget(f"{self._prefix}:job:{row.get('id')}", "spec")
            for row, spec in zip(short, pipe.execute(raise_on_error=False), strict=True):
                if isinstance(spec, str):
                    row["spec"] = spec
            return [row if "spec" in row else row | {"spec": row.get("brief", "")} for row in rows], len(ids) > limit

        rows, has_more = self._runner.guarded(read)
        return Page([record for row in rows if (record := _record_or_none(row)) is not None], has_more)

    def history(self, job_id: str) -> list[Event]:
        """A job's events, oldest first."""
        return [
            Event(
                at_ms=int(row["at_ms"]),
                event=row["event"],
                state=row["state"],
                attempt=int(row.get("attempt") or 0),
                pool=row.get("pool"),
                gpu=row.get("gpu"),
                detail=row.get("detail"),
            )
            for row in self._json_rows(f"{self._prefix}:history:{job_id}")
        ]

    def receipts(self, job_id: str) -> list[dict[str, Any]]:
        """A job's receipts, oldest first: why it was sent where."""
        return list(self._json_rows(f"{self._prefix}:receipts:{job_id}"))

    def traceparent(self, job_id: str) -> str | None:
        """The trace that a job came with; None: none, or there is no such job."""
        found: str | None = self._runner.guarded(
            lambda: self._runner.client.hget(f"{self._prefix}:job:{job_id}", "traceparent")
        )
        return found

    def attempt(self, job_id: str, number: int) -> dict[str, str]:
        """The record of one attempt; empty if there is none."""
        key = f"{self._prefix}:attempt:{job_id}:{number}"
        fields: dict[str, str] = self._runner.guarded(lambda: self._runner.client.hgetall(key))
        return fields

    def _json_rows(self, key: str) -> Iterator[dict[str, Any]]:
        rows = self._runner.guarded(lambda: self._runner.client.lrange(key, 0, -1))
        return (json.loads(row) for row in rows)


def _hash_or_none(client: "redis.Redis", key: str) -> dict[str, str] | None:
    """A hash, empty if there is none; None if the key holds something else."""
    try:
        fields: Any = client.hgetall(key)
    except redis.exceptions.ResponseError as error:
        if "WRONGTYPE" in str(error):
            return None
        raise
    return dict(fields)


def _readable(job_id: str, fields: Mapping[str, str]) -> JobRecord:
    if fields.get("schema") != str(SCHEMA):
        raise RecordUnreadable(job_id, f"the schema is {fields.get('schema', 'missing')}, expected {SCHEMA}")
    try:
        return record_from_fields(fields)
    except (KeyError, ValueError, TypeError) as error:
        raise RecordUnreadable(job_id, f"a field is missing or wrong ({error!r})") from error


def _record_or_none(row: object) -> JobRecord | None:
    """A listing leaves out what it cannot read; `quarantined` has it."""
    if not isinstance(row, dict) or not row:
        return None
    try:
        return _readable(str(row.get("id")), row)
    except RecordUnreadable:
        return None
