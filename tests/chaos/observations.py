"""What is there at the end, read raw: Redis by its keys, S3 by listing and reading, modal_local by its admin API.

The names of the keys are those of the key map in ledger/lua/_lib.lua, and nothing else of the ledger's code is used.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import av
import boto3
import redis
from botocore.config import Config

from modal_local.admin_client import AdminClient

PREFIX = "{overspill}"
KINDS = ("render", "train")
TERMINAL = frozenset({"completed", "failed", "cancelled"})
#: The object that makes a checkpoint whole.
_CHECKPOINT = "/metadata.json"
_PAGE = 200
_ALL_CALLS = 1_000_000


@dataclass(frozen=True)
class JobFacts:
    """One job as Redis holds it."""

    id: str
    fields: Mapping[str, str]
    history: Sequence[Mapping[str, Any]]
    #: Number -> the attempt's hash.
    attempts: Mapping[int, Mapping[str, str]]

    @property
    def state(self) -> str:
        return self.fields.get("state", "")

    @property
    def artifact(self) -> Mapping[str, Any] | None:
        text = self.fields.get("artifact")
        return None if text is None else dict(json.loads(text))

    @property
    def spec(self) -> Mapping[str, Any]:
        """Empty if it cannot be read."""
        try:
            return dict(json.loads(self.fields.get("spec", "{}")))
        except (ValueError, TypeError):
            return {}


@dataclass(frozen=True)
class Event:
    """One entry of the stream of events. `at_ms` is Redis's own clock, which no jump moves."""

    at_ms: int
    event: str
    job_id: str
    state: str
    attempt: int
    pool: str
    detail: str


@dataclass(frozen=True)
class LedgerFacts:
    """All that Redis holds that the checks ask about."""

    jobs: Mapping[str, JobFacts]
    #: Idempotency key (with its tenant) -> job id.
    idempotency: Mapping[str, str]
    events: Sequence[Event]
    reserved_usd_micros: int
    reservations: Sequence[str]
    spent_modal_usd_micros: int
    cancels: Sequence[str]
    quarantined: Mapping[str, str] = field(default_factory=dict)
    #: Of the Modal spend, what the ledger's book says was for no attempt: idle and warm containers, the true-up.
    no_attempts_usd_micros: int = 0
    #: Of this, the true-up; may be negative.
    trued_up_usd_micros: int = 0


@dataclass(frozen=True)
class ObjectFacts:
    """One object in S3; what it holds is known of what was published only: videos, and metadata of checkpoints."""

    key: str
    size_bytes: int
    sha256: str | None = None
    #: Frames that could be decoded; None: not asked, or no video, 0: unreadable.
    frames: int | None = None
    #: Of a checkpoint whose files are all there, each with the digest that its metadata names: its step.
    step: int | None = None


@dataclass(frozen=True)
class ModalFacts:
    """modal_local's own records."""

    calls: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]


class RawLedger:
    """Reads Redis directly, past the proxy."""

    def __init__(self, port: int) -> None:
        self.client = redis.Redis(port=port, db=0, decode_responses=True, socket_timeout=10, socket_connect_timeout=2)
        self.broker = redis.Redis(port=port, db=1, socket_timeout=10, socket_connect_timeout=2)

    def close(self) -> None:
        """Close both connections; may be called twice."""
        self.client.close()
        self.broker.close()

    def key(self, name: str) -> str:
        """A key of the ledger."""
        return f"{PREFIX}:{name}"

    def ids(self) -> list[str]:
        """Every job's id, oldest first."""
        return [job_id for kind in KINDS for job_id in self._zrange(f"jobs:{kind}")]

    def _zrange(self, name: str) -> list[str]:
        found: Any = self.client.zrange(self.key(name), 0, -1)
        return list(found)

    def states(self, ids: Iterable[str]) -> dict[str, str]:
        """Job id -> state; jobs that are not there are left out."""
        wanted = list(ids)
        pipe = self.client.pipeline(transaction=False)
        for job_id in wanted:
            pipe.hget(self.key(f"job:{job_id}"), "state")
        return {job_id: state for job_id, state in zip(wanted, pipe.execute(), strict=True) if state}

    def reserved(self) -> int:
        """Micro-dollars that are set aside: for attempts, and for idle tails that are not over."""
        booked: Any = self.client.hget(self.key("money"), "reserved_usd_micros")
        return int(booked or 0)

    def live(self) -> int:
        """How many jobs have not ended and are not set aside, and how many Modal calls are still to be stopped."""
        kept: Any = [self.client.zcard(self.key(f"jobs:{kind}")) for kind in KINDS]
        done: Any = [self.client.zcard(self.key(f"done:{kind}")) for kind in KINDS]
        stopping: Any = self.client.zcard(self.key("cancels"))
        quarantined: Any = self.client.hkeys(self.key("quarantine"))
        ended = {job_id for kind in KINDS for job_id in self._zrange(f"done:{kind}")} if quarantined else set()
        return int(sum(kept)) - int(sum(done)) - len(set(quarantined) - ended) + int(stopping)

    def running_on(self, worker: str) -> list[str]:
        """Ids of the jobs that an in-house worker runs now."""
        ids = [job_id for kind in KINDS for job_id in self._zrange(f"active:inhouse:{kind}")]
        pipe = self.client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hget(self.key(f"job:{job_id}"), "worker")
        return [job_id for job_id, name in zip(ids, pipe.execute(), strict=True) if name == worker]

    def in_overflow_hands(self) -> list[str]:
        """Ids of the jobs that overflow workers hold now: being spawned, or being looked at or delivered."""
        spawning: Any = self.client.zinter([self.key("leases"), self.key("modal")])
        return [*spawning, *self._zrange("calls:claimed")]

    def modal_ids(self) -> list[str]:
        """Ids of the jobs whose newest attempt is on Modal."""
        return self._zrange("modal")

    def clock_offset_ms(self) -> int:
        """How far the ledger's clock is ahead of Redis's."""
        text: Any = self.client.hget(self.key("meta"), "clock_offset_ms")
        return int(text or 0)

    def set_clock_offset(self, offset_ms: int) -> str:
        """Set the ledger's clock ahead of Redis's. Returns what was done."""
        self.client.hset(self.key("meta"), "clock_offset_ms", offset_ms)
        return f"{offset_ms} ms ahead"

    def job(self, job_id: str) -> JobFacts:
        """One job, whole."""
        return self.jobs([job_id])[job_id]

    def jobs(self, ids: Sequence[str]) -> dict[str, JobFacts]:
        """Jobs by id."""
        found: dict[str, JobFacts] = {}
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self.client.pipeline(transaction=False)
            for job_id in page:
                pipe.hgetall(self.key(f"job:{job_id}"))
                pipe.lrange(self.key(f"history:{job_id}"), 0, -1)
            rows = pipe.execute()
            for job_id, fields, history in zip(page, rows[::2], rows[1::2], strict=True):
                attempts = self._attempts(job_id, int(fields.get("attempt", "0")))
                found[job_id] = JobFacts(job_id, fields, [json.loads(row) for row in history], attempts)
        return found

    def _attempts(self, job_id: str, newest: int) -> dict[int, dict[str, str]]:
        pipe = self.client.pipeline(transaction=False)
        for number in range(1, newest + 1):
            pipe.hgetall(self.key(f"attempt:{job_id}:{number}"))
        return {number: row for number, row in enumerate(pipe.execute(), start=1) if row}

    def facts(self) -> LedgerFacts:
        """Everything."""
        money: Any = self.client.hgetall(self.key("money"))
        reservations = self._zrange("reservations")
        quarantined: Any = self.client.hgetall(self.key("quarantine"))
        return LedgerFacts(
            jobs=self.jobs(self.ids()),
            idempotency=self._idempotency(),
            events=self._events(),
            reserved_usd_micros=int(money.get("reserved_usd_micros", 0)),
            reservations=reservations,
            spent_modal_usd_micros=sum(int(v) for name, v in money.items() if name.startswith("spent:modal:")),
            cancels=self._zrange("cancels"),
            quarantined=quarantined,
            no_attempts_usd_micros=sum(self._booked(component) for component in ("idle", "warm", "true_up")),
            trued_up_usd_micros=self._booked("true_up"),
        )

    def _booked(self, component: str) -> int:
        """Modal spend of one component, of all months that are kept."""
        keys = list(self.client.scan_iter(self.key("spend:*"), count=1000))
        found: Any = [self.client.hget(key, f"modal:component:{component}") for key in keys]
        return sum(int(value or 0) for value in found)

    def _idempotency(self) -> dict[str, str]:
        prefix = self.key("idempotency:")
        keys = list(self.client.scan_iter(f"{prefix}*", count=1000))
        values: Any = self.client.mget(keys) if keys else []
        return {key.removeprefix(prefix): value for key, value in zip(keys, values, strict=True) if value}

    def _events(self) -> list[Event]:
        rows: Any = self.client.xrange(self.key("events"))
        return [
            Event(
                at_ms=int(entry_id.partition("-")[0]),
                event=row.get("event", ""),
                job_id=row.get("id", ""),
                state=row.get("state", ""),
                attempt=int(row.get("attempt") or 0),
                pool=row.get("pool", ""),
                detail=row.get("detail", ""),
            )
            for entry_id, row in rows
        ]


class RawObjects:
    """Reads S3 directly, past the proxy."""

    def __init__(self, environment: Mapping[str, str], *, url: str) -> None:
        self._bucket = environment["OVERSPILL_S3_BUCKET"]
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=url,
            region_name=environment["OVERSPILL_S3_REGION"],
            aws_access_key_id=environment["OVERSPILL_S3_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["OVERSPILL_S3_SECRET_ACCESS_KEY"],
            config=Config(max_pool_connections=8, retries={"total_max_attempts": 5}),
        )

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._client.close()

    def facts(self, published: Iterable[str]) -> dict[str, ObjectFacts]:
        """Every object by its key; the published videos are read and decoded, the published checkpoints are proven."""
        found = {
            entry["Key"]: ObjectFacts(entry["Key"], entry["Size"])
            for kind in KINDS
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{kind}/")
            for entry in page.get("Contents", [])
        }
        wanted = [key for key in published if key in found]
        with ThreadPoolExecutor(4) as pool:
            found.update(zip(wanted, pool.map(partial(self._read), wanted), strict=True))
        return found

    def _read(self, key: str) -> ObjectFacts:
        body = self._get(key)
        digest = hashlib.sha256(body).hexdigest()
        if key.endswith(_CHECKPOINT):
            return ObjectFacts(key, len(body), digest, step=self._proven_step(key, body))
        return ObjectFacts(key, len(body), digest, decodable_frames(body))

    def _get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def _proven_step(self, key: str, metadata: bytes) -> int | None:
        """The step of a checkpoint, if each of its files is what its metadata says."""
        facts = json.loads(metadata)
        folder = key.removesuffix(_CHECKPOINT)
        for name, digest in facts["files"].items():
            try:
                content = self._get(f"{folder}/{name}")
            except self._client.exceptions.NoSuchKey:
                return None
            if hashlib.sha256(content).hexdigest() != digest:
                return None
        return int(facts["step"])


def decodable_frames(body: bytes) -> int:
    """Frames of an MP4 that can be decoded; 0 if it is none, or has no `moov`."""
    if b"moov" not in body:
        return 0
    try:
        with av.open(io.BytesIO(body), "r") as container:
            return len(list(container.decode(video=0)))
    except (av.FFmpegError, IndexError):
        return 0


def modal_facts(admin: AdminClient) -> ModalFacts:
    """Every call with its inputs, and every container with its lifetime."""
    calls = [admin.call(row["call_id"]) for row in admin.calls(limit=_ALL_CALLS)]
    return ModalFacts(calls, admin.containers())
