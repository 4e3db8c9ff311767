"""The gate before Modal: what one process sees of the breaker that all share, and what it tells it."""

import threading
import time
from collections.abc import Callable

import structlog

from ledger import Ledger
from ledger.following import StoredBreaker
from workers.overflow.breaker import (
    Breaker,
    BreakerRules,
    Phase,
    Trouble,
    breaker_from_json,
    failed,
    probe_due,
    probed,
    probing,
    succeeded,
)

log = structlog.get_logger(__name__)

#: Tries to write a change while others change it too.
_TRIES = 8
#: Looks that fail at one moment are one trouble: they are told so often at most, seconds.
_LOOKS_EVERY_S = 1.0
#: So many calls that could not be asked about are remembered; the oldest are forgotten first.
REMEMBERED = 10_000


class Gate:
    """Reads and moves the shared breaker. Safe to share between threads."""

    def __init__(self, ledger: Ledger, rules: BreakerRules, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self.rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = Phase.CLOSED
        self._quiet_until: dict[Trouble, float] = {}
        self._looks_quiet_until = float("-inf")
        self._not_asked_about: dict[str, None] = {}

    @property
    def seen(self) -> Phase:
        """The phase as this process last saw it."""
        return self._seen

    def read(self) -> Breaker:
        """The breaker as it stands.

        Raises:
            LedgerUnavailable: it cannot be read.
        """
        breaker, _ = self._look(self._ledger.following.breaker())
        return breaker

    def failed(self, trouble: Trouble) -> None:
        """Modal did not do what was asked.

        Ten thousand calls that cannot be asked tell it once a second and process, not ten thousand times.
        """
        with self._lock:
            if self._clock() < self._quiet_until.get(trouble, 0.0):
                return
            if self._seen is Phase.OPEN:
                self._quiet_until[trouble] = self._clock() + 1.0
        self._move(lambda was, now_ms: failed(was, trouble, now_ms, self.rules))

    def not_asked(self, call_id: str, trouble: Trouble) -> None:
        """Modal could not be asked about a call.

        A call tells so once until it was asked about again: what is wrong with one alone must not keep all others from
        Modal. And looks that fail at the same moment are one failure: a short breath of Modal's opens nothing.
        """
        with self._lock:
            now = self._clock()
            if call_id in self._not_asked_about or now < self._looks_quiet_until:
                return
            self._looks_quiet_until = now + _LOOKS_EVERY_S
            self._not_asked_about[call_id] = None
            if len(self._not_asked_about) > REMEMBERED:
                del self._not_asked_about[next(iter(self._not_asked_about))]
        self.failed(trouble)

    def asked(self, call_id: str) -> None:
        """Modal was asked about a call, and answered."""
        with self._lock:
            self._not_asked_about.pop(call_id, None)

    def succeeded(self) -> None:
        """A spawn was answered."""
        if self._seen is not Phase.CLOSED:
            self._move(lambda was, now_ms: succeeded(was, now_ms, self.rules))

    def take_probe(self) -> bool:
        """Whether it is this process that asks Modal now whether all is well again."""
        stored = self._ledger.following.breaker()
        breaker, now_ms = self._look(stored)
        if not probe_due(breaker, now_ms):
            return False
        taken = probing(breaker, now_ms, self.rules)
        outcome, _ = self._ledger.following.move_breaker(
            version=stored.version, phase=str(taken.phase), reason=taken.reason, memory=taken.to_json()
        )
        return outcome == "moved"

    def probed(self, trouble: Trouble | None) -> None:
        """What the probe found; None: all is well."""
        self._move(lambda was, now_ms: probed(was, trouble, now_ms, self.rules))

    def _move(self, step: Callable[[Breaker, int], Breaker]) -> None:
        stored = self._ledger.following.breaker()
        for _ in range(_TRIES):
            was, now_ms = self._look(stored)
            now = step(was, now_ms)
            if now == was:
                return
            outcome, stored = self._ledger.following.move_breaker(
                version=stored.version, phase=str(now.phase), reason=now.reason, memory=now.to_json()
            )
            if outcome == "moved":
                self._look(stored)
                return
        log.warning("breaker.not_moved", tries=_TRIES)

    def _look(self, stored: StoredBreaker) -> tuple[Breaker, int]:
        """Note what stands, and say so once when it has changed."""
        breaker = breaker_from_json(stored.memory)
        with self._lock:
            changed, self._seen = breaker.phase is not self._seen, breaker.phase
        if changed:
            say = log.error if breaker.phase is Phase.OPEN else log.info
            say("breaker.changed", phase=str(breaker.phase), reason=breaker.reason, openings=breaker.openings)
        return breaker, stored.now_ms
