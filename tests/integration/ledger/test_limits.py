"""The caps are law: many dispatchers race, and no cap is passed at any instant."""

import threading

from ledger import Kind, Ledger
from ledger.limits import Limits
from ledger.outcomes import Placed, Refused
from tests.support.ledgers import MODAL, RECEIPT, claim_spawns, fresh_ledger, limited, submit
from tests.support.redis_server import RedisServer


def test_the_month_cap_is_exact_under_eight_racing_dispatchers(redis_server: RedisServer) -> None:
    # Given money for seven of forty jobs
    limits = Limits(month_cap_usd_micros=7_500_000, max_modal_attempts=1000)
    with fresh_ledger(redis_server.url()) as ledger:
        for _ in range(40):
            submit(ledger)
        outcomes: list[object] = []

        # When eight dispatchers try to send all of them to Modal at once
        def dispatcher() -> None:
            mine = Ledger(ledger.settings)
            claims = mine.placement.claim_queued(Kind.RENDER, limit=5, lease_s=60)
            outcomes.extend(limited(mine, limits).placement.place(claim, MODAL, receipt=RECEIPT) for claim in claims)
            mine.close()

        threads = [threading.Thread(target=dispatcher) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        # Then seven were placed, the others refused by name, and the reservation is theirs alone
        assert len(outcomes) == 40
        assert sum(isinstance(outcome, Placed) for outcome in outcomes) == 7
        assert all(outcome == Refused("month_budget") for outcome in outcomes if not isinstance(outcome, Placed))
        assert ledger.placement.view().money.reserved_usd_micros == 7_000_000


def test_the_cap_of_modal_attempts_counts_calls_that_are_being_stopped(redis_server: RedisServer) -> None:
    limits = Limits(month_cap_usd_micros=10**12, max_modal_attempts=1)
    with fresh_ledger(redis_server.url()) as ledger:
        first, _second = submit(ledger), submit(ledger)
        claims = ledger.placement.claim_queued(Kind.RENDER, limit=2, lease_s=60)
        assert isinstance(limited(ledger, limits).placement.place(claims[0], MODAL, receipt=RECEIPT), Placed)
        claim_spawns(ledger, worker="o", limit=1, lease_s=10)
        ledger.jobs.cancel(first)
        refused = limited(ledger, limits).placement.place(claims[1], MODAL, receipt=RECEIPT)
        assert refused == Refused("modal_calls_at_cap")
        ledger.modal_calls.settle_cancel(first, 1, cost_usd_micros=0)
        assert isinstance(limited(ledger, limits).placement.place(claims[1], MODAL, receipt=RECEIPT), Placed)
