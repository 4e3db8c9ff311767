"""The circuit breaker before Modal: a pure state machine, the gate that shares it between processes, and its probe.

    closed     spawns go out; failures within the window are counted
    open       nothing is spawned or placed on Modal; from time to time one process asks Modal something cheap
    half_open  the probe was answered: a few spawns go out; enough successes close it, one failure opens it again

A failure that says that Modal rejects us altogether (a token that is refused, an app that is not deployed) opens it at
once. Each time that it opens again without having closed, it stays open longer.

The API and the exporter read the breaker, so this module imports nothing of Modal's SDK.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import structlog

from ledger import Ledger
from ledger.polling import StoredBreaker

log = structlog.get_logger(__name__)

#: Attempts to write a change while other processes change it too.
_WRITE_ATTEMPTS = 8
#: Polls that fail at one moment are one failure: they are reported at this interval at most, seconds.
_POLLS_EVERY_S = 1.0
#: How many calls whose polls failed are remembered; the oldest are dropped first.
REMEMBERED = 10_000
#: Jobs that were requeued before their spawn are decided about again after this, seconds.
REQUEUE_PAUSE_S = 1.0


class Phase(StrEnum):
    """Whether Modal is used."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class FailureReason(StrEnum):
    """Why Modal did not do what was asked."""

    #: It was away, or answered that it cannot now.
    UNAVAILABLE = "unavailable"
    #: No answer in time.
    TIMED_OUT = "timed_out"
    #: Over its limits.
    THROTTLED = "throttled"
    #: The token is wrong or was revoked.
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a reason, no token
    #: The app or its class is not deployed.
    NOT_DEPLOYED = "not_deployed"


#: Failures that no repetition mends: they open the breaker at once.
AT_ONCE = frozenset({FailureReason.TOKEN_REFUSED, FailureReason.NOT_DEPLOYED})


@dataclass(frozen=True)
class BreakerRules:
    """When it opens and closes."""

    #: This number of failures opens it ...
    failures: int = 5
    #: ... when they come within this time, seconds.
    window_s: float = 30.0
    #: How long it stays open before it asks, seconds; doubles each time that it opens without having closed.
    open_s: float = 10.0
    open_max_s: float = 120.0
    #: Spawns at once while it is half open, and how many must succeed to close it.
    probes: int = 3
    #: A probe without an answer is made again by another process after this, seconds.
    probe_timeout_s: float = 30.0


@dataclass(frozen=True)
class Breaker:
    """The machine's memory. Times are milliseconds by the ledger's clock."""

    phase: Phase = Phase.CLOSED
    reason: str = ""
    since_ms: int = 0
    #: While closed: when the newest failures were.
    failures_ms: tuple[int, ...] = ()
    #: While half open: how many have succeeded.
    successes: int = 0
    #: Times that it has opened since it was last closed.
    openings: int = 0
    #: While open: when the next probe may begin.
    probe_at_ms: int = 0

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"))


def breaker_from_json(text: str | None) -> Breaker:
    """Read it again. What cannot be read counts as new: a breaker without memory opens again soon enough."""
    try:
        fields = json.loads(text or "{}")
        known = {name: value for name, value in fields.items() if name in Breaker.__dataclass_fields__}
        if "phase" in known:
            known["phase"] = Phase(known["phase"])
        known["failures_ms"] = tuple(int(at) for at in known.get("failures_ms", ()))
        return Breaker(**known)
    except (ValueError, TypeError, AttributeError):
        return Breaker()


def failed(was: Breaker, reason: FailureReason, now_ms: int, rules: BreakerRules) -> Breaker:
    """Modal did not do what was asked."""
    match was.phase:
        case Phase.OPEN:
            # A probe that failed, or an answer to what was asked before it opened: the newest reason counts.
            if reason in AT_ONCE and was.reason != reason:
                return replace(was, reason=str(reason))
            return was
        case Phase.HALF_OPEN:
            return _opened(was, str(reason), now_ms, rules)
        case Phase.CLOSED:
            recent = (*(at for at in was.failures_ms if now_ms - at <= rules.window_s * 1000), now_ms)
            if reason in AT_ONCE or len(recent) >= rules.failures:
                return _opened(was, str(reason), now_ms, rules)
            return replace(was, failures_ms=recent)


def succeeded(was: Breaker, now_ms: int, rules: BreakerRules) -> Breaker:
    """A spawn was answered."""
    match was.phase:
        case Phase.CLOSED:
            # Old failures expire by their age: one success among failures mends nothing.
            return was
        case Phase.OPEN:
            return was
        case Phase.HALF_OPEN:
            if was.successes + 1 >= rules.probes:
                return Breaker(Phase.CLOSED, since_ms=now_ms)
            return replace(was, successes=was.successes + 1)


def probe_due(was: Breaker, now_ms: int) -> bool:
    """Whether it is time to ask Modal something cheap."""
    return was.phase is Phase.OPEN and now_ms >= was.probe_at_ms


def probing(was: Breaker, now_ms: int, rules: BreakerRules) -> Breaker:
    """A process asks now; no other one does until that has had its time."""
    return replace(was, probe_at_ms=now_ms + round(rules.probe_timeout_s * 1000))


def probed(was: Breaker, reason: FailureReason | None, now_ms: int, rules: BreakerRules) -> Breaker:
    """The probe's answer; None: all is well."""
    if was.phase is not Phase.OPEN:
        return was
    if reason is None:
        return replace(was, phase=Phase.HALF_OPEN, since_ms=now_ms, successes=0, failures_ms=())
    return _opened(was, str(reason), now_ms, rules)


def _opened(was: Breaker, reason: str, now_ms: int, rules: BreakerRules) -> Breaker:
    openings = was.openings + 1
    open_s = min(rules.open_max_s, rules.open_s * 2.0 ** min(openings - 1, 16))
    return Breaker(
        phase=Phase.OPEN,
        reason=reason,
        since_ms=now_ms if was.phase is not Phase.OPEN else was.since_ms,
        openings=openings,
        probe_at_ms=now_ms + round(open_s * 1000),
    )


class Gate:
    """Reads and moves the shared breaker. Safe to share between threads."""

    def __init__(self, ledger: Ledger, rules: BreakerRules, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self.rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._phase = Phase.CLOSED
        self._quiet_until: dict[FailureReason, float] = {}
        self._polls_quiet_until = float("-inf")
        self._failed_polls: dict[str, None] = {}

    @property
    def phase(self) -> Phase:
        """The phase as this process last read it."""
        return self._phase

    def read(self) -> Breaker:
        """The breaker as it stands.

        Raises:
            LedgerUnavailable: it cannot be read.
        """
        breaker, _ = self._note(self._ledger.modal_calls.breaker())
        return breaker

    def failed(self, reason: FailureReason) -> None:
        """Modal did not do what was asked.

        While it is open, a process reports each reason once a second, however many calls fail.
        """
        with self._lock:
            if self._clock() < self._quiet_until.get(reason, 0.0):
                return
            if self._phase is Phase.OPEN:
                self._quiet_until[reason] = self._clock() + 1.0
        self._move(lambda was, now_ms: failed(was, reason, now_ms, self.rules))

    def poll_failed(self, call_id: str, reason: FailureReason) -> None:
        """A call's poll failed.

        It counts once until a poll of that call is answered again: what is wrong with one call alone must not keep all
        others from Modal. And polls that fail at the same moment are one failure: a hiccup of Modal's opens nothing.
        """
        with self._lock:
            now = self._clock()
            if call_id in self._failed_polls or now < self._polls_quiet_until:
                return
            self._polls_quiet_until = now + _POLLS_EVERY_S
            self._failed_polls[call_id] = None
            if len(self._failed_polls) > REMEMBERED:
                del self._failed_polls[next(iter(self._failed_polls))]
        self.failed(reason)

    def poll_answered(self, call_id: str) -> None:
        """Modal answered a call's poll."""
        with self._lock:
            self._failed_polls.pop(call_id, None)

    def succeeded(self) -> None:
        """A spawn was answered."""
        if self._phase is not Phase.CLOSED:
            self._move(lambda was, now_ms: succeeded(was, now_ms, self.rules))

    def take_probe(self) -> bool:
        """Whether it is this process that asks Modal now whether all is well again."""
        stored = self._ledger.modal_calls.breaker()
        breaker, now_ms = self._note(stored)
        if not probe_due(breaker, now_ms):
            return False
        taken = probing(breaker, now_ms, self.rules)
        outcome, _ = self._ledger.modal_calls.move_breaker(
            version=stored.version, phase=str(taken.phase), reason=taken.reason, memory=taken.to_json()
        )
        return outcome == "moved"

    def probed(self, reason: FailureReason | None) -> None:
        """What the probe found; None: all is well."""
        self._move(lambda was, now_ms: probed(was, reason, now_ms, self.rules))

    def _move(self, step: Callable[[Breaker, int], Breaker]) -> None:
        stored = self._ledger.modal_calls.breaker()
        for _ in range(_WRITE_ATTEMPTS):
            was, now_ms = self._note(stored)
            now = step(was, now_ms)
            if now == was:
                return
            outcome, stored = self._ledger.modal_calls.move_breaker(
                version=stored.version, phase=str(now.phase), reason=now.reason, memory=now.to_json()
            )
            if outcome == "moved":
                self._note(stored)
                return
        log.warning("breaker.not_moved", tries=_WRITE_ATTEMPTS)

    def _note(self, stored: StoredBreaker) -> tuple[Breaker, int]:
        """Keep the phase that stands, and log it once when it has changed."""
        breaker = breaker_from_json(stored.memory)
        with self._lock:
            changed, self._phase = breaker.phase is not self._phase, breaker.phase
        if changed:
            say = log.error if breaker.phase is Phase.OPEN else log.info
            say("breaker.changed", phase=str(breaker.phase), reason=breaker.reason, openings=breaker.openings)
        return breaker, stored.now_ms


class BreakerProbe:
    """While the breaker is open: requeues what waits for a spawn, and asks Modal from time to time how it is.

    Any number of processes may have one; the gate lets one of them make each probe.
    """

    def __init__(
        self,
        ledger: Ledger,
        gate: Gate,
        ask: Callable[[], Awaitable[None]],
        reason_of: Callable[[BaseException], FailureReason],
    ) -> None:
        """`ask` asks Modal something cheap, and raises what the SDK raises; `reason_of` classifies that."""
        self._ledger = ledger
        self._gate = gate
        self._ask = ask
        self._reason_of = reason_of

    async def probe_if_due(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        breaker = await asyncio.to_thread(self._gate.read)
        if breaker.phase is not Phase.OPEN:
            return
        requeued = await asyncio.to_thread(
            self._ledger.modal_calls.reschedule_spawns, None, reason="breaker_open", pause_s=REQUEUE_PAUSE_S
        )
        if requeued:
            log.info("spawns.requeued", number=len(requeued))
        if await asyncio.to_thread(self._gate.take_probe):
            await self._probe()

    async def _probe(self) -> None:
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; each is classified
            reason = self._reason_of(error)
            log.info("breaker.probe_failed", reason=str(reason), error=f"{type(error).__name__}: {error}")
            await asyncio.to_thread(self._gate.probed, reason)
            return
        await asyncio.to_thread(self._gate.probed, None)
