"""One rank of a run on several devices: `python -m torch.distributed.run ... -m engines.train.rank FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines.train.contract import TrainConfig, TrainContext, TrainEvent
from engines.train.errors import TrainError
from engines.train.ranks import joined
from engines.train.single import train
from engines.train.torchrun import CANCEL_FILE, JOB_FILE, REPORT_FILE, STOP_FILE


def main(folder: Path) -> int:
    """Trains as the rank that torchrun's environment names; the first one reports. Returns the exit code."""
    job = json.loads((folder / JOB_FILE).read_bytes())
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def say(what: Mapping[str, object]) -> None:
        if rank == 0:
            with (folder / REPORT_FILE).open("a", encoding="utf-8") as report:
                report.write(json.dumps(what) + "\n")

    try:
        config = TrainConfig.from_wire(job["config"])
        context = _context(job, folder, lambda event: say({"event": event.to_wire()}))
        with joined(rank=rank, world=world, meeting_point="env://") as ranks:
            say({"result": train(config, context, ranks).to_wire()})
    except TrainError as error:
        say({"error": error.to_wire()})
        return 1
    return 0


def _context(job: Mapping[str, Any], folder: Path, on_event: Callable[[TrainEvent], None]) -> TrainContext:
    plain = job["context"]
    paths = {name: Path(plain[name]) if plain[name] else None for name in ("folder", "cache", "data", "classifier")}
    return TrainContext(
        **{**plain, **paths},  # what `torchrun._plain` made
        on_event=on_event,
        is_cancelled=lambda: (folder / CANCEL_FILE).exists() or not _is_alive(job["launcher"]),
        stop_requested=(folder / STOP_FILE).exists,
    )


def _is_alive(process_id: int) -> bool:
    """Whether the launcher is: without it, a newer attempt at the job may be writing into the same folder."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
