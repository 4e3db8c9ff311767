"""Tries again while the ledger or S3 is away: a finished render is worth a wait."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from infra.artifacts import ArtifactStoreUnavailable
from ledger import LedgerUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: Between two tries, seconds.
LONGEST_WAIT_S = 5.0

#: What says that somebody is away, and nothing about the work itself.
Away = LedgerUnavailable | ArtifactStoreUnavailable


def retry_while_unavailable(
    operation: Callable[[], T],
    *,
    for_s: float,
    away: type[Away] = LedgerUnavailable,
    give_up: Callable[[], bool] = lambda: False,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Run an operation, again and again with growing waits, until it answers or `for_s` seconds have passed.

    Every script of the ledger may be repeated, and so may every put under an attempt's own key: a lost answer does
    no harm. `give_up` is asked before each wait: whoever waits may have lost its attempt.

    Raises:
        LedgerUnavailable, ArtifactStoreUnavailable: whichever `away` names; it was away for all that time.
    """
    until = clock() + for_s
    delay_s = 0.2
    while True:
        try:
            return operation()
        except away as error:
            if clock() + delay_s > until or give_up():
                raise
            log.warning("patience.waits", retry_in_s=delay_s, error=error.reason)
            wait(delay_s)
            delay_s = min(delay_s * 2, LONGEST_WAIT_S)
