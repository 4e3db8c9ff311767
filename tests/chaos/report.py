"""What a run says: the faults and how recovery went, the checks, the bill, and the last line."""

import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos import checks
from tests.chaos.checks import Evidence, Verdict
from tests.chaos.observations import JobFacts
from tests.chaos.recovery import Recovery, lengths_s, standstills

#: Histories of so many jobs are printed when something does not hold.
_MOST_HISTORIES = 10


def last_line(evidence: Evidence, verdict: Verdict) -> str:
    """The one line that sums a run up."""
    return (
        f"chaos: seed {evidence.plan.seed}, {len(evidence.plan.jobs)} jobs, {len(evidence.plan.faults)} faults, "
        f"{verdict.lost} lost, {verdict.double} double, {verdict.leaked} leaked, "
        f"bill within {abs(evidence.bill.off_percent):.1f} %"
    )


def fault_table(found: list[Recovery]) -> Table:
    """One row for each kind of fault."""
    table = Table("fault", "strikes", "told by", "median s", "worst s", "until", title="faults and recovery")
    for row in found:
        table.add_row(
            str(row.fault), str(row.strikes), str(len(row.seconds)), _s(row.median_s), _s(row.worst_s), row.until
        )
    return table


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def check_table(verdict: Verdict) -> Table:
    """One row for each check."""
    table = Table("", "check", "figure", title="checks")
    for check in verdict.checks:
        table.add_row("[green]holds[/]" if check.holds else "[red bold]BROKEN[/]", check.name, check.figure)
    return table


def fact_table(evidence: Evidence) -> Table:
    """What is worth knowing and breaks no promise."""
    lost = checks.lost_by_celery(evidence)
    bare = sum(receipt.task_id is not None for receipt in evidence.receipts.values())
    attempts = Counter(
        (row.get("pool", ""), row.get("outcome", ""))
        for job in evidence.ledger.jobs.values()
        for row in job.attempts.values()
    )
    table = Table("fact", "figure", title="facts")
    table.add_row("jobs accepted", f"{len(checks.accepted_jobs(evidence))} of {len(evidence.plan.jobs)}")
    table.add_row("sent once, told no or nothing", str(len(checks.refused(evidence))))
    table.add_row("bare Celery messages lost before the ledger had them", f"{len(lost)} of {bare} {' '.join(lost[:5])}")
    table.add_row("renders", _counted(checks.outcomes(evidence.ledger, "render")))
    table.add_row("train jobs", _counted(checks.outcomes(evidence.ledger, "train")))
    table.add_row("attempts in-house", _counted({o: n for (pool, o), n in attempts.items() if pool == "inhouse"}))
    hung, timed_out = checks.hung(evidence)
    table.add_row("engines that hung, and ended as `timeout`", f"{timed_out} of {hung}")
    table.add_row("attempts on Modal", _counted({o: n for (pool, o), n in attempts.items() if pool == "modal"}))
    table.add_row("objects of lost attempts, and older checkpoints", str(len(checks.unreferenced_objects(evidence))))
    unknown = checks.unknown_calls(evidence)
    table.add_row("Modal calls that the ledger never knew", f"{len(unknown)} of {len(evidence.modal.calls)}")
    table.add_row("S3 puts that happened and were answered with a failure", str(evidence.s3_answers_lost))
    lengths = lengths_s(evidence.ledger)
    if lengths:
        median, late, worst = (lengths[int(share * (len(lengths) - 1))] for share in (0.5, 0.99, 1.0))
        said = f"median {median:.1f} s, 99 % {late:.1f} s, worst {worst:.1f} s"
        table.add_row("from a job's first event to its last", said)
    for one in standstills(evidence.ledger, 3):
        table.add_row("a job stood still for", f"{one.seconds:.1f} s, {one.state} {one.pool}: {one.job_id}")
    table.add_row("quarantined", str(len(evidence.ledger.quarantined)))
    return table


def bill_table(evidence: Evidence) -> Table:
    """The bill in its parts."""
    bill = evidence.bill
    table = Table("micro-dollars", "of", title="the bill")
    for value, name in (
        (bill.ledger, "the ledger's Modal spend"),
        (bill.without_envelope, "  of it, attempts whose call returned nothing: time since the spawn, an upper bound"),
        (
            bill.trued_up,
            f"  of it, the true-up by modal_local's bill; before it was {bill.off_before_percent:+.1f} % off",
        ),
        (bill.inputs, "modal_local: inputs from hand-out to answer"),
        (bill.unknown, "modal_local: the same of calls that the ledger never knew"),
        (bill.starts, "modal_local: containers from their start to their first input"),
        (bill.killed, "modal_local: containers that were killed before they answered anything"),
        (bill.calls, f"  these four: what calls caused; the ledger is {bill.off_percent_of(bill.calls):+.1f} % off"),
        (bill.idle, "modal_local: idle containers"),
        (bill.whole, f"  all five: the whole bill; the ledger is {bill.off_percent_of(bill.whole):+.1f} % off"),
    ):
        table.add_row(f"{value:,}", name)
    return table


def _counted(counts: "Counter[str] | dict[str, int]") -> str:
    return ", ".join(f"{number} {name or 'open'}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


def save_evidence(evidence: Evidence, path: Path) -> None:
    """Everything that was seen, for whoever looks into a failed run."""
    facts = {
        "receipts": list(evidence.receipts.values()),
        "strikes": list(evidence.strikes),
        "ledger": evidence.ledger,
        "objects": evidence.objects,
        "modal": evidence.modal,
        "audit": evidence.audit,
        "bill": evidence.bill,
    }
    path.write_text(json.dumps(facts, default=_plain, indent=1), encoding="utf-8")


def _plain(value: object) -> object:
    """What json does not know: dataclasses by their fields, anything else by its text."""
    fields = getattr(value, "__dataclass_fields__", None)
    return {name: getattr(value, name) for name in fields} if fields else str(value)


def print_histories(console: Console, evidence: Evidence, verdict: Verdict) -> None:
    """What happened to the jobs that broke something."""
    ids = list(dict.fromkeys(job_id for check in verdict.checks if not check.holds for job_id in check.jobs))
    for job_id in ids[:_MOST_HISTORIES]:
        job = evidence.ledger.jobs.get(job_id)
        console.print(f"{job_id}: {'not in the ledger' if job is None else job.state}", markup=False)
        if job is not None:
            _print_history(console, job)
    if len(ids) > _MOST_HISTORIES:
        console.print(f"and {len(ids) - _MOST_HISTORIES} more: {' '.join(ids[_MOST_HISTORIES:])}", markup=False)


def _print_history(console: Console, job: JobFacts) -> None:
    for entry in job.history:
        words = [entry.get(name) for name in ("event", "pool", "gpu", "detail")]
        console.print(
            f"  {entry['at_ms']} attempt {entry.get('attempt')} {' '.join(str(word) for word in words if word)}",
            markup=False,
        )
    for number, row in job.attempts.items():
        console.print(f"  attempt {number}: {dict(row)}", markup=False, soft_wrap=True)


def print_report(console: Console, evidence: Evidence, verdict: Verdict, found: list[Recovery], folder: Path) -> None:
    """All of it; the last line last."""
    for table in (fault_table(found), fact_table(evidence), bill_table(evidence), check_table(verdict)):
        console.print(table)
    if not verdict.well:
        print_histories(console, evidence, verdict)
        console.print(f"logs: {folder / 'logs'}", markup=False, soft_wrap=True)
    console.print(last_line(evidence, verdict), markup=False, highlight=False, soft_wrap=True)
