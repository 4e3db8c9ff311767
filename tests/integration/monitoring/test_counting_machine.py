"""Under any interleaving of everybody's steps, the counters equal what the records add up to."""

from monitoring.reconcile import differences
from tests.integration.ledger.test_invariants import LedgerMachine
from tests.support.machines import run_machine
from tests.support.redis_server import RedisServer


class CountedMachine(LedgerMachine):
    """Every process of the system, one step at a time, and a count of everything at the end."""

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            assert [str(one) for one in differences(self.ledger)] == []
        super().teardown()


def test_counters_equal_the_records_under_any_interleaving(redis_server: RedisServer) -> None:
    CountedMachine.url = redis_server.url()
    run_machine(CountedMachine, examples=8, steps=30)
