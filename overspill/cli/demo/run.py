"""The demo itself, on a stack that the command has made and will stop."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ledger import Ledger
from ledger.models import JobRecord
from overspill.cli.demo.burst import Burst
from overspill.cli.demo.containers import ContainerCount
from overspill.cli.demo.picture import Picture
from overspill.cli.demo.prompts import PROMPTS
from overspill.cli.demo.proof import Doubted, Proven, fetch_and_play
from overspill.cli.demo.reporters import reporter_for
from overspill.cli.demo.verdict import Verdict, judge
from overspill.cli.surroundings import out
from overspill.dev.stack import Stack

JOBS_TIMEOUT_S = 300.0
_LOOK_EVERY_S = 0.2
_CHECKS_AT_ONCE = 2


def run(stack: Stack, out_folder: Path, *, say: Callable[[str], None]) -> Verdict:
    """Start the stack, send the burst, watch it to its end, look at every video; the stack is the caller's to stop."""
    began = time.monotonic()
    stack.start()
    ready_after_s = time.monotonic() - began
    os.environ.update(stack.environment)  # from here on our own Modal SDK and settings speak to this stack
    say(f"ready after {ready_after_s:.1f} s: {stack.api_url}")
    last = _watch_burst(stack)
    checked = time.monotonic()
    results = _prove(stack, last.records)
    proven = [result for result in results if isinstance(result, Proven)]
    say(f"{len(proven)} videos fetched from S3 and decoded in {time.monotonic() - checked:.1f} s")
    if proven:
        say(f"downloaded {_download(proven[-1], out_folder)}")
    return judge(
        last.records,
        expected=last.expected,
        spent_usd_micros=last.view.money.spent_usd_micros,
        doubts=[f"{result.job_id}: {result.reason}" for result in results if isinstance(result, Doubted)],
    )


def _watch_burst(stack: Stack) -> Picture:
    """Send the requests and show what becomes of them, until all have ended."""
    with (
        Ledger() as ledger,
        Burst(stack.api_url, stack.api_key, PROMPTS) as burst,
        ContainerCount() as containers,
        reporter_for(out) as reporter,
    ):
        began = time.monotonic()
        while True:
            elapsed_s = time.monotonic() - began
            burst.send_due(elapsed_s)
            records = [ledger.desk.get(job_id) for job_id in burst.ids]
            for record in records:
                if record.gpu:
                    containers.watch(record.gpu)
            view = ledger.placing.view()
            picture = Picture(len(PROMPTS), records, view, containers.total, elapsed_s)
            reporter.show(picture)
            if picture.ended == picture.expected or elapsed_s > JOBS_TIMEOUT_S:
                return picture
            time.sleep(_LOOK_EVERY_S)


def _prove(stack: Stack, records: Sequence[JobRecord]) -> list[Proven | Doubted]:
    def look(record: JobRecord) -> Proven | Doubted:
        return fetch_and_play(
            record,
            api_url=stack.api_url,
            api_key=stack.api_key,
            s3_url=stack.environment["OVERSPILL_S3_ENDPOINT_URL"],
        )

    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        return list(pool.map(look, records))


def _download(proven: Proven, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{proven.job_id}.mp4"
    path.write_bytes(proven.mp4)
    return path
