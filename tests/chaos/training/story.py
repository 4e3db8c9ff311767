"""The run from its submission to its end, and what strikes it on its way."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.artifacts import ArtifactStore
from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger import Kind, Ledger, TrainJob
from ledger.models import JobRecord
from ledger.nudges import decide
from ledger.states import Pool, State
from overspill.dev.stack import Stack
from tests.chaos.training.strikes import Striker
from tests.chaos.training.told import Said, begun_again, in_order, reached, read_log, read_rows, starts
from tests.chaos.training.verdict import KILLS, Struck, Verdict
from tests.support.modal_command import run_modal
from tests.support.settings import settings_from
from tests.support.stack import REPOSITORY, running_stack
from tests.support.waiting import until

INTERVAL_STEPS = 20
RUN: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 1400, "batch_size": 32, "checkpoint_every_steps": INTERVAL_STEPS,
    "width": 8, "depth": 2, "eval_every_steps": 1400, "eval_examples": 32, "warmup_steps": 5, "log_every_steps": 1,
    "seed": 3,
}  # fmt: skip
SETTINGS = {
    "OVERSPILL_LEASE_S": "3",
    "OVERSPILL_NUDGE_AGAIN_S": "2",
    "OVERSPILL_SWEEP_EVERY_S": "0.5",
    "OVERSPILL_POLL_FIRST_S": "0.2",
    "OVERSPILL_POLL_MAX_S": "0.5",
    "OVERSPILL_POLL_HINTED_S": "0.5",
    "OVERSPILL_TRAIN_MIRROR_EVERY_S": "0.5",
    "OVERSPILL_TRAIN_STARTUP_S": "0",
    "OVERSPILL_TRAIN_THREADS": "1",
    # The 23 hours of a segment, at the scale of a test.
    "OVERSPILL_TRAIN_SEGMENT_S": "10",
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "10",
    "OVERSPILL_LOG_FORMAT": "json",
}
#: Longest wait for one thing to happen, and the longest pause before a strike, seconds.
PATIENCE_S, LONGEST_PAUSE_S = 60.0, 2.5

Say = Callable[[str], None]


def tell(seed: int, folder: Path, *, say: Say) -> Verdict:
    """Run it all; the stack is started and stopped here."""
    with _undisturbed(folder) as undisturbed, running_stack(folder / "stack", settings=SETTINGS, train=True) as stack:
        say("the stack is ready")
        values = settings_from(stack.process_environment)
        with Ledger(values.ledger) as ledger:
            return _Story(stack, values, ledger, random.Random(seed), say).run(seed, undisturbed)


class _Story:
    def __init__(self, stack: Stack, values: Settings, ledger: Ledger, draws: random.Random, say: Say) -> None:
        assert stack.supervisor is not None
        self._values, self._ledger, self._draws, self._say = values, ledger, draws, say
        self._striker = Striker(stack.supervisor, stack.environment["MODAL_LOCAL_ADMIN_URL"])
        self._modal_environment = stack.process_environment
        self._job = ""
        self._begun = 0
        self._strikes: list[Struck] = []

    def run(self, seed: int, undisturbed: Callable[[], dict[str, str]]) -> Verdict:
        """From the submission to the verdict."""
        began = time.monotonic()
        on_modal = self._draws.choice([2, 3])
        # It begins on Modal, because the one own host is away.
        self._striker.hold_worker()
        until(self._own_slots, lambda slots: slots == 0, timeout_s=PATIENCE_S)
        self._ledger.client.hset(f"{self._ledger.prefix}:train:speeds", "image_classifier@L4", "100")
        self._job = self._submit()
        hows = ["killed"] * on_modal + ["orderly"]
        self._draws.shuffle(hows)
        self._strike_each(hows)
        until(lambda: self._outcomes()["segment_ended"], bool, timeout_s=PATIENCE_S)
        # It comes home at a checkpoint or between two segments, because the host is back, and idle.
        self._striker.release_worker()
        until(self._trains_at_home, bool, timeout_s=PATIENCE_S)
        hows = ["killed"] * (KILLS - on_modal) + ["orderly"]
        self._draws.shuffle(hows)
        self._strike_each(hows)
        record = until(lambda: self._ledger.jobs.get(self._job), lambda one: one.is_terminal, timeout_s=2 * PATIENCE_S)
        outcomes = self._outcomes()
        complaints = [] if record.state is State.COMPLETED else [f"the job ended as {record.state}: {record}"]
        took_s = time.monotonic() - began
        return Verdict(
            seed,
            self._strikes,
            outcomes,
            begun_again(self._in_containers(), self._attempts_on_modal()),
            INTERVAL_STEPS,
            record.state is State.COMPLETED and self._weights(record) == undisturbed(),
            took_s,
            complaints,
        )

    def _trains_at_home(self) -> bool:
        record = self._ledger.jobs.get(self._job)
        assert not record.is_terminal, record
        return record.pool is Pool.INHOUSE and record.state is State.RUNNING

    def _own_slots(self) -> int:
        return self._ledger.placement.view().of(Kind.TRAIN).live_slots

    def _submit(self) -> str:
        job_id = self._ledger.jobs.submit(TrainJob.model_validate(RUN), source="client").job_id
        nudger = CeleryNudger(self._values)
        nudger.send(decide(Kind.TRAIN))
        nudger.close()
        return job_id

    def _strike_each(self, hows: list[str]) -> None:
        for how in hows:
            self._wait_for_a_start()
            while not self._strike(how):
                time.sleep(0.1)

    def _wait_for_a_start(self) -> None:
        """Until the run is at work again after the last strike."""

        def begun() -> int:
            record = self._ledger.jobs.get(self._job)
            assert not record.is_terminal, f"the run was over before its last strike, give it more steps: {record}"
            return len(starts(self._said()))

        until(begun, lambda n: n > self._begun, timeout_s=PATIENCE_S, every_s=0.5)

    def _strike(self, how: str) -> bool:
        """Strike at a random moment wherever the run is then, and see where it goes on. False: nothing was struck."""
        time.sleep(self._draws.uniform(0, LONGEST_PAUSE_S))
        record, said = self._ledger.jobs.get(self._job), self._said()
        assert not record.is_terminal, f"the run was over before its last strike: {record}"
        if record.state is not State.RUNNING or not said or said[-1].kind == "stopped":
            return False
        assert record.started_ms is not None
        if said[-1].at_home is not (record.pool is Pool.INHOUSE) or said[-1].at < record.started_ms // 1000:
            return False  # what it has lost could not be told from what its move here has cost
        self._begun, in_containers = len(starts(said)), len(starts(self._in_containers()))
        if record.pool is Pool.MODAL:
            word = "killed" if how == "killed" else "preempted"
            struck = self._striker.strike_container("kill" if how == "killed" else "preempt")
        elif how == "killed":
            word, struck = "killed", self._striker.kill_pool_process()
        else:
            word, struck = "asked to stop", self._striker.ask_worker_to_stop()
        if not struck:
            return False
        self._wait_for_a_start()
        said = self._said()
        begun = [number for number, one in enumerate(said) if one.kind == "started"][self._begun]
        lost = reached(said[:begun]) - said[begun].step
        stayed = (len(starts(self._in_containers())) > in_containers) == (record.pool is Pool.MODAL)
        self._strikes.append(Struck(str(record.pool), word, lost, moved=not stayed))
        self._say(f"{word} {record.pool} at step {reached(said[:begun])}, went on at {said[begun].step}")
        return True

    def _said(self) -> list[Said]:
        """What the run has said, in containers and at home."""
        rows = [row for row in self._ledger.attempts.training_rows(self._job) if self._is_at_home(row["attempt"])]
        return in_order(self._in_containers(), read_rows(rows))

    def _is_at_home(self, attempt: int) -> bool:
        return self._ledger.jobs.attempt(self._job, attempt).get("pool") == Pool.INHOUSE

    def _in_containers(self) -> list[Said]:
        words = ("app", "logs", self._values.train_modal_app, "--tail", "10000", "--timestamps")
        return read_log(run_modal(*words, cwd=REPOSITORY, env=self._modal_environment).stdout)

    def _numbers(self) -> range:
        return range(1, self._ledger.jobs.get(self._job).attempt + 1)

    def _outcomes(self) -> Counter[str]:
        told = [self._ledger.jobs.attempt(self._job, number).get("outcome", "") for number in self._numbers()]
        return Counter(filter(None, told))

    def _attempts_on_modal(self) -> list[float]:
        """When each was spawned, seconds since 1970."""
        told = [
            self._ledger.jobs.attempt(self._job, number) for number in self._numbers() if not self._is_at_home(number)
        ]
        return [int(one["spawned_ms"]) / 1000 for one in told if "spawned_ms" in one]

    def _weights(self, record: JobRecord) -> dict[str, str]:
        assert record.artifact is not None
        client = ArtifactStore(self._values).client
        body = client.get_object(Bucket=record.artifact.bucket, Key=record.artifact.key)["Body"].read()
        return _digests(json.loads(body))


@contextmanager
def _undisturbed(folder: Path) -> Iterator[Callable[[], dict[str, str]]]:
    """The same run beside it, struck by nothing: a function that gives the digests of its weights."""
    (folder / "config.json").write_text(json.dumps(RUN))
    command = [
        sys.executable, "-m", "engines.train", "--config", str(folder / "config.json"), "--folder", str(folder / "job"),
        "--cache", str(folder / "cache"), "--threads", "1",
    ]  # fmt: skip

    def weights() -> dict[str, str]:
        assert process.wait(PATIENCE_S) == 0
        return _digests(json.loads((folder / "job" / f"step-{RUN['steps']}" / "metadata.json").read_bytes()))

    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        try:
            yield weights
        finally:
            process.kill()


def _digests(facts: dict[str, Any]) -> dict[str, str]:
    return {name: digest for name, digest in facts["files"].items() if name.endswith(".safetensors")}
