"""One job's life in order: its steps, each with its time, its text and its receipt, and its attempts. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.jobs import Event
from ledger.models import JobRecord
from ledger.states import Pool, State
from overspill.cli.why import words
from overspill.terminal.records import age_s, place
from overspill.terminal.text import dollars, duration, plain

_COMPONENT = re.compile(r"cost_(?P<component>[a-z_]+)_usd_micros")
#: How a job was submitted.
_SOURCES = {"api": "by the HTTP API", "client": "by overspill.submit()", "celery": "by a Celery message"}

#: The texts of events.
_TEXTS = {
    "job.held": "held, because {rule} ({detail})",
    "job.running": "attempt {n} runs {at}: {by} {detail}",
    "job.delivering": "attempt {n} has a result, which goes to S3",
    "job.completed": "completed: the result is published",
    "job.failed": "failed: {cause} ({detail})",
    "job.cancelled": "cancelled: {detail}",
    "call.started": "attempt {n} began to work, {at}",
    "call.adopted": "the call of attempt {n} was found by its announcement ({detail}); it is followed from here on",
    "call.orphan_found": "a call of attempt {n} was found that no attempt owns ({detail}); it is stopped",
}


@dataclass(frozen=True)
class Attempt:
    """One attempt. Times are seconds; None: it did not come to that.

    Attributes:
        number: its fencing token.
        where: `in-house` or `modal H100`.
        worker: who ran or spawned it.
        call_id: Modal's id of its call.
        waited_s: from its placement until it began.
        ran_s: from its beginning until its end, or until now.
        outcome: how it ended, in one word of the ledger; None while it lives.
        message: the failure's own message.
        cost_usd_micros: what it cost, as settled.
        reserved_usd_micros: what is set aside for it still.
        components: what of its cost was for what, where the ledger knows.
        measurements: what the engine measured.
    """

    number: int
    where: str
    worker: str | None
    call_id: str | None
    waited_s: float | None
    ran_s: float | None
    outcome: str | None
    message: str | None
    cost_usd_micros: int
    reserved_usd_micros: int
    components: Mapping[str, int] = field(default_factory=dict)
    measurements: Mapping[str, object] = field(default_factory=dict)

    @property
    def how(self) -> str:
        """How it ended or stands, in words."""
        if self.outcome is None:
            return "it runs" if self.ran_s is not None else "it has not begun"
        return words.cause(self.outcome)


def read_attempt(number: int, fields: Mapping[str, str], *, now_ms: int) -> Attempt:
    """An attempt from its record in the ledger."""
    placed_ms, ended_ms = _whole(fields, "placed_ms"), _whole(fields, "ended_ms")
    began_ms = _whole(fields, "started_ms") or _whole(fields, "begun_ms") or _whole(fields, "spawned_ms")
    until_ms = ended_ms or now_ms
    return Attempt(
        number=number,
        where="in-house" if fields.get("pool") == "inhouse" else f"modal {fields.get('gpu', '')}".strip(),
        worker=fields.get("worker") or None,
        call_id=fields.get("call_id") or None,
        waited_s=_seconds(placed_ms, began_ms or until_ms),
        ran_s=_seconds(began_ms, until_ms),
        outcome=fields.get("outcome") or None,
        message=fields.get("message") or None,
        cost_usd_micros=_whole(fields, "cost_usd_micros") or 0,
        reserved_usd_micros=_whole(fields, "reserved_usd_micros") or 0,
        components={
            found["component"]: amount
            for name in fields
            if (found := _COMPONENT.fullmatch(name)) and (amount := _whole(fields, name))
        },
        measurements=_measurements(fields.get("measurements")),
    )


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    try:
        return int(float(fields[name]))
    except (KeyError, ValueError):
        return None


def _seconds(from_ms: int | None, to_ms: int) -> float | None:
    return None if from_ms is None else max(0, to_ms - from_ms) / 1000


def _measurements(text: str | None) -> Mapping[str, object]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Step:
    """One step of a life.

    Attributes:
        at_ms: when, by Redis's clock.
        event: its name in the ledger.
        attempt: which attempt it is about; 0: none.
        text: what happened, in words.
        receipt: what explains it, if it was a decision.
    """

    at_ms: int
    event: str
    attempt: int
    text: str
    receipt: Mapping[str, Any] | None = None

    @property
    def seen(self) -> list[str]:
        """The signals of the decision, as phrases."""
        found = (self.receipt or {}).get("signals")
        return words.signals(found) if isinstance(found, Mapping) else []


@dataclass(frozen=True)
class Life:
    """Everything that the ledger knows of a job."""

    record: JobRecord
    steps: Sequence[Step]
    attempts: Sequence[Attempt]
    now_ms: int

    @property
    def ending(self) -> str:
        """How it ended and why, or how it stands."""
        record = self.record
        after = duration(age_s(record, self.now_ms))
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
                held = duration(max(0, self.now_ms - record.changed_ms) / 1000)
                return f"held for {held}: {words.rule(record.held_reason or 'unknown')} ({record.held_reason})"
            case State.QUEUED | State.PLACED | State.RUNNING | State.DELIVERING:
                return f"{record.state} ({place(record)}), {after} after its acceptance"


def tell(
    record: JobRecord,
    *,
    history: Sequence[Event],
    receipts: Sequence[Mapping[str, Any]],
    attempts: Sequence[Attempt],
    now_ms: int,
) -> Life:
    """Put together what the ledger knows."""
    steps = []
    waiting = list(receipts)
    before: str | None = None
    outcomes = {one.number: one.outcome or "" for one in attempts}
    for event in history:
        receipt = waiting.pop(0) if waiting and _was_decided(event, before) else None
        text = _text(event, before, receipt, outcomes.get(event.attempt, ""))
        steps.append(Step(event.at_ms, event.event, event.attempt, text, receipt))
        before = event.state
    # A receipt without its event (the history was cut) is added at the end.
    steps += [Step(now_ms, "receipt", 0, _decided(left), left) for left in waiting]
    return Life(record, steps, attempts, now_ms)


def _was_decided(event: Event, before: str | None) -> bool:
    """Whether a decision, and so a receipt, stands behind an event."""
    refused = event.event == "job.failed" and before == State.QUEUED
    return event.event in ("job.placed", "job.held") or refused


def _decided(receipt: Mapping[str, Any]) -> str:
    return f"decided {plain(str(receipt.get('decision')))}, because {words.rule(str(receipt.get('rule')))}"


def _text(event: Event, before: str | None, receipt: Mapping[str, Any] | None, outcome: str) -> str:
    detail = event.detail or ""
    match event.event:
        case "job.queued":
            return _queued(event, before, outcome)
        case "job.placed":
            rule = str(receipt.get("rule")) if receipt else detail
            return f"attempt {event.attempt} placed {_at(event)}, because {words.rule(rule)} ({rule})"
        case name if name in _TEXTS:
            return _TEXTS[name].format(
                n=event.attempt,
                at=_at(event),
                by="worker" if event.pool == Pool.INHOUSE else "call",
                detail=detail or "no reason was given",
                rule=words.rule(detail),
                cause=words.cause(detail or "unknown"),
            )
        case other:
            about = f" of attempt {event.attempt}" if event.attempt else ""
            return f"{plain(other)}{about}" + (f": {detail}" if detail else "")


def _queued(event: Event, before: str | None, outcome: str) -> str:
    match before:
        case None:
            return f"accepted {_SOURCES.get(event.detail or '', event.detail or '')}".strip()
        case State.HELD:
            return "looked at again"
        case _:
            return f"attempt {event.attempt} {words.end_of(outcome, event.detail or 'unknown')}"


def _at(event: Event) -> str:
    return "in-house" if event.pool == Pool.INHOUSE else f"on Modal {event.gpu or ''}".rstrip()


def _pool(record: JobRecord) -> str:
    return "our own GPUs" if record.pool is Pool.INHOUSE else place(record).replace("modal", "Modal")
