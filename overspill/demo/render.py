"""The demo of the overflow: a burst of renders, in-house first, the rest on Modal; and its verdict."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ledger import Ledger
from ledger.models import JobRecord
from ledger.states import Pool, State
from overspill.demo.burst import PROMPTS, Burst
from overspill.demo.containers import ContainerCount
from overspill.demo.picture import Picture, reporter_for
from overspill.demo.proof import Doubted, Proven, fetch_and_play
from overspill.dev.stack import Stack
from overspill.terminal.console import out
from overspill.terminal.text import dollars

JOBS_TIMEOUT_S = 300.0
_LOOK_EVERY_S = 0.2
_CHECKS_AT_ONCE = 2


@dataclass(frozen=True)
class Verdict:
    """How it went.

    Attributes:
        completed: jobs that completed.
        failed: all other jobs.
        inhouse: completed in-house.
        on_modal: completed on Modal.
        spent_usd_micros: dollars spent on Modal, micro-dollars.
        complaints: what is not as it should be, a sentence each.
    """

    completed: int
    failed: int
    inhouse: int
    on_modal: int
    spent_usd_micros: int
    complaints: Sequence[str]

    @property
    def exit_code(self) -> int:
        """0 only if there is nothing to complain about."""
        return 1 if self.complaints else 0

    @property
    def last_line(self) -> str:
        """What a script reads."""
        return (
            f"demo: {self.completed} completed, {self.failed} failed, {self.inhouse} in-house, "
            f"{self.on_modal} on modal, {dollars(self.spent_usd_micros)} spent"
        )


def run(stack: Stack, out_folder: Path, *, say: Callable[[str], None]) -> Verdict:
    """Start the stack, send the burst, watch it to its end, check every video; the caller stops the stack."""
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
            records = [ledger.jobs.get(job_id) for job_id in burst.ids]
            for record in records:
                if record.gpu:
                    containers.watch(record.gpu)
            view = ledger.placement.view()
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


def judge(records: Sequence[JobRecord], *, expected: int, spent_usd_micros: int, doubts: Sequence[str] = ()) -> Verdict:
    """What the jobs' ends say.

    Args:
        records: the jobs, at their end (or at the timeout).
        expected: how many there should be.
        spent_usd_micros: the ledger's month on Modal, micro-dollars.
        doubts: what the look at the videos has found.
    """
    done = [record for record in records if record.state is State.COMPLETED]
    inhouse = sum(record.pool is Pool.INHOUSE for record in done)
    on_modal = sum(record.pool is Pool.MODAL for record in done)
    complaints = list(doubts)
    complaints += [
        f"{record.id} is {record.state}: {record.error_code or ''} {record.error_message or ''}".rstrip(": ")
        for record in records
        if record.state is not State.COMPLETED
    ]
    if len(records) != expected:
        complaints.append(f"expected {expected} jobs, {len(records)} were accepted")
    if done and not inhouse:
        complaints.append("expected some jobs to run in-house, none did")
    if done and not on_modal:
        complaints.append("expected some jobs to run on Modal, none did")
    if on_modal and spent_usd_micros <= 0:
        complaints.append("jobs ran on Modal, and nothing was spent")
    return Verdict(len(done), expected - len(done), inhouse, on_modal, spent_usd_micros, complaints)
