"""Sends the planned jobs through their doors, as callers with ordinary patience do, and remembers what was accepted."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import httpx
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.exceptions import RedisError

from ledger import Kind
from ledger.errors import LedgerUnavailable
from overspill.client import Client
from tests.chaos.plan import Door, Plan, PlannedJob
from tests.support.settings import ledger_settings_of

#: A caller sends again for so long, seconds: longer than any one fault lasts.
PATIENCE_S = 90.0
_AGAIN_S = 0.25
_THREADS = 8
_HTTP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Receipt:
    """What the caller of one planned job was told.

    Attributes:
        number: of the planned job.
        door: through which it came in.
        job_id: what a 2xx or `submit` gave back; None for bare Celery, or if it was not accepted.
        task_id: of a bare Celery message that was sent.
        idempotency_key: under which it was sent; None: none.
        tries: how often it was sent.
        refused: what the last try said if it was not accepted.
    """

    number: int
    door: Door
    job_id: str | None = None
    task_id: str | None = None
    idempotency_key: str | None = None
    tries: int = 1
    refused: str | None = None


class _NotYetError(Exception):
    """The system could not take it now; a caller may send it again."""


class Submitter:
    """Three callers: of the HTTP API, of `overspill.Client`, and one that has nothing but Celery."""

    def __init__(self, environment: Mapping[str, str], seed: int) -> None:
        self._seed = seed
        self._http = httpx.Client(
            base_url=environment["OVERSPILL_API_URL"],
            headers={"Authorization": f"Bearer {environment['OVERSPILL_API_KEY']}"},
            timeout=_HTTP_TIMEOUT_S,
            trust_env=False,
        )
        self._client = Client(
            ledger_settings_of(
                ledger_url=SecretStr(environment["OVERSPILL_LEDGER_URL"]),
                broker_url=SecretStr(environment["OVERSPILL_BROKER_URL"]),
            )
        )
        self._celery = Celery("a-foreign-service", broker=environment["OVERSPILL_BROKER_URL"], set_as_current=False)
        self._celery.conf.update(
            broker_transport_options={"socket_timeout": 2, "socket_connect_timeout": 1, "max_retries": 0},
            task_ignore_result=True,
        )
        self._lock = threading.Lock()
        self.receipts: dict[int, Receipt] = {}
        self._sent_bare: list[PlannedJob] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="submit")

    def run(self, plan: Plan, *, began: float) -> None:
        """Submit every planned job at its time; returns when all were accepted or given up."""
        futures = []
        for job in plan.jobs:
            time.sleep(max(0.0, began + job.at_s - time.monotonic()))
            futures.append(self._pool.submit(self._submit, job))
        for future in futures:
            future.result()

    def close(self) -> None:
        """Let go of every connection; may be called twice."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.close()
        self._client.close()
        self._celery.close()

    def newest_accepted(self, count: int) -> list[str]:
        """Ids of the jobs that were accepted last, newest first."""
        with self._lock:
            ids = [receipt.job_id for receipt in self.receipts.values() if receipt.job_id]
        return ids[::-1][:count]

    def send_again(self, count: int) -> int:
        """Send the last bare Celery messages once more, each under its own task id: duplicates, out of order."""
        with self._lock:
            jobs = self._sent_bare[-count:]
        sent = 0
        for job in reversed(jobs):
            with suppress(_NotYetError):
                self._send_bare(job)
                sent += 1
        return sent

    def cancel(self, job_id: str) -> str:
        """Cancel a job as a user does. Returns what the answer was.

        Raises:
            LedgerUnavailable: not now.
        """
        return type(self._client.cancel(job_id)).__name__

    def _submit(self, job: PlannedJob) -> None:
        receipt = self._patiently(job)
        with self._lock:
            self.receipts[job.number] = receipt
            if receipt.task_id is not None:
                self._sent_bare.append(job)

    def _patiently(self, job: PlannedJob) -> Receipt:
        send: Callable[[PlannedJob, int], Receipt] = {
            Door.API: self._by_api,
            Door.CLIENT: self._by_client,
            Door.CELERY: self._by_celery,
        }[job.door]
        until = time.monotonic() + PATIENCE_S
        tries = 1
        while True:
            try:
                return send(job, tries)
            except _NotYetError as error:
                if not job.keyed or time.monotonic() > until:
                    return Receipt(
                        job.number, job.door, idempotency_key=self._key(job), tries=tries, refused=str(error)
                    )
            time.sleep(_AGAIN_S)
            tries += 1

    def _key(self, job: PlannedJob) -> str | None:
        return f"chaos-{self._seed}-{job.number}" if job.keyed else None

    def _by_api(self, job: PlannedJob, tries: int) -> Receipt:
        key = self._key(job)
        try:
            answer = self._http.post(
                "/v1/videos", json=dict(job.fields), headers={"Idempotency-Key": key} if key else {}
            )
        except httpx.HTTPError as error:
            raise _NotYetError(type(error).__name__) from error
        if (
            answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
            or answer.status_code == httpx.codes.TOO_MANY_REQUESTS
        ):
            raise _NotYetError(f"HTTP {answer.status_code}")
        answer.raise_for_status()
        return Receipt(job.number, job.door, str(answer.json()["id"]), None, key, tries)

    def _by_client(self, job: PlannedJob, tries: int) -> Receipt:
        key = self._key(job)
        try:
            job_id = self._client.submit(kind=Kind(job.kind), idempotency_key=key, **job.fields)
        except LedgerUnavailable as error:
            raise _NotYetError(str(error)) from error
        return Receipt(job.number, job.door, job_id, None, key, tries)

    def _by_celery(self, job: PlannedJob, tries: int) -> Receipt:
        return Receipt(job.number, job.door, None, self._send_bare(job), None, tries)

    def _send_bare(self, job: PlannedJob) -> str:
        task_id = f"chaos-{self._seed}-{job.number}"
        queue = "train" if job.kind == "train" else "render"
        try:
            self._celery.send_task(
                f"tasks.{queue}", kwargs=dict(job.fields), task_id=task_id, queue=queue, retry=False, declare=[]
            )
        except (OperationalError, OSError, RedisError) as error:
            raise _NotYetError(type(error).__name__) from error
        return task_id
