"""One rank of a run on several devices: `python -m torch.distributed.run ... -m engines.train.rank FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engines.train.contract import TrainConfig, TrainContext, TrainEvent
from engines.train.device import ran_out_of
from engines.train.errors import OutOfMemory, RankFailed, TrainError
from engines.train.ranks import joined
from engines.train.single import train
from engines.train.torchrun import CANCEL_FILE, JOB_FILE, REPORT_FILE, STOP_FILE, error_file

_MAX_SHOWN_CHARS: Final = 200


def main(folder: Path) -> int:
    """Trains as the rank that torchrun's environment names; returns the exit code.

    The first one reports what happens; each writes down what it fails of, before it leaves the others.
    """
    job = json.loads((folder / JOB_FILE).read_bytes())
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def say(what: Mapping[str, object]) -> None:
        if rank == 0:
            with (folder / REPORT_FILE).open("a", encoding="utf-8") as report:
                report.write(json.dumps(what) + "\n")

    with _writing_down(folder, rank):
        config = TrainConfig.from_wire(job["config"])
        context = _context(job, folder, lambda event: say({"event": event.to_wire()}))
        with joined(rank=rank, world=world, meeting_point="env://") as ranks, _writing_down(folder, rank):
            say({"result": train(config, context, ranks).to_wire()})
    return 1 if error_file(folder, rank).exists() else 0


def _context(job: Mapping[str, Any], folder: Path, on_event: Callable[[TrainEvent], None]) -> TrainContext:
    plain = job["context"]
    paths = {name: Path(plain[name]) if plain[name] else None for name in ("folder", "cache", "data", "classifier")}
    roots = None if plain["data_roots"] is None else tuple(map(Path, plain["data_roots"]))
    return TrainContext(
        **{**plain, **paths, "data_roots": roots},  # what `torchrun._plain` made
        on_event=on_event,
        is_cancelled=lambda: (folder / CANCEL_FILE).exists() or not _is_alive(job["launcher"]),
        stop_requested=(folder / STOP_FILE).exists,
    )


@contextmanager
def _writing_down(folder: Path, rank: int) -> Iterator[None]:
    """Ends an error here, in the rank's own file; the first one stays, for what follows is its consequence."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the launcher reports any error of a rank
        path = error_file(folder, rank)
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text(json.dumps(_with_a_name(error, rank).to_wire()), encoding="utf-8")
            part.replace(path)


def _with_a_name(error: Exception, rank: int) -> TrainError:
    if isinstance(error, TrainError):
        return error
    memory = ran_out_of(error)
    if memory is not None:
        return OutOfMemory(memory, 0, None)
    return RankFailed(1, f"rank {rank}: {type(error).__name__}: {error}"[:_MAX_SHOWN_CHARS])


def _is_alive(process_id: int) -> bool:
    """Whether the launcher is: without it, a newer attempt at the job may be writing into the same folder."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
