"""Celery messages made by hand: what a hostile producer writes, byte by byte."""

import base64
import json
import uuid
from typing import Any


def envelope(body: object, headers: object, /, **changes: Any) -> bytes:
    """A message as kombu would write it, with changes to its outermost fields."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps(
        {
            "body": base64.b64encode(raw).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": "t",
                "delivery_info": {"exchange": "", "routing_key": ""},
            },
            **changes,
        }
    ).encode()


def task(name: str = "tasks.render", **headers: Any) -> dict[str, Any]:
    """The headers of a task's message."""
    return {"task": name, "id": str(uuid.uuid4()), **headers}
