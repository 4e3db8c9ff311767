"""What `modal run -m modal_apps.trainer` does on the machine of whoever types it: read, size, call, print."""

import dataclasses
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.train.contract import TrainConfig
from engines.train.errors import TrainError
from modal_apps.envelope import Envelope, parse
from modal_apps.gpus import UnknownGpuClass
from modal_apps.names import TRAINING_CLASS
from modal_apps.training_request import TrainRequest, WrongConfigFile, by_hand, data_on_modal, read_config_file
from modal_apps.training_size import check_class, choose_class, training_class

ACTIONS = ("smoke", "train", "evaluate")
FAILED, WRONG_USAGE = 1, 2


def run_by_hand(
    sessions: Mapping[str, Any],
    *,
    action: str,
    config: str,
    gpu: str,
    name: str,
    evaluate_timeout_s: int,
    data_bucket: str | None,
) -> int:
    """Do one action and print its answer as JSON. Returns the exit status.

    Args:
        sessions: the app's classes by name.
        action: one of ACTIONS.
        config: path of the config file; `smoke` needs none.
        gpu: the GPU class; empty: chosen.
        name: the run's name; empty: its config's.
        evaluate_timeout_s: an evaluation's longest time, seconds.
        data_bucket: the bucket that the app mounts; None: none.
    """
    try:
        if action not in ACTIONS:
            return _refuse(f"--action: expected one of {', '.join(ACTIONS)}, got {action!r}.")
        if action == "smoke":
            session = sessions[training_class(gpu).alias if gpu else TRAINING_CLASS]
            wire = read_config_file(Path(config)) if config else None
            return _say(parse(session().smoke.remote(wire)))
        request, session = _prepare(sessions, config=config, gpu=gpu, name=name, data_bucket=data_bucket)
        if action == "evaluate":
            limited = session.with_options(timeout=evaluate_timeout_s)
            return _say(parse(limited().evaluate.remote(request.to_wire())))
        return _say(parse(session().train.remote(request.to_wire())))
    except (TrainError, WrongConfigFile, UnknownGpuClass) as error:
        return _refuse(str(error))


def _prepare(
    sessions: Mapping[str, Any], *, config: str, gpu: str, name: str, data_bucket: str | None
) -> tuple[TrainRequest, Any]:
    parsed = TrainConfig.from_wire(read_config_file(Path(config)))
    if gpu:
        chosen = training_class(gpu)
        check_class(parsed, chosen)
    else:
        chosen = choose_class(parsed, counts=(parsed.gpus,))
    parsed = dataclasses.replace(parsed, gpus=chosen.count)
    data = data_on_modal(parsed.dataset, data_bucket)
    today = dt.datetime.now(dt.UTC).date()
    request = by_hand(parsed, day=today, name=name or None, data=data, git_revision=git_revision())
    sys.stderr.write(f"trainer: {request.folder} on {chosen.name}\n")
    return request, sessions[chosen.alias]


def git_revision() -> str | None:
    """Of the working tree; None outside one."""
    command, here = ["git", "rev-parse", "--short=12", "HEAD"], Path(__file__).parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, cwd=here)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _say(envelope: Envelope) -> int:
    if envelope.error is not None:
        return _refuse(f"{envelope.error.cause}: {envelope.error.message}", FAILED)
    sys.stdout.write(json.dumps(dict(envelope.value or {}), indent=2, default=str) + "\n")
    return 0


def _refuse(sentence: str, code: int = WRONG_USAGE) -> int:
    sys.stderr.write(f"trainer: {sentence}\n")
    return code
