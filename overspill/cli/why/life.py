"""One job's life, put in order: each step with its time, in words, and with the receipt that explains it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.desk import Event
from ledger.models import JobRecord
from ledger.states import Pool, State
from overspill.cli.records import age_s, dollars, place
from overspill.cli.why import words
from overspill.cli.why.tries import Try

#: Where a job came in, in words.
_DOORS = {"api": "by the HTTP API", "client": "by overspill.submit()", "celery": "by a Celery message"}

#: What events say, in words.
_SAID = {
    "job.held": "held, because {rule} ({detail})",
    "job.running": "attempt {n} runs {at}: {by} {detail}",
    "job.delivering": "attempt {n} has a result, which goes to S3",
    "job.completed": "completed: the result is published",
    "job.failed": "failed: {cause} ({detail})",
    "job.cancelled": "cancelled: {detail}",
    "call.started": "attempt {n} began to work, {at}",
    "call.adopted": "the call of attempt {n} was found by its announcement ({detail}); it is followed from here on",
    "call.orphan_found": "a call of attempt {n} was found that nobody waited for ({detail}); it is stopped",
}


@dataclass(frozen=True)
class Step:
    """One step of a life.

    Attributes:
        at_ms: when, by Redis's clock.
        event: its name in the ledger.
        attempt: which attempt it is about; 0: none.
        said: what happened, in words.
        receipt: what explains it, if it was a decision.
    """

    at_ms: int
    event: str
    attempt: int
    said: str
    receipt: Mapping[str, Any] | None = None

    @property
    def seen(self) -> list[str]:
        """What was looked at when it was decided."""
        found = (self.receipt or {}).get("signals")
        return words.signals(found) if isinstance(found, Mapping) else []


@dataclass(frozen=True)
class Life:
    """Everything that the ledger knows of a job."""

    record: JobRecord
    steps: Sequence[Step]
    tries: Sequence[Try]
    now_ms: int

    @property
    def ending(self) -> str:
        """How it ended and why, or how it stands."""
        record = self.record
        after = words.span(age_s(record, self.now_ms))
        match record.state:
            case State.COMPLETED:
                return f"completed on {_pool(record)} after {after}, for {dollars(record.cost_usd_micros)}"
            case State.FAILED:
                why = words.cause(record.error_code or "unknown")
                return (
                    f"failed after {after}: {why} ({record.error_code}): {record.error_message or 'no more is known'}"
                )
            case State.CANCELLED:
                return f"cancelled after {after}: {record.error_message or 'no reason was given'}"
            case State.HELD:
                held = words.span(max(0, self.now_ms - record.changed_ms) / 1000)
                return f"held for {held}: {words.rule(record.held_reason or 'unknown')} ({record.held_reason})"
            case State.QUEUED | State.PLACED | State.RUNNING | State.DELIVERING:
                return f"{record.state} ({place(record)}), {after} after its acceptance"


def tell(
    record: JobRecord,
    *,
    history: Sequence[Event],
    receipts: Sequence[Mapping[str, Any]],
    tries: Sequence[Try],
    now_ms: int,
) -> Life:
    """Put together what the ledger knows."""
    steps = []
    waiting = list(receipts)
    before: str | None = None
    outcomes = {one.number: one.outcome or "" for one in tries}
    for event in history:
        receipt = waiting.pop(0) if waiting and _was_decided(event, before) else None
        said = _said(event, before, receipt, outcomes.get(event.attempt, ""))
        steps.append(Step(event.at_ms, event.event, event.attempt, said, receipt))
        before = event.state
    # A receipt without its event (the history was cut) is still said, at the end.
    steps += [Step(now_ms, "receipt", 0, _decided(left), left) for left in waiting]
    return Life(record, steps, tries, now_ms)


def _was_decided(event: Event, before: str | None) -> bool:
    """Whether a decision, and so a receipt, stands behind an event."""
    refused = event.event == "job.failed" and before == State.QUEUED
    return event.event in ("job.placed", "job.held") or refused


def _decided(receipt: Mapping[str, Any]) -> str:
    return f"decided {words.plain(str(receipt.get('decision')))}, because {words.rule(str(receipt.get('rule')))}"


def _said(event: Event, before: str | None, receipt: Mapping[str, Any] | None, outcome: str) -> str:
    detail = event.detail or ""
    match event.event:
        case "job.queued":
            return _queued(event, before, outcome)
        case "job.placed":
            rule = str(receipt.get("rule")) if receipt else detail
            return f"attempt {event.attempt} placed {_at(event)}, because {words.rule(rule)} ({rule})"
        case name if name in _SAID:
            return _SAID[name].format(
                n=event.attempt,
                at=_at(event),
                by="worker" if event.pool == Pool.INHOUSE else "call",
                detail=detail or "no reason was given",
                rule=words.rule(detail),
                cause=words.cause(detail or "unknown"),
            )
        case other:
            about = f" of attempt {event.attempt}" if event.attempt else ""
            return f"{words.plain(other)}{about}" + (f": {detail}" if detail else "")


def _queued(event: Event, before: str | None, outcome: str) -> str:
    match before:
        case None:
            return f"accepted {_DOORS.get(event.detail or '', event.detail or '')}".strip()
        case State.HELD:
            return "looked at again"
        case _:
            return f"attempt {event.attempt} {words.end_of(outcome, event.detail or 'unknown')}"


def _at(event: Event) -> str:
    return "in-house" if event.pool == Pool.INHOUSE else f"on Modal {event.gpu or ''}".rstrip()


def _pool(record: JobRecord) -> str:
    return "our own GPUs" if record.pool is Pool.INHOUSE else place(record).replace("modal", "Modal")
