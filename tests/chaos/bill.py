"""What Modal would ask for and what the ledger says it cost, compared like with like. Pure.

modal_local bills containers, from their start to their end. What they do for calls is their start, up to their first
input, and each input from when it was handed out to its answer; a container that never answered was killed at work.
The rest is idle time, between inputs and before scale-down, which no single call caused. The ledger's Modal spend is
compared with the part that calls caused, or with the whole; both are told.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.observations import LedgerFacts, ModalFacts


class BillOf(StrEnum):
    """What the ledger's spend is held against."""

    #: The containers' starts and their inputs: what calls caused.
    CALLS = "calls"
    #: Everything that is billed, idle containers included.
    WHOLE = "whole"


@dataclass(frozen=True)
class Bill:
    """Micro-dollars, and the comparison in percent.

    Attributes:
        compared: which part of the bill `off_percent` is about.
        ledger: the ledger's Modal spend, as its money key has it.
        attempts: the same, added up from the attempts and from what is no attempt's: idle tails, the true-up.
        trued_up: what the true-up by modal_local's bill has booked; may be negative.
        without_envelope: of `attempts`, those whose call returned nothing that says how long it ran.
        starts: from each container's start to its first input.
        inputs: from each input's hand-out to its answer, of calls that the ledger knows.
        unknown: the same, of calls that it does not know.
        killed: containers that answered nothing.
        idle: the rest.
    """

    compared: BillOf
    ledger: int
    attempts: int
    trued_up: int
    without_envelope: int
    starts: int
    inputs: int
    unknown: int
    killed: int
    idle: int

    @property
    def calls(self) -> int:
        """What calls caused."""
        return self.starts + self.inputs + self.unknown + self.killed

    @property
    def whole(self) -> int:
        """Everything that modal_local bills."""
        return self.calls + self.idle

    @property
    def off_percent(self) -> float:
        """How far the ledger's spend is off, percent of what it is compared with; above 0: it says more."""
        return self.off_percent_of(self.calls if self.compared is BillOf.CALLS else self.whole)

    @property
    def off_before_percent(self) -> float:
        """The same before the true-up: by what the containers told, and by nothing else."""
        part = self.calls if self.compared is BillOf.CALLS else self.whole
        return 100.0 * (self.ledger - self.trued_up - part) / part if part else 0.0

    def off_percent_of(self, part: int) -> float:
        """How far the ledger's spend is from a part of the bill, percent of that part."""
        if part == 0:
            return 0.0 if self.ledger == 0 else 100.0
        return 100.0 * (self.ledger - part) / part


@dataclass(frozen=True)
class _Seconds:
    """Of one container's life."""

    starts: float = 0.0
    inputs: float = 0.0
    unknown: float = 0.0
    killed: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True)
class _Input:
    start: float
    end: float
    known: bool


def compare(ledger: LedgerFacts, modal: ModalFacts, *, of: BillOf) -> Bill:
    """The bill of a run that has come to rest."""
    inputs = _inputs_by_container(modal, _containers_by_known_call(ledger))
    parts = [
        (row["usd_micros"] / row["seconds"], _split(row["started_at"], row["seconds"], inputs[row["task_id"]]))
        for row in modal.containers
        if row["seconds"] > 0
    ]
    attempts = [row for job in ledger.jobs.values() for row in job.attempts.values() if row.get("pool") == "modal"]
    return Bill(
        compared=of,
        ledger=ledger.spent_modal_usd_micros,
        attempts=sum(int(row.get("cost_usd_micros", 0)) for row in attempts) + ledger.no_attempts_usd_micros,
        trued_up=ledger.trued_up_usd_micros,
        without_envelope=sum(int(row.get("cost_usd_micros", 0)) for row in attempts if "measurements" not in row),
        starts=round(sum(price * seconds.starts for price, seconds in parts)),
        inputs=round(sum(price * seconds.inputs for price, seconds in parts)),
        unknown=round(sum(price * seconds.unknown for price, seconds in parts)),
        killed=round(sum(price * seconds.killed for price, seconds in parts)),
        idle=round(sum(price * seconds.idle for price, seconds in parts)),
    )


def _containers_by_known_call(ledger: LedgerFacts) -> Mapping[str, str]:
    """Call id -> the container that its result named; empty if it named none."""
    rows = (row for job in ledger.jobs.values() for row in job.attempts.values())
    return {
        row["call_id"]: str(json.loads(row.get("measurements", "{}")).get("container_id", ""))
        for row in rows
        if "call_id" in row
    }


def _inputs_by_container(modal: ModalFacts, known: Mapping[str, str]) -> Mapping[str, list[_Input]]:
    """modal_local says when each input ran and where; of those from before its own restart, the result says where."""
    found: dict[str, list[_Input]] = defaultdict(list)
    for call in modal.calls:
        for entry in call["inputs"]:
            container = entry["task_id"] or known.get(call["call_id"])
            if container and entry["started_at"] and entry["finished_at"]:
                found[container].append(_Input(entry["started_at"], entry["finished_at"], call["call_id"] in known))
    return found


def _split(began: float, seconds: float, inputs: Sequence[_Input]) -> _Seconds:
    """What a container's seconds went into. Nothing is counted twice, should inputs overlap."""
    if not inputs:
        return _Seconds(killed=seconds)
    ordered = sorted(inputs, key=lambda one: one.start)
    ended = began + seconds
    until = min(max(began, ordered[0].start), ended)
    starts, busy = until - began, {True: 0.0, False: 0.0}
    for one in ordered:
        start, end = max(until, one.start), min(one.end, ended)
        if end > start:
            busy[one.known] += end - start
            until = end
    idle = max(0.0, seconds - starts - busy[True] - busy[False])
    return _Seconds(starts=starts, inputs=busy[True], unknown=busy[False], idle=idle)
