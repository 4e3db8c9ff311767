"""Memory that a worker's processes share: which slot runs which attempt, how far it is, and whether it is lost.

It is made before the pool's processes are forked, and they inherit it. A slot has one writer for each field: the pool
process writes everything except `lost`, which the main process writes. There is no lock, for whoever holds one may be
killed. A slot's generation is written last and differs for each attempt: a reader that sees the same one before and
after has read that attempt's facts.
"""

import json
import math
import mmap
import os
import threading
from dataclasses import dataclass
from enum import IntEnum

from billiard.process import current_process

from ledger import Kind
from workers.delivery import AttemptOf

#: More processes than a worker's pool ever has.
SLOTS = 256
_WORD_BYTES = 8
_WORDS = 64
_SLOT_BYTES = _WORD_BYTES * _WORDS


class _Field(IntEnum):
    """Where a slot's words lie."""

    #: Of the attempt that runs; 0: none does.
    GENERATION = 0
    #: The last generation that was given out.
    LAST = 1
    PROCESS = 2
    #: How far the engine is, percent.
    PROGRESS = 3
    #: Rises with each progress.
    BEATS = 4
    #: The generation of an attempt that is lost.
    LOST = 5
    PHASE = 6
    LENGTH = 7
    # Floats.
    PATIENCE_S = 8
    WALL_S = 9


#: The text after the words: the attempt, as JSON.
_TEXT_AT = 16 * _WORD_BYTES
_TEXT_BYTES = _SLOT_BYTES - _TEXT_AT


class Phase(IntEnum):
    """What an attempt is doing."""

    RUNNING = 0
    DELIVERING = 1


@dataclass(frozen=True)
class SlotView:
    """One slot's attempt, as it was read.

    Attributes:
        index: which slot.
        generation: tells this attempt from every other of the slot.
        process_id: of the pool process.
        of: the attempt.
        kind: of its job.
        phase: what it is doing.
        progress: percent.
        beats: rises with each progress.
        patience_s: seconds that it may take to its next beat; infinity: the progress clock rests.
        wall_s: seconds that it may take in all.
    """

    index: int
    generation: int
    process_id: int
    of: AttemptOf
    kind: Kind
    phase: Phase
    progress: int
    beats: int
    patience_s: float
    wall_s: float


class Slot:
    """The running process's hold on one slot, from `take` to `release`."""

    def __init__(self, table: "SlotTable", index: int, generation: int) -> None:
        self._table = table
        self.index = index
        self.generation = generation

    def beat(self, *, patience_s: float, progress: int | None = None) -> None:
        """Note progress: the progress clock starts again, at `patience_s` seconds."""
        if progress is not None:
            self._table.write(self.index, _Field.PROGRESS, progress)
        self._table.write_s(self.index, _Field.PATIENCE_S, patience_s)
        self._table.write(self.index, _Field.BEATS, self._table.read(self.index, _Field.BEATS) + 1)

    def deliver(self, *, patience_s: float) -> None:
        """The engine is done: from now on the delivery as a whole has `patience_s` seconds."""
        self._table.write(self.index, _Field.PHASE, Phase.DELIVERING)
        self._table.write_s(self.index, _Field.WALL_S, math.inf)
        self.beat(patience_s=patience_s)

    def is_lost(self) -> bool:
        """Whether the attempt is not ours any more, or nobody renews its lease: the main process is gone."""
        return self._table.read(self.index, _Field.LOST) == self.generation or not self._table.is_watched()

    def release(self) -> None:
        """The attempt is over. Doing so twice is fine."""
        if self._table.read(self.index, _Field.GENERATION) == self.generation:
            self._table.write(self.index, _Field.GENERATION, 0)


class SlotTable:
    """Made in the main process, before its pool is forked."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._memory = mmap.mmap(-1, slots * _SLOT_BYTES)
        view = memoryview(self._memory)
        # Words of eight bytes: a reader in another process sees the old value or the new one.
        self._words = view.cast("q")
        self._seconds = view.cast("d")
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def take(self, of: AttemptOf, kind: Kind, *, patience_s: float, wall_s: float) -> Slot:
        """Note that this process begins an attempt.

        A pool process has the slot of its number in the pool; any other process takes the first free one.

        Raises:
            ValueError: there is no such slot, or none is free.
        """
        text = json.dumps([of.job_id, of.attempt, kind]).encode()
        if len(text) > _TEXT_BYTES:
            raise ValueError(f"expected an attempt of at most {_TEXT_BYTES} bytes, got {len(text)}")
        with self._lock:  # among threads of this process only
            index = self._own_index()
            generation = self.read(index, _Field.LAST) + 1
            self.write(index, _Field.GENERATION, 0)
            self.write(index, _Field.LAST, generation)
            for field in (_Field.PROGRESS, _Field.BEATS, _Field.PHASE):
                self.write(index, field, 0)
            self.write(index, _Field.PROCESS, os.getpid())
            self.write(index, _Field.LENGTH, len(text))
            self.write_s(index, _Field.PATIENCE_S, patience_s)
            self.write_s(index, _Field.WALL_S, wall_s)
            begin = index * _SLOT_BYTES + _TEXT_AT
            self._memory[begin : begin + len(text)] = text
            self.write(index, _Field.GENERATION, generation)
        return Slot(self, index, generation)

    def _own_index(self) -> int:
        number = getattr(current_process(), "index", None)
        if number is None or os.getpid() == self._owner:
            free = (index for index in range(self._slots) if not self.read(index, _Field.GENERATION))
            number = next(free, self._slots)
        if number >= self._slots:
            raise ValueError(f"expected at most {self._slots} attempts in one worker")
        return int(number)

    def views(self) -> list[SlotView]:
        """Every attempt that runs now."""
        found = map(self.view, range(self._slots))
        return [view for view in found if view is not None]

    def view(self, index: int) -> SlotView | None:
        """One slot's attempt; None: none runs there, or it changed while it was read."""
        generation = self.read(index, _Field.GENERATION)
        if not generation:
            return None
        begin = index * _SLOT_BYTES + _TEXT_AT
        text = bytes(self._memory[begin : begin + self.read(index, _Field.LENGTH)])
        words = [self.read(index, field) for field in _Field]
        seconds = [self._seconds[index * _WORDS + field] for field in (_Field.PATIENCE_S, _Field.WALL_S)]
        if generation != self.read(index, _Field.GENERATION):
            return None
        job_id, attempt, kind = json.loads(text)
        return SlotView(
            index=index,
            generation=generation,
            process_id=words[_Field.PROCESS],
            of=AttemptOf(job_id, attempt),
            kind=Kind(kind),
            phase=Phase(words[_Field.PHASE]),
            progress=words[_Field.PROGRESS],
            beats=words[_Field.BEATS],
            patience_s=seconds[0],
            wall_s=seconds[1],
        )

    def mark_lost(self, view: SlotView) -> None:
        """Tell the process of an attempt that it is not its own any more."""
        self.write(view.index, _Field.LOST, view.generation)

    def is_watched(self) -> bool:
        """Whether the main process, which renews leases, is still this process's parent, or is itself."""
        return self._owner in (os.getppid(), os.getpid())

    def read(self, index: int, field: _Field) -> int:
        """One word of a slot."""
        return self._words[index * _WORDS + field]

    def write(self, index: int, field: _Field, value: int) -> None:
        """Set one word of a slot."""
        self._words[index * _WORDS + field] = value

    def write_s(self, index: int, field: _Field, seconds: float) -> None:
        """Set one word of a slot that holds seconds."""
        self._seconds[index * _WORDS + field] = seconds


#: This worker's. Made with the first import, which is the main process's.
slot_table = SlotTable()
