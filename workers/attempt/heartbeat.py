"""The running process's word about its attempt: progress, how long it may be silent, and whether the attempt is lost.

It writes into shared memory and calls nobody: the main process renews the lease and watches the clocks (monitor.py).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from infra.settings import Settings
from ledger import Kind
from ledger.models import JobRecord
from workers.attempt.slots import Slot, SlotTable
from workers.delivery import PATIENCE_S, AttemptOf

#: What a delivery may take beside waiting for S3 and the ledger: its uploads, seconds.
UPLOADS_S = 900.0


@dataclass(frozen=True)
class Clocks:
    """How long an attempt may take, seconds.

    Attributes:
        start_s: to its first progress.
        progress_s: from one progress to the next.
        wall_s: from its start to the engine's end.
        delivery_s: from the engine's end to the attempt's.
    """

    start_s: float
    progress_s: float
    wall_s: float
    delivery_s: float


def clocks_for(kind: Kind, settings: Settings, *, wall_s: float | None = None) -> Clocks:
    """The clocks of an attempt, as the settings say; `wall_s` is its own wall clock, bounded by the kind's."""
    is_render = kind is Kind.RENDER
    longest_s = settings.attempts.render_wall_clock_s if is_render else settings.train.wall_clock_s
    return Clocks(
        start_s=settings.attempts.start_timeout_s,
        progress_s=settings.attempts.render_progress_timeout_s if is_render else settings.train.progress_timeout_s,
        wall_s=longest_s if wall_s is None else min(wall_s, longest_s),
        # The ledger is waited for at the begin and at the end of a delivery.
        delivery_s=settings.attempts.delivery_patience_s + 2 * PATIENCE_S + UPLOADS_S,
    )


class Heartbeat:
    """One attempt's. A context manager: the lease is renewed while it is open. Leaving it twice is fine."""

    def __init__(self, table: SlotTable, record: JobRecord, clocks: Clocks) -> None:
        self._table = table
        self._of = AttemptOf(record.id, record.attempt)
        self._kind = record.kind
        self._clocks = clocks
        self._share = 0.0
        self._patience_s = clocks.start_s
        self._slot: Slot | None = None

    def __enter__(self) -> Self:
        self._slot = self._table.take(self._of, self._kind, patience_s=self._clocks.start_s, wall_s=self._clocks.wall_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_slot.release()

    @property
    def _open_slot(self) -> Slot:
        if self._slot is None:
            raise RuntimeError("expected a heartbeat that was entered")
        return self._slot

    def note_progress(self, share: float) -> None:
        """Note how far the engine is (0.0 to 1.0). A share that was noted before is no progress."""
        if share > self._share:
            self._share = share
            self.note_activity()

    def note_activity(self, share: float | None = None) -> None:
        """Note that the engine goes on, even if its share has not grown (a run that resumed, an evaluation)."""
        self._share = self._share if share is None else share
        self._beat(self._clocks.progress_s)

    def note_start(self) -> None:
        """Note that a part begins which may take as long as a start (the first step is compiled)."""
        self._beat(self._clocks.start_s)

    def _beat(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._open_slot.beat(patience_s=patience_s, progress=int(self._share * 98))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The progress clock rests: the attempt waits for somebody else, within bounds of its own."""
        self._open_slot.beat(patience_s=math.inf)
        try:
            yield
        finally:
            self._open_slot.beat(patience_s=self._patience_s)

    def begin_delivery(self) -> None:
        """The engine is done: its clocks are off, and the delivery has one bound for all of it."""
        self._open_slot.deliver(patience_s=self._clocks.delivery_s)

    def is_lost(self) -> bool:
        """Whether the attempt is not ours any more: stop."""
        return self._open_slot.is_lost()
