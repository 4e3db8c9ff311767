"""The demo of the budget: the burst meets a month's cap that runs out in the middle."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger import Ledger
from ledger.limits import Limits
from ledger.models import JobRecord
from ledger.refusals import is_about_dollars
from ledger.states import Pool, State
from overspill.demo.burst import PROMPTS, Burst
from overspill.demo.containers import ContainerCount
from overspill.demo.picture import Picture, reporter_for
from overspill.dev.errors import DevError
from overspill.dev.stack import Stack
from overspill.terminal.console import out
from overspill.terminal.text import dollars

#: A call reserves about $0.023 (20 s of an H100) and costs a tenth to a fifth of that, by the machine's speed. The cap
#: lets a few run, one after the other, until less is left than one reservation.
SETTINGS = {
    "OVERSPILL_MONTH_CAP_USD": "0.030",
    "OVERSPILL_RENDER_CALL_ESTIMATE_S": "14",
    "OVERSPILL_STOP_MARGIN_S": "4",
    # A job that may not spill is held for a while, then refused.
    "OVERSPILL_HOLD_AGAIN_S": "1",
    "OVERSPILL_HOLD_TIMEOUT_S": "16",
    "OVERSPILL_HIGH_WATERMARK": "2",
    "OVERSPILL_LOW_WATERMARK": "1",
}
#: Requests at the end of the burst that insist on Modal, so that in-house cannot save them all.
INSISTING = 6
CODE = "budget_exhausted"
_JOBS_TIMEOUT_S = 120.0
_SETTLED_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.2


class NotSettled(DevError):
    """Dollars were still set aside long after the last job had ended."""

    def __init__(self, reserved_usd_micros: int) -> None:
        self.reserved_usd_micros = reserved_usd_micros
        super().__init__(
            f"expected nothing to be set aside {_SETTLED_TIMEOUT_S:g} s after the last job ended, "
            f"got {dollars(reserved_usd_micros)}."
        )


@dataclass(frozen=True)
class BudgetVerdict:
    """How the demo of the budget went.

    Attributes:
        completed: jobs that completed.
        shed: jobs that were refused because the budget was spent.
        expected: how many there should be of both together.
        spent_usd_micros: what Modal would have cost, all idle tails included.
        peak_usd_micros: the most that was ever spent and set aside together.
        cap_usd_micros: the budget.
        complaints: what is not as it should be, a sentence each.
    """

    completed: int
    shed: int
    expected: int
    spent_usd_micros: int
    peak_usd_micros: int
    cap_usd_micros: int
    complaints: Sequence[str]

    @property
    def exit_code(self) -> int:
        """0 only if there is nothing to complain about."""
        return 1 if self.complaints else 0

    @property
    def last_line(self) -> str:
        """What a script reads."""
        over = "never over" if self.peak_usd_micros <= self.cap_usd_micros else "OVER IT"
        return (
            f"demo-budget: {self.expected} jobs, {self.completed} completed, {self.shed} shed ({CODE}), "
            f"{dollars(self.spent_usd_micros)} of {dollars(self.cap_usd_micros)} spent, {over}"
        )


def run(stack: Stack, *, say: Callable[[str], None]) -> BudgetVerdict:
    """Start the stack, send the burst, watch it to its end, audit the ledger; the caller stops the stack."""
    began = time.monotonic()
    stack.start()
    os.environ.update({**stack.options.settings, **stack.environment})  # from here on we speak to this stack
    say(f"ready after {time.monotonic() - began:.1f} s: {stack.api_url}")
    with Ledger() as ledger:
        limits = ledger.money.limits()
        last = _watch(stack, ledger, limits)
        say("all jobs have ended; waiting for the containers' idle tails, so that every dollar is counted")
        spent = _settled(ledger)
        held = [record.id for record in last.records if _was_held(ledger, record.id)]
        peak = peak_usd_micros(ledger.stats.journal())
        broken = [f"{one.what} ({one.job_id or 'sums'})" for one in ledger.audit(limits)]
    say(f"{len(held)} jobs were held; at most {dollars(peak)} was ever spent and reserved together")
    return judge(last.records, held=held, spent_usd_micros=spent, peak=peak, limits=limits, broken=broken)


def _watch(stack: Stack, ledger: Ledger, limits: Limits) -> Picture:
    def extra(number: int) -> Mapping[str, object]:
        return {"burst": "always"} if number >= len(PROMPTS) - INSISTING else {}

    with (
        Burst(stack.api_url, stack.api_key, PROMPTS, extra=extra) as burst,
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
            picture = Picture(
                len(PROMPTS), records, ledger.placement.view(), containers.total, elapsed_s, limits.month_cap_usd_micros
            )
            reporter.show(picture)
            if picture.ended == picture.expected or elapsed_s > _JOBS_TIMEOUT_S:
                return picture
            time.sleep(_LOOK_EVERY_S)


def _settled(ledger: Ledger) -> int:
    """What was spent, once nothing is set aside any more, micro-dollars."""
    until = time.monotonic() + _SETTLED_TIMEOUT_S
    while (money := ledger.placement.view().money).reserved_usd_micros:
        if time.monotonic() > until:
            raise NotSettled(money.reserved_usd_micros)
        time.sleep(_LOOK_EVERY_S)
    return money.spent_usd_micros


def _was_held(ledger: Ledger, job_id: str) -> bool:
    return any(
        event.event == "job.held" and is_about_dollars(event.detail or "") for event in ledger.jobs.history(job_id)
    )


def peak_usd_micros(journal: Iterable[Mapping[str, str]]) -> int:
    """The most that was ever spent and set aside together, by the ledger's journal of every movement.

    A script moves all its sums at once; its last line, and only that, says what burns (`rate`).
    """
    committed = peak = 0
    for line in journal:
        committed += int(line["reserved"]) + int(line["spent"])
        if "rate" in line:
            peak = max(peak, committed)
    return peak


def judge(
    records: Sequence[JobRecord],
    *,
    held: Sequence[str],
    spent_usd_micros: int,
    peak: int,
    limits: Limits,
    broken: Sequence[str] = (),
) -> BudgetVerdict:
    """What the jobs' ends and the ledger's books say.

    Args:
        records: the jobs, at their end (or at the timeout).
        held: the jobs that were held on their way, for the budget's sake.
        spent_usd_micros: what was spent in the end.
        peak: the most that was ever spent and set aside together, micro-dollars.
        limits: the caps that they ran under.
        broken: what the ledger's audit has found.
    """
    done = [record for record in records if record.state is State.COMPLETED]
    shed = [record for record in records if record.state is State.FAILED and record.error_code == CODE]
    cap = limits.month_cap_usd_micros
    complaints = [f"the ledger's audit: {what}" for what in broken]
    complaints += [
        f"{record.id} is {record.state}: {record.error_code or ''} {record.error_message or ''}".rstrip(": ")
        for record in records
        if record not in done and record not in shed
    ]
    complaints += [f"{record.id} was refused without being held first" for record in shed if record.id not in held]
    if len(records) != len(PROMPTS):
        complaints.append(f"expected {len(PROMPTS)} jobs, {len(records)} were accepted")
    if not any(record.pool is Pool.MODAL for record in done):
        complaints.append("expected some jobs to complete on Modal, none did")
    if not shed:
        complaints.append("expected the budget to run out, and it did not")
    if max(peak, spent_usd_micros) > cap:
        complaints.append(f"the budget of {dollars(cap)} was passed: {dollars(max(peak, spent_usd_micros))}")
    return BudgetVerdict(
        completed=len(done),
        shed=len(shed),
        expected=len(PROMPTS),
        spent_usd_micros=spent_usd_micros,
        peak_usd_micros=max(peak, spent_usd_micros),
        cap_usd_micros=cap,
        complaints=complaints,
    )
