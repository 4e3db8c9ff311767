"""Where a run writes down its numbers: TensorBoard event files beside the checkpoints.

Written by hand through tensorboardX's synchronous writer: its default one has a thread and a bounded queue, and after a
full disk has killed the thread, the queue blocks the training for ever.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from engines.train.checkpoints import JOURNAL_FOLDER


class Journal:
    """Appends numbers; once writing has failed it stays silent.

    Args:
        folder: The job's folder.
        first_step: Where this run begins: TensorBoard then forgets what a killed run had written beyond it.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        path = folder / JOURNAL_FOLDER
        path.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(path / "events"), f".{os.getpid()}.{first_step}")
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes `numbers` (by name) for `step`, and flushes.

        Raises:
            OSError: No space, or the volume is gone. Training does not need the journal.
        """
        for name, number in numbers.items():
            self._write(Event(step=step, summary=scalar(name, number)))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file, as far as a broken volume lets it; may be called twice."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed already
            self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
