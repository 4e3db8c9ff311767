"""The whole stack as processes, once for all tests of this folder: real Redis, workers, Modal SDK, S3."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest

from infra.settings import Settings
from ledger import Ledger
from ledger.models import JobRecord
from ledger.view import ClusterView
from overspill.dev.stack import Stack, StackOptions
from tests.support.settings import settings_from
from tests.support.waiting import until

#: Short, so that a lost lease is found within a test's patience.
LEASE_S = 4.0


@dataclass
class Whole:
    """A running stack, and the handles that tests need."""

    stack: Stack
    settings: Settings
    ledger: Ledger

    def ended(self, job_id: str, *, timeout_s: float = 60) -> JobRecord:
        """Wait for a job's end."""
        return self.when(job_id, lambda record: record.is_terminal, timeout_s=timeout_s)

    def when(self, job_id: str, seen: Callable[[JobRecord], bool], *, timeout_s: float = 60) -> JobRecord:
        """Wait until a job looks so."""
        return until(lambda: self.ledger.jobs.get(job_id), seen, timeout_s=timeout_s)

    def settled(self, *, timeout_s: float = 30) -> ClusterView:
        """Wait until no dollar is set aside any more: calls are settled, and idle tails booked."""
        return until(
            self.ledger.placement.view,
            lambda view: view.money.reserved_usd_micros == 0 and view.modal_attempts == 0,
            timeout_s=timeout_s,
        )

    def objects(self, job_id: str) -> list[str]:
        """Keys in S3 of all attempts of a job."""
        secret = self.settings.s3.secret_access_key
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.settings.s3.endpoint_url,
            region_name=self.settings.s3.region,
            aws_access_key_id=self.settings.s3.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
        )
        try:
            listing = client.list_objects_v2(Bucket=self.settings.s3.bucket, Prefix=f"render/{job_id}/")
            return [entry["Key"] for entry in listing.get("Contents", [])]
        finally:
            client.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    settings = {
        "OVERSPILL_LEASE_S": str(LEASE_S),
        "OVERSPILL_HIGH_WATERMARK": "2",
        "OVERSPILL_LOW_WATERMARK": "0",
        "OVERSPILL_MIN_DWELL_S": "0.5",
        "OVERSPILL_NUDGE_AGAIN_S": "3",
        "OVERSPILL_ORPHAN_SWEEP_EVERY_S": "2",
        "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
        "OVERSPILL_LOG_FORMAT": "json",
    }
    stack = Stack(StackOptions(folder=tmp_path_factory.mktemp("stack"), slots=2, settings=settings))
    stack.start()
    try:
        values = settings_from({**settings, **stack.environment})
        with Ledger(values.ledger) as ledger:
            yield Whole(stack, values, ledger)
    finally:
        stack.stop()
