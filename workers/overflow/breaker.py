"""The circuit breaker before Modal: a pure state machine, with time passed in.

    closed     spawns go out; failures within the window are counted
    open       nothing is spawned or placed on Modal; now and then one process asks Modal something cheap
    half_open  the probe was answered: a few spawns go out; so many successes close it, one failure opens it again

A failure that says that Modal will not have us at all (a token that is refused, an app that is not deployed) opens it
at once. Each time that it opens again without having closed, it stays open longer.
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Whether Modal is used."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Trouble(StrEnum):
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


#: Trouble that no repetition mends: it opens the breaker at once.
AT_ONCE = frozenset({Trouble.TOKEN_REFUSED, Trouble.NOT_DEPLOYED})


@dataclass(frozen=True)
class BreakerRules:
    """When it opens and closes."""

    #: So many failures ...
    failures: int = 5
    #: ... within so many seconds open it.
    window_s: float = 30.0
    #: How long it stays open before it asks, seconds; doubles each time that it opens without having closed.
    open_s: float = 10.0
    open_max_s: float = 120.0
    #: Spawns at once while it is half open, and how many must succeed to close it.
    probes: int = 3
    #: A probe that said nothing for so long is made again by somebody else, seconds.
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
    """Read it again. What cannot be read is as good as new: a breaker that has forgotten opens again soon enough."""
    try:
        fields = json.loads(text or "{}")
        known = {name: value for name, value in fields.items() if name in Breaker.__dataclass_fields__}
        if "phase" in known:
            known["phase"] = Phase(known["phase"])
        known["failures_ms"] = tuple(int(at) for at in known.get("failures_ms", ()))
        return Breaker(**known)
    except (ValueError, TypeError, AttributeError):
        return Breaker()


def failed(was: Breaker, trouble: Trouble, now_ms: int, rules: BreakerRules) -> Breaker:
    """Modal did not do what was asked."""
    match was.phase:
        case Phase.OPEN:
            # A probe that failed, or an answer to what was asked before it opened: the newest reason counts.
            if trouble in AT_ONCE and was.reason != trouble:
                return replace(was, reason=str(trouble))
            return was
        case Phase.HALF_OPEN:
            return _opened(was, str(trouble), now_ms, rules)
        case Phase.CLOSED:
            recent = (*(at for at in was.failures_ms if now_ms - at <= rules.window_s * 1000), now_ms)
            if trouble in AT_ONCE or len(recent) >= rules.failures:
                return _opened(was, str(trouble), now_ms, rules)
            return replace(was, failures_ms=recent)


def succeeded(was: Breaker, now_ms: int, rules: BreakerRules) -> Breaker:
    """A spawn was answered."""
    match was.phase:
        case Phase.CLOSED:
            # Old failures are forgotten by their age: one success among failures mends nothing.
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
    """Somebody asks now; nobody else does until that has had its time."""
    return replace(was, probe_at_ms=now_ms + round(rules.probe_timeout_s * 1000))


def probed(was: Breaker, trouble: Trouble | None, now_ms: int, rules: BreakerRules) -> Breaker:
    """The probe's answer; None: all is well."""
    if was.phase is not Phase.OPEN:
        return was
    if trouble is None:
        return replace(was, phase=Phase.HALF_OPEN, since_ms=now_ms, successes=0, failures_ms=())
    return _opened(was, str(trouble), now_ms, rules)


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
