"""`overspill why JOB`: what was seen, which rule decided, what became of each attempt, what it cost, why it ended so.

What lives here
    words     rules, signals, causes and errors as text
    life      what the ledger knows of one job, in order: its steps, each with its receipt, and its attempts
    view      a life as a table and as JSON

What must hold
    Nothing is guessed. All that is printed stands in the ledger; a name that `words` does not know is printed as it is.
    All three are pure; the command below reads the ledger.

Who may come in
    The command line.
"""

from overspill.cli.options import AsJson, JobId
from overspill.terminal.console import open_ledger, print_json, report_errors, show


def why(job: JobId, json: AsJson = False) -> None:
    """Explain why a job ran where it ran, how each attempt ended, and what it cost."""
    from overspill.cli.why import life, view  # noqa: PLC0415 - only this command needs them

    with report_errors(), open_ledger() as ledger:
        record = ledger.jobs.get(job)
        now_ms = ledger.placement.view().now_ms
        told = life.tell(
            record,
            history=ledger.jobs.history(job),
            receipts=ledger.jobs.receipts(job),
            attempts=[
                life.read_attempt(number, fields, now_ms=now_ms)
                for number in range(1, record.attempt + 1)
                if (fields := ledger.jobs.attempt(job, number))
            ],
            now_ms=now_ms,
        )
    if json:
        print_json(view.facts(told))
    else:
        show(lambda width: view.picture(told, width=width))
