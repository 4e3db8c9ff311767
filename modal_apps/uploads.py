"""Straight to S3: a container puts its files at addresses that the control plane signed for this attempt alone.

No credential reaches the container. Each address is good for one key and for one put: the header `If-None-Match: *` is
signed with it where the store knows it, so what an earlier try of the same attempt has put stays as it is.
"""

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

#: One put may take so long, seconds.
PUT_TIMEOUT_S = 120.0
#: Tries of one put, and the pause before the second; it doubles.
TRIES, FIRST_PAUSE_S = 4, 1.0
#: An answer that no other try would change.
_FINAL = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED})


@dataclass(frozen=True)
class UploadAddress:
    """Where one file goes, and the headers that must go with it."""

    url: str
    headers: Mapping[str, str]

    def to_wire(self) -> dict[str, Any]:
        """As plain types."""
        return {"url": self.url, "headers": dict(self.headers)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "UploadAddress":
        """Read it again."""
        return cls(str(wire["url"]), {str(name): str(value) for name, value in wire["headers"].items()})


class UploadFailed(Exception):
    """The store did not take a file."""

    def __init__(self, status: int | None, detail: str) -> None:
        self.status = status
        super().__init__(
            f"expected the store to take the file at its presigned address, got {status or 'no answer'}: {detail}. "
            "Check that the address can be reached from Modal (OVERSPILL_S3_PUBLIC_ENDPOINT_URL) and is not expired."
        )


def upload(address: UploadAddress, body: bytes, *, wait: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Put a file. Returns what the control plane checks: `bytes`, `sha256`, `md5`, and `was_there`.

    Raises:
        UploadFailed: the store did not take it, after a few tries.
    """
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(TRIES)):
        try:
            was_there = _put(address, body)
        except UploadFailed as error:
            if left == 0 or error.status in _FINAL:
                raise
            wait(pause_s)
            pause_s *= 2
        else:
            return {
                "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
                "was_there": was_there,
            }
    raise AssertionError("unreachable")


def _put(address: UploadAddress, body: bytes) -> bool:
    """One try. True: an earlier try of this attempt had put it."""
    request = urllib.request.Request(address.url, data=body, method="PUT", headers=dict(address.headers))  # noqa: S310 - signed by the control plane
    try:
        with urllib.request.urlopen(request, timeout=PUT_TIMEOUT_S):  # noqa: S310 - the same
            return False
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        if error.code == HTTPStatus.PRECONDITION_FAILED:
            return True
        raise UploadFailed(error.code, said) from None
    except OSError as error:
        raise UploadFailed(None, str(error)) from error
