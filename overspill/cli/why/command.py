"""`overspill why JOB`: what was seen, which rule spoke, what became of each attempt, what it cost, why it ended so."""

from overspill.cli.jobs import AsJson, JobId
from overspill.cli.surroundings import mistakes_said, open_ledger, print_json, show


def why(job: JobId, json: AsJson = False) -> None:
    """Say why a job went where it went, what became of each attempt, and what it cost."""
    from overspill.cli.why import life, look, tries  # noqa: PLC0415 - only this command needs them

    with mistakes_said(), open_ledger() as ledger:
        record = ledger.desk.get(job)
        now_ms = ledger.placing.view().now_ms
        told = life.tell(
            record,
            history=ledger.desk.history(job),
            receipts=ledger.desk.receipts(job),
            tries=[
                tries.read(number, fields, now_ms=now_ms)
                for number in range(1, record.attempt + 1)
                if (fields := ledger.desk.attempt(job, number))
            ],
            now_ms=now_ms,
        )
    if json:
        print_json(look.facts(told))
    else:
        show(lambda width: look.picture(told, width=width))
