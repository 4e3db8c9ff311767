"""What a call says of its attempt is signed with that attempt's key, which the call was given with its input.

A book and a queue are shared by all containers. Without a signature each of them could announce, or hint at the end of,
another's attempt. The control plane makes each attempt's key of a secret of its own, and keeps none of them.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import NamedTuple

#: The key of an attempt's signatures; None: they are not checked.
KeyOf = Callable[[str, int], str | None]


class AttemptOf(NamedTuple):
    """Whom a call works for, as it is given with its input."""

    job_id: str
    attempt: int
    #: Signs what the call says of itself; empty: nothing is signed.
    key: str = ""


def attempt_key(secret: bytes, job_id: str, attempt: int) -> str:
    """The key of an attempt."""
    return hmac.new(secret, f"{job_id}:{attempt}".encode(), hashlib.sha256).hexdigest()


def signature(key: str, purpose: str, parts: object) -> str:
    """Signs plain JSON for one purpose."""
    return hmac.new(key.encode(), json.dumps([purpose, parts]).encode(), hashlib.sha256).hexdigest()


def is_signed(key: str | None, purpose: str, parts: object, said: object) -> bool:
    """Whether a signature is that of these parts. Without a key everything is."""
    if key is None:
        return True
    return isinstance(said, str) and said.isascii() and hmac.compare_digest(said, signature(key, purpose, parts))


def no_key(_: str, __: int) -> str | None:
    """Checks nothing."""
    return None
