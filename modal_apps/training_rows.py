"""What a run tells on its way, thinned to what a person looks at: a bounded number of rows, whatever its length.

In a container the rows lie beside the checkpoints, one file for each attempt, and are committed with them; in-house
they go straight to the ledger. Each row has a number, so that whoever reads the file twice knows what is new.
"""

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engines.train.contract import EventKind, TrainEvent

#: Progress is told about so often in a whole run.
ROWS_PER_RUN = 100
#: A file keeps so many of the newest rows.
ROWS_KEPT = 300

Row = dict[str, Any]


class Thinner:
    """Turns events into rows, and leaves out what comes too often. `first` is the number of the first row."""

    def __init__(self, *, clock: Callable[[], float], first: int = 1) -> None:
        self._clock = clock
        self._next = first
        self._last_step: float = -math.inf

    def row(self, event: TrainEvent) -> Row | None:
        """The row of an event; None: too soon after the last."""
        if event.kind is EventKind.PROGRESS:
            if event.step - self._last_step < event.steps / ROWS_PER_RUN and event.step < event.steps:
                return None
            self._last_step = event.step
        row: Row = {"n": self._next, "at": round(self._clock(), 3), **event.to_wire()}
        if event.path is not None:
            row["path"] = Path(event.path).name
        self._next += 1
        return row


def rows_path(folder: str, attempt: int) -> str:
    """The file of an attempt's rows, in the job's folder."""
    return f"{folder}/rows/{attempt}.jsonl"


def parse_rows(text: bytes) -> list[Row]:
    """Read a file of rows; a line that was not written whole is left out."""
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("n"), int):
                rows.append(row)
    return rows


class RowFile:
    """The rows of one attempt, beside its checkpoints. A container that comes second goes on where the first ended."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._rows: list[Row] = parse_rows(path.read_bytes()) if path.exists() else []
        self._thinner = Thinner(clock=clock, first=self._rows[-1]["n"] + 1 if self._rows else 1)

    def note(self, event: TrainEvent) -> bool:
        """Remember an event; `write` keeps it. False: it came too soon after the last, and is left out."""
        row = self._thinner.row(event)
        if row is None:
            return False
        self._rows = [*self._rows[-(ROWS_KEPT - 1) :], row]
        return True

    @property
    def rows(self) -> Sequence[Row]:
        """All rows, oldest first."""
        return self._rows

    def write(self) -> None:
        """Write the file, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in self._rows), encoding="utf-8")
        part.replace(self._path)
