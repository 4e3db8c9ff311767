"""What counting costs: the ledger's scripts with their counters and without, side by side.

`python -m benchmarks.counting --jobs 1000`: two ledgers on one redis-server, one of which runs the same scripts with
`count` and `observe` emptied. Lives of jobs (six scripts each) go through both in turns, a few at a time, so that
whatever else the machine does falls on both. Printed is how long Redis worked for each script (its own clock), with
and without, and the share of the whole that is counting.
"""

import argparse
import json
import re
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

from ledger import Kind, Ledger, LedgerSettings, scripts
from tests.support.activity import run_inhouse, run_on_modal
from tests.support.redis_server import running_redis

_COUNTING = ("add_to", "observe", "write_counts", "note_duty", "count_change")
_FUNCTION = re.compile(rf"(local function (?:{'|'.join(_COUNTING)})\([^)]*\)\n).*?\nend\n", re.DOTALL)
_COUNT = "local function count(metric, labels, by) add_to(metric .. '|' .. labels, by or 1) end"
TURN = 10
_WHOLE = scripts.script_text


def uncounted(name: str) -> str:
    """A script's text, counting nothing."""
    return _FUNCTION.sub(r"\1end\n", _WHOLE(name)).replace(_COUNT, "local function count() end")


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    assert len(_FUNCTION.findall(_WHOLE("complete"))) == len(_COUNTING)
    assert _COUNT in _WHOLE("complete")
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server:
        with_it, without = (
            Ledger(LedgerSettings.model_validate({"ledger_url": server.url(), "ledger_prefix": prefix}))
            for prefix in ("{counted}", "{plain}")
        )
        with with_it, without:
            worked: dict[str, list[float]] = defaultdict(list)
            for turn in range(jobs // TURN):
                for name, ledger in (("with", with_it), ("without", without))[:: 1 if turn % 2 else -1]:
                    worked[name].append(_turn(ledger, plain=name == "without"))
            assert with_it.counters()["jobs_total|kind=render|outcome=completed|pool=inhouse"] > 0
            assert without.counters() == {}
            # The quickest tenth of the turns: what else the machine did in the others says nothing about us.
            counted, plain = (statistics.quantiles(worked[name], n=10)[0] / TURN for name in ("with", "without"))
            print(
                json.dumps(
                    {
                        "jobs": jobs,
                        "redis_us_per_life_with": round(counted, 1),
                        "redis_us_per_life_without": round(plain, 1),
                        "share_of_counting": round((counted - plain) / counted, 4),
                    }
                )
            )


def _turn(ledger: Ledger, *, plain: bool) -> float:
    """Some lives; how long Redis worked for their scripts, microseconds."""
    ledger.client.config_resetstat()
    with patch.object(scripts, "script_text", uncounted if plain else _WHOLE):
        for _ in range(TURN // 2):
            run_inhouse(ledger, Kind.RENDER)
            run_on_modal(ledger, Kind.RENDER)
    usage: dict[str, float] = ledger.client.info("commandstats")["cmdstat_evalsha"]
    return float(usage["usec"])


if __name__ == "__main__":
    main()
