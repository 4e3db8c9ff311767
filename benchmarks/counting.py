"""What counting costs: the ledger's scripts with their counters and without, side by side.

`python -m benchmarks.counting --pairs 200`: two ledgers on one redis-server, one of which runs the same scripts with
everything that counts taken out: the calls, what builds their labels, the buckets and the writing. The scripts of lives
in-house, on Modal and of ones that end badly are recorded once, and then run for many jobs: a block is some lives, each
step of them sent as one pipeline, in both ledgers one after the other, in turns first and second. Of each step the
processor's time of Redis's main thread is read (`INFO cpu`), so neither waiting for a processor nor Python is in it.

Other work on the machine still falls on a few blocks. So compared are pairs of blocks, step by step: the mean of the
middle half of the paired differences, by the mean of the middle half of what the steps took. The interval is of 95 %,
by resampling the pairs; the seed is printed. `--none` compares the scripts with themselves: what it says is noise.

On a machine that is busy with other work that noise is larger than the answer. `--instructions` counts instead which
instructions Redis executes (under valgrind's callgrind: a minute for each pair), and does not depend on what else
runs. What is left of noise is Lua's collection of garbage, which falls on one script or the next.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis

from ledger import scripts
from ledger.decisions import Hold, RunInhouse
from ledger.models import Kind
from ledger.retries import Cause
from ledger.store import Ledger
from tests.support.activity import (
    decide,
    fail,
    run_inhouse,
    run_on_modal,
    run_out_of_memory,
    start_inhouse,
    submit,
)
from tests.support.redis_server import free_port, running_redis
from tests.support.settings import ledger_settings_of

#: The functions of the scripts that do nothing but count.
COUNTING = (
    "bucket_of",
    "can_be_observed",
    "add_up",
    "count",
    "count_with",
    "count_change",
    "observe",
    "observe_end",
)
#: Lives in a block.
BLOCK = 20
_WARM_UP = 5
_RESAMPLES = 1000
_ANY_OF_THEM = f"(?:{'|'.join(COUNTING)})"
_DEFINED = re.compile(rf"^local function {_ANY_OF_THEM}\([^)]*\)(?: [^\n]* end|\n.*?^end)\n", re.DOTALL | re.MULTILINE)
_CALLED = re.compile(rf"\b{_ANY_OF_THEM}(?=\()")
_CONTAINER = re.compile(r"\bta-[0-9]+")
_NUMBERS = count(1)

#: Microseconds, or instructions, of each step for one job, by its name, e.g. `modal complete`.
Took = dict[str, float]


def uncounted(name: str) -> str:
    """A script's text, counting nothing: neither the functions that count nor a call of them is left."""
    text = _DEFINED.sub("", scripts.script_text(name))
    kept, at = [], 0
    while call := _CALLED.search(text, at):
        kept.append(text[at : call.start()])
        at = _end_of_call(text, call.end())
    return "".join([*kept, text[at:]])


def _end_of_call(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    raise ValueError(f"expected a call that is closed, got {text[opening : opening + 40]!r}; the script is broken")


def _retried_inhouse(ledger: Ledger, kind: Kind) -> str:
    """An attempt that fails, and a job that is cancelled while it waits for its next."""
    job_id = submit(ledger, kind)
    decide(ledger, kind, RunInhouse())
    fail(ledger, job_id, start_inhouse(ledger, kind).attempt, Cause.LEASE_LOST)
    ledger.jobs.cancel(job_id)
    return job_id


def _held_and_cancelled(ledger: Ledger, kind: Kind) -> str:
    """A job that was held and is not wanted any more."""
    job_id = submit(ledger, kind)
    decide(ledger, kind, Hold("month_budget", again_in_s=60, timeout_s=600))
    ledger.jobs.cancel(job_id)
    return job_id


_LIVES: Mapping[str, Callable[[Ledger, Kind], str]] = {
    "inhouse": run_inhouse,
    "modal": run_on_modal,
    "out_of_memory": run_out_of_memory,
    "retried": _retried_inhouse,
    "held": _held_and_cancelled,
}


class Lives:
    """Lives of jobs in one ledger."""

    def __init__(self, ledger: Ledger, text_of: Callable[[str], str], worked: Callable[[], float]) -> None:
        """`worked`: how much Redis has worked so far, in any unit."""
        self._client = ledger.client
        self._worked = worked
        self._key = f"{ledger.prefix}:meta"
        self._steps = {pool: _recorded(ledger, run) for pool, run in _LIVES.items()}
        names = {name for steps in self._steps.values() for name, _ in steps}
        self._shas = {name: str(self._client.script_load(text_of(name))) for name in names}

    def block(self) -> Took:
        """Some lives in each pool, a step at a time."""
        took: Took = {}
        before = self._worked()
        for pool, steps in self._steps.items():
            numbers = [next(_NUMBERS) for _ in range(BLOCK)]
            for name, template in steps:
                pipe = self._client.pipeline(transaction=False)
                for number in numbers:
                    pipe.evalsha(self._shas[name], 1, self._key, template.replace("<number>", f"{number:08}"))
                pipe.execute()
                after = self._worked()
                took[f"{pool} {name}"] = (after - before) / BLOCK
                before = after
        return took


@contextmanager
def _by_processor_time(folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """A server's address, and how many microseconds its main thread has had a processor."""
    with running_redis(folder) as server, redis.Redis.from_url(server.url()) as client:

        def worked_us() -> float:
            used: dict[str, float] = client.info("cpu")
            return (used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"]) * 1e6

        yield server.url(), worked_us


@contextmanager
def _by_instructions(folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """The same of a server under callgrind, in instructions."""
    port, dumped, sums = free_port(), folder / "callgrind", [0]
    control = shutil.which("callgrind_control")
    assert control, "expected callgrind_control on the PATH: install valgrind"
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={dumped}", "redis-server"]
    where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen([*callgrind, *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with redis.Redis(port=port) as client:
        while process.poll() is None:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                time.sleep(0.2)

    def executed() -> float:
        # What is dumped is counted from zero again.
        dump = [control, "--dump", str(process.pid)]
        subprocess.run(dump, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (found,) = folder.glob("callgrind.*")
        sums[0] += int(re.search(r"^(?:totals|summary): (\d+)", found.read_text(), re.MULTILINE)[1])  # type: ignore[index]  # it always has one
        found.unlink()
        return float(sums[0])

    try:
        yield f"redis://127.0.0.1:{port}/0", executed
    finally:
        process.terminate()
        process.wait(60)


def _recorded(ledger: Ledger, run: Callable[[Ledger, Kind], str]) -> list[tuple[str, str]]:
    """The scripts of one life and their arguments, with `<number>` where the job and its container were named."""
    called: list[tuple[str, dict[str, object]]] = []
    call = ledger.runner.call

    def recording(name: str, **arguments: object) -> dict[str, Any]:
        called.append((name, arguments))
        answer: dict[str, Any] = call(name, **arguments)
        return answer

    with patch.object(ledger.runner, "call", recording):
        job_id = run(ledger, Kind.RENDER)
    texts = [(name, json.dumps(ledger.runner._constants | arguments)) for name, arguments in called]
    return [(name, _CONTAINER.sub("ta-<number>", text.replace(job_id, "job-<number>"))) for name, text in texts]


def middle_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: what is much too long says nothing to it."""
    ordered, quarter = sorted(values), len(values) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)


def share(pairs: Sequence[tuple[Took, Took]], steps: Sequence[str]) -> float:
    """How much of the steps' time is counting; each pair is (counted, uncounted)."""
    counting = sum(middle_mean([counted[step] - plain[step] for counted, plain in pairs]) for step in steps)
    return counting / sum(middle_mean([counted[step] for counted, _ in pairs]) for step in steps)


def interval(pairs: Sequence[tuple[Took, Took]], steps: Sequence[str], dice: random.Random) -> tuple[float, float]:
    """The bounds of 95 % of what other pairs like these would have said."""
    shares = sorted(share(dice.choices(pairs, k=len(pairs)), steps) for _ in range(_RESAMPLES))
    return shares[round(0.025 * _RESAMPLES)], shares[round(0.975 * _RESAMPLES) - 1]


def main() -> None:
    """Run and print one line of JSON for each step, for each life, and for the whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20_261_122)
    parser.add_argument("--instructions", action="store_true", help="count instructions, under valgrind")
    parser.add_argument("--none", action="store_true", help="compare with the same scripts: the noise")
    asked = parser.parse_args()
    assert len(_DEFINED.findall(scripts.script_text("complete"))) == len(COUNTING)
    warm_up = 1 if asked.instructions else _WARM_UP
    by = _by_instructions if asked.instructions else _by_processor_time
    with tempfile.TemporaryDirectory() as folder, by(Path(folder)) as (url, worked):
        patience = {"ledger_timeout_s": 10, "ledger_connect_timeout_s": 10}
        counted, plain = (
            Ledger(ledger_settings_of({"ledger_url": url, "ledger_prefix": prefix, **patience}))
            for prefix in ("{counted}", "{plain}")
        )
        with counted, plain:
            other = scripts.script_text if asked.none else uncounted
            sides = {True: Lives(counted, scripts.script_text, worked), False: Lives(plain, other, worked)}
            before = plain.counters()
            pairs = []
            for number in range(warm_up + asked.pairs):
                took = {counts: sides[counts].block() for counts in ((True, False) if number % 2 else (False, True))}
                pairs.append((took[True], took[False]))
            for pool in ("inhouse", "modal"):
                ended = counted.counters()[f"jobs_total|kind=render|outcome=completed|pool={pool}"]
                assert ended == 1 + BLOCK * len(pairs), (pool, ended)
            assert asked.none or plain.counters() == before
    _say(pairs[warm_up:], asked.seed, instructions=asked.instructions)


def _say(pairs: Sequence[tuple[Took, Took]], seed: int, *, instructions: bool) -> None:
    dice, steps = random.Random(seed), list(pairs[0][0])
    lives = {f"life {pool}": [step for step in steps if step.startswith(f"{pool} ")] for pool in _LIVES}
    completed = [*lives["life inhouse"], *lives["life modal"]]
    for what, of in {**{step: [step] for step in steps}, **lives, "completed lives": completed}.items():
        low, high = interval(pairs, of, dice)
        line = {
            "what": what,
            "redis_us" if not instructions else "redis_instructions": round(
                sum(middle_mean([counted[step] for counted, _ in pairs]) for step in of), 1
            ),
            "counting_share": round(share(pairs, of), 4),
            "interval_95": [round(low, 4), round(high, 4)],
        }
        print(json.dumps(line))
    print(json.dumps({"pairs": len(pairs), "jobs_per_block": BLOCK, "seed": seed}))


if __name__ == "__main__":
    main()
