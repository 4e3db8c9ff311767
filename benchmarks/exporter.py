"""How long a scrape takes with a million jobs in the ledger: `make bench-exporter JOBS=1000000`.

A redis-server of its own is filled with records (ended ones, and 20,000 that wait, of all priorities), in scripts of
2,000 jobs. The exporter runs as a process and is scraped over HTTP as Prometheus does, first over the empty ledger.
Printed are median and 99th percentile of the scrapes, how long the exporter and Redis computed for one, and the number
of series.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from ledger import Kind, Ledger
from tests.support.activity import H100, everything, spawn
from tests.support.redis_server import RedisServer, running_redis
from tests.support.settings import ledger_settings_of

REPOSITORY = Path(__file__).parents[1]
BATCH = 2_000
WAITING = 10_000
CLASSES = ("H200", "A100-80GB", "A100-80GB:4")

#: One batch of records, with the fields and indexes that an ended (or waiting) job has.
FILL = """
local P, first, number, waiting = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
for i = first, first + number - 1 do
  local kind = i % 10 == 0 and 'train' or 'render'
  local id = string.format('%s_%012x%020x', kind == 'train' and 'ftjob' or 'video', i, i)
  local created = 1790000000000 + i
  redis.call('HSET', P .. ':job:' .. id, 'id', id, 'kind', kind, 'tenant', 'tenant-' .. i % 50, 'state',
    waiting and 'placed' or 'completed',
    'priority', i % 10, 'burst', 'auto', 'spec',
    '{"prompt":"a lighthouse in a storm at night, seen from the sea","seconds":4,"size":"1280x720","fps":24}',
    'schema', 1, 'attempt', 1, 'claim', 1, 'progress', waiting and 0 or 100, 'created_ms', created,
    'changed_ms', created,
    'digest', 'd' .. i, 'source', 'api', 'pool', 'inhouse')
  redis.call('ZADD', P .. ':jobs:' .. kind, created, id)
  redis.call('ZADD', P .. ':tenant:tenant-' .. i % 50 .. ':' .. kind, created, id)
  if waiting then
    redis.call('ZADD', P .. ':waiting:inhouse:' .. kind, (9 - i % 10) * 1e13 + created, id)
    redis.call('ZADD', P .. ':nudges:inhouse.' .. kind, created, id)
  else
    redis.call('ZADD', P .. ':done:' .. kind, created, id)
  end
end
"""


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--scrapes", type=int, default=200)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as running,
        Ledger(ledger_settings_of({"ledger_url": running.url(), "ledger_timeout_s": 30})) as ledger,
    ):
        # The records need not survive: writing them to a disk as well would only take time.
        ledger.client.config_set("appendonly", "no")
        make_series(ledger)
        with exporter(running) as (url, process):
            empty, _ = scrapes(url, arguments.scrapes)
            started = time.perf_counter()
            fill(ledger, arguments.jobs)
            filled_s = time.perf_counter() - started
            worked_s = cpu_s(process)
            full, text = scrapes(url, arguments.scrapes)
            worked_s = (cpu_s(process) - worked_s) / arguments.scrapes
        assert text.count("overspill_jobs_kept") >= 1
        print(
            json.dumps(
                {
                    "jobs": arguments.jobs,
                    "cores": os.cpu_count(),
                    "fill_s": round(filled_s, 1),
                    "redis_gb": round(int(ledger.client.info("memory")["used_memory"]) / 1e9, 2),
                    "series": sum(not line.startswith("#") for line in text.splitlines()),
                    "scrape_ms": percentiles(full),
                    "scrape_ms_of_an_empty_ledger": percentiles(empty),
                    "exporter_cpu_ms_per_scrape": round(worked_s * 1000, 1),
                    "redis_ms_per_scrape": redis_ms(ledger),
                }
            )
        )


def make_series(ledger: Ledger) -> None:
    """Every event, on several GPU classes, so that there are as many series as a busy system has."""
    everything(ledger)
    for kind in Kind:
        for gpu in CLASSES:
            spawn(ledger, kind, replace(H100, gpu=gpu))


def fill(ledger: Ledger, jobs: int) -> None:
    """Write so many records, the last of which wait."""
    script = ledger.client.register_script(FILL)
    for first in range(0, jobs, BATCH):
        waiting = "1" if first >= jobs - 2 * WAITING else "0"
        script(keys=[f"{ledger.prefix}:meta"], args=[ledger.prefix, first, min(BATCH, jobs - first), waiting])


@contextmanager
def exporter(server: RedisServer) -> Iterator[tuple[str, psutil.Process]]:
    """The exporter as a process: its address and itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring.exporter"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "OVERSPILL_LEDGER_URL": server.url(),
            "OVERSPILL_BROKER_URL": server.url(1),
            "OVERSPILL_EXPORTER_PORT": "0",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def cpu_s(process: psutil.Process) -> float:
    """How long a process has computed so far: this does not depend on who else uses the machine."""
    times = process.cpu_times()
    return float(times.user + times.system)


def scrapes(url: str, number: int) -> tuple[list[float], str]:
    """So many scrapes, one after the other: seconds of each, and the last answer."""
    seconds, text = [], ""
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with httpx.Client(trust_env=False, timeout=10, headers=headers) as client:
        for _ in range(number):
            started = time.perf_counter()
            text = client.get(f"{url}/metrics").text
            seconds.append(time.perf_counter() - started)
    assert "overspill_up 1.0" in text
    return seconds, text


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the longest, milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1000, 1),
        "p99": round(ordered[int(len(ordered) * 0.99) - 1] * 1000, 1),
        "max": round(ordered[-1] * 1000, 1),
    }


def redis_ms(ledger: Ledger) -> float:
    """How long Redis works for the exporter's script: while it does, it does nothing else."""
    ledger.client.config_resetstat()
    for _ in range(20):
        ledger.stats.read()
    usage: dict[str, float] = ledger.client.info("commandstats")["cmdstat_evalsha"]
    return round(usage["usec_per_call"] / 1000, 2)


if __name__ == "__main__":
    main()
