"""A job's attempts: where each ran, how long it waited and ran, what it cost by component, and how it ended. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from overspill.cli.why import words

_COMPONENT = re.compile(r"cost_(?P<component>[a-z_]+)_usd_micros")


@dataclass(frozen=True)
class Try:
    """One attempt. Times are seconds; None: it did not come to that.

    Attributes:
        number: its fencing token.
        where: `in-house` or `modal H100`.
        worker: who ran or spawned it.
        call_id: Modal's id of its call.
        waited_s: from its placement until it began.
        ran_s: from its beginning until its end, or until now.
        outcome: how it ended, in one word of the ledger; None while it lives.
        message: what the failure said of itself.
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


def read(number: int, fields: Mapping[str, str], *, now_ms: int) -> Try:
    """An attempt from its record in the ledger."""
    placed_ms, ended_ms = _whole(fields, "placed_ms"), _whole(fields, "ended_ms")
    began_ms = _whole(fields, "started_ms") or _whole(fields, "begun_ms") or _whole(fields, "spawned_ms")
    until_ms = ended_ms or now_ms
    return Try(
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
