"""A short form of the chaos suite: the whole stack, a minute, a dozen faults. `make chaos` is the long one."""

import io

import pytest
from rich.console import Console

from tests.chaos.run import Options, run

#: Deals, among others, an engine that hangs (early, while there is work), an S3 that hangs, a dead Redis, container,
#: GPU worker and modal_local, records of another version, and a cancel.
SEED = 30_880


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_whatever_dies_an_accepted_job_ends_once() -> None:
    # Given the whole stack, when three dozen jobs come in and a dozen faults strike meanwhile
    said = io.StringIO()
    options = Options(
        seed=SEED,
        jobs=36,
        faults=12,
        lease_s=4.0,
        spawn_timeout_s=5.0,
        # Usually a few seconds; a call whose follower lost its claim's answer is looked at again when that lapses.
        quiet_s=150.0,
    )
    verdict = run(options, Console(file=said, width=150))
    # Then nothing is lost, doubled or leaked, and everything else that must hold holds
    print(said.getvalue())  # noqa: T201 - the seed, the faults and the tables, should it fail
    assert verdict.well, [check for check in verdict.checks if not check.holds]
    assert said.getvalue().splitlines()[-1].startswith(f"chaos: seed {SEED}, 36 jobs, 12 faults, 0 lost, 0 double, 0 ")
