"""Hints: what a call says of itself on its way, so that its end is noticed at once and its progress can be seen.

A hint goes into a `modal.Queue`, into one of a few partitions that the followers share. It is never the truth: a lost
one costs time, since the followers poll too. So a hint never holds up a render and never fails one: a thread of its own
puts it, the newest progress replaces what was not put yet, and a full queue or a Modal that is away is passed over.
"""

import contextlib
import json
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import modal

from modal_apps.signing import KeyOf, is_signed, no_key, signature
from modal_apps.wire import name, whole, whole_or_none

#: The Queue of hints, one per Modal environment.
HINTS_QUEUE = "overspill-hints"
#: Partitions that the followers share out among them; Modal keeps at most 5,000 items in each.
PARTITIONS = 8
#: A container puts progress at most so often, seconds.
PROGRESS_EVERY_S = 2.0
#: and only when it has gone on by so many percent: a call of hours says no more than a call of a minute, or ten
#: thousand of them would be more than their followers can hear.
PROGRESS_STEP_PERCENT = 5
#: What nobody has taken is dropped by Modal after this, seconds.
HINT_TTL_S = 3600

#: A longer item is no hint; and no job has so many attempts.
MOST_CHARS, MOST_ATTEMPTS = 1_000, 999_999
#: Fields of a hint, without its signature.
_PARTS = 7

What = Literal["started", "progress", "done"]
_WHATS: Mapping[object, What] = {"started": "started", "progress": "progress", "done": "done"}

#: Puts one item into one partition.
Put = Callable[[str, str], None]


@dataclass(frozen=True)
class CallHint:
    """One hint."""

    job_id: str
    attempt: int
    call_id: str
    what: What
    #: 0 to 100.
    percent: int | None = None
    peak_gpu_memory_bytes: int | None = None
    #: How large the result is that is about to come.
    result_bytes: int | None = None

    @property
    def parts(self) -> list[object]:
        """What is signed."""
        return [
            self.job_id, self.attempt, self.call_id, self.what, self.percent, self.peak_gpu_memory_bytes,
            self.result_bytes,
        ]  # fmt: skip

    def to_wire(self, key: str = "") -> str:
        """As one string: Modal's SDK looks at every part of what it hands on, and a string has none.

        Signed with its attempt's key, if there is one.
        """
        return json.dumps([*self.parts, signature(key, "hint", self.parts)] if key else self.parts)


def parse_hint(wire: object, key_of: KeyOf = no_key) -> CallHint | None:
    """Read an item of the queue; None if somebody else put it than the attempt that it names."""
    if not isinstance(wire, str) or len(wire) > MOST_CHARS:
        return None
    try:
        fields = json.loads(wire)
        if not isinstance(fields, list) or len(fields) not in (_PARTS, _PARTS + 1):
            return None
        job_id, attempt, call_id, said, percent, peak, result_bytes, *signed = fields
        hint = CallHint(
            name("job_id", job_id),
            whole("attempt", attempt, most=MOST_ATTEMPTS),
            name("call_id", call_id),
            _WHATS[name("what", said)],
            whole_or_none("percent", percent, most=100),
            whole_or_none("peak_gpu_memory_bytes", peak),
            whole_or_none("result_bytes", result_bytes),
        )
    except (ValueError, KeyError, RecursionError):
        return None
    key = key_of(hint.job_id, hint.attempt)
    return hint if is_signed(key, "hint", hint.parts, signed[0] if signed else None) else None


def partition_of(job_id: str) -> int:
    """Which partition a job's hints go to: the same one on both sides, and evenly spread."""
    return zlib.crc32(job_id.encode()) % PARTITIONS


def partition_name(number: int) -> str:
    """As Modal is told."""
    return f"p{number}"


@cache
def _queue() -> modal.Queue:
    return modal.Queue.from_name(HINTS_QUEUE, create_if_missing=True)


def put_into_queue(item: str, partition: str) -> None:
    """Put an item, at once or not at all."""
    _queue().put(item, block=False, partition=partition, partition_ttl=HINT_TTL_S)


class Hinter:
    """Tells the followers how one call goes, from a thread of its own. Runs inside a Modal container only."""

    def __init__(
        self,
        job_id: str,
        attempt: int,
        call_id: str,
        *,
        key: str = "",
        put: Put = put_into_queue,
        every_s: float = PROGRESS_EVERY_S,
    ) -> None:
        self._job_id, self._attempt, self._call_id = job_id, attempt, call_id
        self._partition = partition_name(partition_of(job_id))
        self._key = key
        self._put = put
        self._every_s = every_s
        self._news = threading.Condition()
        self._percent: int | None = None
        self._end: CallHint | None = None
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        """Say that the call has begun."""
        self._thread.start()

    def progress(self, percent: float) -> None:
        """Note how far it is, 0 to 100; it is put when its time has come."""
        with self._news:
            self._percent = min(100, max(0, int(percent)))

    def done(self, *, peak_gpu_memory_bytes: int | None = None, result_bytes: int | None = None) -> None:
        """Say that the result is about to come. Returns at once; it is put while Modal takes the result."""
        with self._news:
            self._end = self._hint("done", 100, peak_gpu_memory_bytes, result_bytes)
            self._news.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait until everything was put (tests). False: it was not in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._try(self._hint("started"))
        put_percent = 0
        while True:
            with self._news:
                if self._end is None:
                    self._news.wait(self._every_s)
                end, percent = self._end, self._percent
            if end is not None:
                self._try(end)
                return
            if percent is not None and percent >= put_percent + PROGRESS_STEP_PERCENT:
                put_percent = percent
                self._try(self._hint("progress", percent))

    def _hint(
        self, what: What, percent: int | None = None, peak: int | None = None, result_bytes: int | None = None
    ) -> CallHint:
        return CallHint(self._job_id, self._attempt, self._call_id, what, percent, peak, result_bytes)

    def _try(self, hint: CallHint) -> None:
        with contextlib.suppress(Exception):  # a hint may be lost, a render may not
            self._put(hint.to_wire(self._key), self._partition)
