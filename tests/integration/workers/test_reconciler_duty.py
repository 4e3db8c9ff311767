"""What is shown of the reconciler is its last sweep that went well."""

import pytest
import redis

from infra.broker import Broker
from ledger.store import Ledger
from workers.reconcile import DUTY, Reconciler
from workers.resources import Resources


def done(ledger: Ledger) -> int | None:
    """When a sweep went well last, milliseconds since 1970; None: never."""
    gauge = ledger.measuring.read().gauges.get(("duty_done", (("duty", DUTY),)))
    return gauge.at_ms if gauge is not None else None


def test_a_sweep_that_raises_is_not_a_sweep(ledger: Ledger, resources: Resources) -> None:
    # given a reconciler that has the duty, and a ledger over which its sweep cannot come to an end
    reconciler = Reconciler(resources, Broker(resources.settings))
    overdue = f"{ledger.prefix}:nudges:overflow"
    ledger.client.set(overdue, "no index")
    # when it sweeps / then the duty is its own, and nothing says that it was done
    with pytest.raises(redis.exceptions.ResponseError):
        reconciler.sweep()
    assert not ledger.sweeps.lead(DUTY, owner="another", lease_s=5)
    ledger.client.delete(overdue)
    assert done(ledger) is None
    # and when it comes to its end, that is when
    reconciler.sweep()
    swept_ms = done(ledger)
    assert swept_ms is not None
    # and a later one that does not leaves that time as it was
    ledger.client.set(overdue, "no index")
    with pytest.raises(redis.exceptions.ResponseError):
        reconciler.sweep()
    ledger.client.delete(overdue)
    assert done(ledger) == swept_ms


def test_who_has_not_the_duty_does_not_say_that_it_was_done(ledger: Ledger, resources: Resources) -> None:
    # given a duty that another has / when this one's turn comes / then it says nothing
    assert ledger.sweeps.lead(DUTY, owner="another", lease_s=60)
    Reconciler(resources, Broker(resources.settings)).sweep()
    assert done(ledger) is None
