"""What a worker may be asked by broadcast, and what a reply may be: Celery's remote control, looking only.

Remote control is open to everybody who can publish on the broker. What changes a worker (`shutdown`, `rate_limit`,
`add_consumer`, `revoke`, `pool_grow`, ...) is refused before Celery sees it; what shows a worker is answered, since
Flower's pages, `overspill doctor` and `overspill up` are made of it. As for tasks, what Celery gets is a message that
we have written: the command, its few arguments, and where its reply goes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from workers.messages import Reason, Refused, Taken, Unacceptable, new_envelope, open_body, open_envelope

#: The exchange of commands, and the one of replies (kombu/pidbox.py).
CONTROL_EXCHANGE = "celery.pidbox"
REPLY_EXCHANGE = "reply.celery.pidbox"
#: Commands that only look, each with its arguments that the sender may choose: all of them are true or false.
ALLOWED: Mapping[str, frozenset[str]] = {
    "ping": frozenset(),
    "stats": frozenset(),
    "active_queues": frozenset(),
    "registered": frozenset(),
    "scheduled": frozenset(),
    "active": frozenset({"safe"}),
    "reserved": frozenset(),
    "revoked": frozenset(),
    "conf": frozenset(),
}
_MAX_DESTINATIONS = 1_000
_MAX_NAME_CHARS = 255
_ID = re.compile(r"[0-9a-fA-F-]{8,64}")


def read_command(raw: bytes, *, max_bytes: int) -> Taken | Refused:
    """Read what was published for workers."""
    try:
        envelope = open_envelope(raw, max_bytes=max_bytes)
        return Taken(_command(open_body(envelope, max_bytes=max_bytes)))
    except Unacceptable as error:
        return error.refused
    except Exception as error:  # noqa: BLE001  # what garbage can raise is anything
        return Refused(Reason.NOT_AN_ENVELOPE, f"{type(error).__name__}: {error}")


def read_other(raw: bytes, *, max_bytes: int) -> Taken | Refused:
    """Read what came by any other way: replies of workers, for `doctor` and `up`; events."""
    try:
        envelope = open_envelope(raw, max_bytes=max_bytes)
        body = open_body(envelope, max_bytes=max_bytes)
        properties = envelope["properties"]
        delivery = properties.get("delivery_info")
        ticket = (envelope.get("headers") or {}).get("ticket")
        tag = properties.get("delivery_tag")
        return Taken(
            new_envelope(
                body,
                headers={"ticket": ticket} if isinstance(ticket, str) else {},
                properties={
                    "delivery_tag": tag if isinstance(tag, str) else "",
                    "delivery_info": delivery if isinstance(delivery, dict) else {},
                },
            )
        )
    except Unacceptable as error:
        return error.refused
    except Exception as error:  # noqa: BLE001  # the same
        return Refused(Reason.NOT_AN_ENVELOPE, f"{type(error).__name__}: {error}")


def as_bytes(taken: Taken) -> bytes:
    """The message as it would stand in Redis."""
    return json.dumps(taken.envelope).encode()


def _command(body: object) -> dict[str, Any]:
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        raise Unacceptable(Reason.INVALID_TASK, "expected the name of a command")
    method = body["method"]
    if method not in ALLOWED:
        raise Unacceptable(Reason.CONTROL_REFUSED, "expected a command that only looks", method)
    if body.get("pattern") or body.get("matcher"):
        # A pattern is a regular expression of the sender's, which may compute for ever.
        raise Unacceptable(Reason.CONTROL_REFUSED, "expected destinations by name, not by pattern", method)
    said = body.get("arguments")
    flags = {name: said[name] for name in ALLOWED[method] if name in said} if isinstance(said, dict) else {}
    command = {
        "method": method,
        "arguments": {name: flag for name, flag in flags.items() if isinstance(flag, bool)},
        "destination": _destination(body.get("destination"), method),
        "pattern": None,
        "matcher": None,
        **_reply(body, method),
    }
    return new_envelope(
        command,
        headers={},
        properties={
            "delivery_tag": method,
            "delivery_info": {"exchange": CONTROL_EXCHANGE, "routing_key": ""},
        },
    )


def _destination(said: object, method: str) -> list[str] | None:
    if said is None:
        return None
    if (
        not isinstance(said, list)
        or len(said) > _MAX_DESTINATIONS
        or not all(isinstance(name, str) and len(name) <= _MAX_NAME_CHARS for name in said)
    ):
        raise Unacceptable(Reason.INVALID_TASK, "expected a list of workers' names as the destination", method)
    # An empty list would be everybody.
    return said or None


def _reply(body: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Where the reply goes: to the exchange of replies, under an id, and nowhere else."""
    reply_to, ticket = body.get("reply_to"), body.get("ticket")
    if reply_to is None:
        return {"reply_to": None, "ticket": None}
    key = reply_to.get("routing_key") if isinstance(reply_to, dict) else None
    if not (isinstance(key, str) and _ID.fullmatch(key) and isinstance(ticket, str) and _ID.fullmatch(ticket)):
        raise Unacceptable(Reason.INVALID_TASK, "expected a reply's key and ticket as ids", method)
    return {"reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": key}, "ticket": ticket}
