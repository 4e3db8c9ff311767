"""By hand: `python -m engines.train --config FILE --folder DIR [--resume]`; also `--action smoke` and `evaluate`.

Exit codes: 0 done; 2 the config or the command line is wrong; 3 the data is; 4 a checkpoint is; 5 no space; 6 out of
memory; 7 the training diverged; 8 a rank died; 9 no torch; 75 stopped on a signal with a checkpoint to resume from
(EX_TEMPFAIL of sysexits.h).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engines.train.contract import TrainConfig, TrainContext, TrainEvent, TrainOutcome
from engines.train.engine import TorchTrainEngine
from engines.train.errors import (
    CheckpointProblem,
    DatasetProblem,
    InvalidTrainConfig,
    OutOfMemory,
    RankFailed,
    TorchMissing,
    TrainError,
    TrainingDiverged,
    VolumeFull,
)
from engines.train.words import event_line

PREEMPTED: Final = 75
_EXIT_CODES: Final[dict[type[TrainError], int]] = {
    InvalidTrainConfig: 2,
    DatasetProblem: 3,
    CheckpointProblem: 4,
    VolumeFull: 5,
    OutOfMemory: 6,
    TrainingDiverged: 7,
    RankFailed: 8,
    TorchMissing: 9,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns the exit code."""
    wanted = _parser().parse_args(arguments)
    try:
        match wanted.action:
            case "smoke":
                return _smoke(wanted)
            case "evaluate":
                return _evaluate(wanted)
            case _:
                return _train(wanted)
    except TrainError as error:
        print(f"{error.code}: {error}", file=sys.stderr)  # noqa: T201 - a command line talks by printing
        return _EXIT_CODES.get(type(error), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.train", description="Train, smoke-test or evaluate.")
    parser.add_argument("--action", choices=("train", "smoke", "evaluate"), default="train")
    parser.add_argument("--config", type=Path, help="JSON file with the fields of a train config (train, smoke)")
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="the run's folder, or a checkpoint's")
    parser.add_argument("--cache", type=Path, help="prepared data; default: `cache` beside the run's folder")
    parser.add_argument("--data", type=Path, help="where the dataset lies, if not where the config says")
    parser.add_argument("--classifier", type=Path, help="checkpoint of the judge of a transformer's samples")
    parser.add_argument("--resume", action="store_true", help="continue from the newest whole checkpoint")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own choice")
    return parser


def _train(wanted: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    context = TrainContext(
        folder=wanted.folder,
        cache=_cache(wanted),
        data=wanted.data,
        classifier=wanted.classifier,
        resume=wanted.resume,
        on_event=_show,
        stop_requested=stop.is_set,
        device=wanted.device,
        threads=wanted.threads,
    )
    result = TorchTrainEngine().train(_config(wanted.config), context)
    print(json.dumps(result.to_wire()), flush=True)  # noqa: T201 - a command line talks by printing
    match result.outcome:
        case TrainOutcome.FINISHED:
            return 0
        case TrainOutcome.PREEMPTED:
            return PREEMPTED


def _smoke(wanted: argparse.Namespace) -> int:
    try:
        from engines.train.smoke import smoke  # noqa: PLC0415 - torch is an extra
    except ImportError as error:
        raise TorchMissing(str(error)) from error
    report = smoke(_config(wanted.config), device_name=wanted.device, threads=wanted.threads)
    print(json.dumps(report.to_wire()), flush=True)  # noqa: T201 - a command line talks by printing
    return 0


def _evaluate(wanted: argparse.Namespace) -> int:
    try:
        from engines.train.evaluate import evaluate  # noqa: PLC0415 - torch is an extra
    except ImportError as error:
        raise TorchMissing(str(error)) from error
    metrics = evaluate(
        wanted.folder,
        cache=_cache(wanted),
        data=wanted.data,
        classifier=wanted.classifier,
        device_name=wanted.device,
        threads=wanted.threads,
    )
    print(json.dumps(dict(metrics)), flush=True)  # noqa: T201 - a command line talks by printing
    return 0


def _config(path: Path | None) -> TrainConfig:
    if path is None:
        raise InvalidTrainConfig("config", None, "a JSON file, named by --config")
    try:
        return TrainConfig.from_wire(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise InvalidTrainConfig("config", str(error), f"a JSON file at {path}") from error


def _cache(wanted: argparse.Namespace) -> Path:
    folder: Path = wanted.folder
    cache: Path = wanted.cache or folder.absolute().parent / "cache"
    return cache


def _show(event: TrainEvent) -> None:
    print(event_line(event), flush=True)  # noqa: T201 - a command line talks by printing


if __name__ == "__main__":
    sys.exit(main())
