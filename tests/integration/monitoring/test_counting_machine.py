"""Under any interleaving of everybody's steps, the counters equal what the records add up to."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from monitoring.reconcile import differences
from tests.integration.ledger.test_invariants import LedgerMachine
from tests.support.redis_server import RedisServer


class CountedMachine(LedgerMachine):
    """Every process of the system, one step at a time, and a count of everything at the end."""

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            assert [str(one) for one in differences(self.ledger)] == []
        super().teardown()


def test_counters_equal_the_records_under_any_interleaving(redis_server: RedisServer) -> None:
    CountedMachine.url = redis_server.url()
    run_state_machine_as_test(
        CountedMachine,
        settings=settings(
            max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
