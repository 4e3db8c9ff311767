"""The demo's last line, and whether it was a success. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.models import JobRecord
from ledger.states import Pool, State
from overspill.cli.records import dollars


@dataclass(frozen=True)
class Verdict:
    """How it went.

    Attributes:
        completed: jobs that completed.
        failed: jobs that did not, for whatever reason.
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


def judge(records: Sequence[JobRecord], *, expected: int, spent_usd_micros: int, doubts: Sequence[str] = ()) -> Verdict:
    """What the jobs' ends say.

    Args:
        records: the jobs, at their end (or where they stood when nobody waited any longer).
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
