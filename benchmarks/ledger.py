"""The ledger's speed and memory, on a redis-server of its own: `make bench-ledger JOBS=5000`.

One client process on loopback takes each job through its whole in-house life (six scripts). Printed are lives a
second, submissions a second, and the bytes of Redis's memory that one finished job holds until it retires.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from ledger import Kind, Ledger, RenderJob
from ledger.decisions import Receipt, RunInhouse
from ledger.models import Artifact
from tests.support.redis_server import running_redis
from tests.support.settings import ledger_settings_of

RECEIPT = Receipt("watermark", "below_watermark", "RunInhouse", {"waiting_inhouse": 3, "live_slots": 2})


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server:
        settings = ledger_settings_of({"ledger_url": server.url()})
        with Ledger(settings) as ledger:
            ledger.ping()
            empty = int(ledger.client.info("memory")["used_memory"])
            started = time.perf_counter()
            for number in range(jobs):
                prompt = f"a lighthouse in a storm at night, seen from the sea, number {number}"
                ledger.jobs.submit(RenderJob(prompt=prompt), source="api", idempotency_key=f"key-{number}")
            submitted = time.perf_counter()
            _live_through(ledger)
            ended = time.perf_counter()
            held = int(ledger.client.info("memory")["used_memory"]) - empty
            assert ledger.audit() == []
            print(
                json.dumps(
                    {
                        "jobs": jobs,
                        "cores": os.cpu_count(),
                        "submissions_per_s": round(jobs / (submitted - started)),
                        "lives_per_s": round(jobs / (ended - submitted)),
                        "bytes_per_finished_job": round(held / jobs),
                        "redis": ledger.client.info("server")["redis_version"],
                    }
                )
            )


def _live_through(ledger: Ledger) -> None:
    while claims := ledger.placement.claim_queued(Kind.RENDER, limit=100, lease_s=60):
        for claimed in claims:
            ledger.placement.place(claimed, RunInhouse(), receipt=RECEIPT)
        while record := ledger.attempts.start_inhouse(Kind.RENDER, worker="gpu-1@host", lease_s=60):
            ledger.attempts.begin_delivery(record.id, record.attempt)
            artifact = Artifact(
                bucket="overspill",
                key=f"render/{record.id}/1/video.mp4",
                thumbnail_key=f"render/{record.id}/1/thumbnail.webp",
                size_bytes=812_345,
                sha256="0" * 64,
            )
            ledger.attempts.complete(
                record.id, record.attempt, artifact=artifact, measurements={"frames": 96}, cost_usd_micros=500
            )


if __name__ == "__main__":
    main()
