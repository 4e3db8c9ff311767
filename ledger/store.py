"""`Ledger`: all verbs on one connection. Safe to share between threads; made anew after a fork."""

import math
import secrets
from typing import Self

from ledger.attempts import Attempts
from ledger.audit import Violation, audit
from ledger.budget import Budget
from ledger.calls import Calls
from ledger.decisions import Limits
from ledger.deletions import Deletions
from ledger.desk import Desk
from ledger.following import Following
from ledger.looking import Looking
from ledger.measuring import Measuring
from ledger.metrics import apart, is_of_histogram
from ledger.placing import Placing
from ledger.scripts import ScriptRunner
from ledger.server import address_of, connect, refuse_eviction
from ledger.settings import LedgerSettings
from ledger.sweeps import Sweeps
from ledger.training import Training
from ledger.warming import Warming


class Ledger:
    """The durable record, by who uses it.

    Attributes:
        desk: submit, get, list, cancel.
        placing: claim queued jobs, see the cluster, commit decisions.
        attempts: run, renew, deliver, complete and fail attempts; in-house slots.
        calls: record, stop and settle Modal calls.
        following: what spawners and followers share: calls that are due, hints, the breaker, the rate of spawns.
        sweeps: what maintenance does again and again.
        deletions: objects that nothing points to any more, until their store has confirmed their deletion.
        looking: what people watch: calls in flight, the newest events.
        budget: how the caps stand, the month's book, the operator's hand, the true-up.
        measuring: everything that is shown about it, for the exporter.
        training: how training runs go, how fast they are, and their moves between pools.
    """

    def __init__(self, settings: LedgerSettings | None = None) -> None:
        self.settings = settings or LedgerSettings()
        self.prefix = self.settings.ledger_prefix
        self.address = address_of(self.settings.ledger_url.get_secret_value())
        self.client = connect(self.settings)
        self.runner = ScriptRunner(
            self.client,
            prefix=self.prefix,
            address=self.address,
            constants={
                "nudge_again_ms": int(self.settings.nudge_again_s * 1000),
                "events_kept": self.settings.events_kept,
            },
        )
        self.desk = Desk(self.runner, prefix=self.prefix, idempotency_ttl_s=self.settings.idempotency_ttl_s)
        self.placing = Placing(self.runner)
        self.attempts = Attempts(self.runner, prefix=self.prefix)
        self.calls = Calls(self.runner, prefix=self.prefix)
        self.following = Following(self.runner)
        self.sweeps = Sweeps(self.runner)
        self.deletions = Deletions(self.runner, prefix=self.prefix)
        self.warming = Warming(self.runner)
        self.budget = Budget(self.runner)
        self.looking = Looking(self.runner, prefix=self.prefix)
        self.measuring = Measuring(self.runner)
        self.training = Training(self.runner, prefix=self.prefix)

    def ping(self) -> None:
        """Ask Redis for a sign of life.

        Raises:
            LedgerUnavailable: none came in time.
        """
        self.runner.guarded(self.client.ping)

    def container_secret(self) -> bytes:
        """What makes the keys with which Modal calls sign. Random, and made when it is first asked for.

        Raises:
            LedgerUnavailable: it cannot be read now.
        """

        def read() -> str:
            key = f"{self.prefix}:container_secret"
            self.client.set(key, secrets.token_hex(32), nx=True)
            found: str = self.client.get(key)  # type: ignore[assignment]  # just set, and never removed
            return found

        return bytes.fromhex(self.runner.guarded(read))

    def refuse_eviction(self) -> None:
        """Raise unless the server keeps every key.

        Raises:
            EvictingServer: it may throw keys away; a key thrown away is a job lost.
            LedgerUnavailable: it does not answer.
        """
        self.runner.guarded(lambda: refuse_eviction(self.client, address=self.address))

    def counters(self) -> dict[str, int]:
        """All counters: `"metric|label=value|..."` -> number; what histograms hold is in `measuring.read`."""
        raw: dict[str, str] = self.runner.guarded(lambda: self.client.hgetall(f"{self.prefix}:counters"))
        return {name: int(value) for name, value in apart(raw.items()).items() if not is_of_histogram(name)}

    def tally(self, metric: str, labels: str, by: int = 1) -> None:
        """Raise a counter for something that is no transition. `labels`: `"reason=garbage|queue=render"`, sorted."""
        self.runner.call("tally", metric=metric, labels=labels, by=by)

    def observe(self, metric: str, labels: str, value: float) -> None:
        """Put one value into a histogram. `labels` as `metrics.label_text` writes them; bounds in ledger/metrics.py.

        Raises:
            ValueError: the value is not finite or is negative.
        """
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"expected a finite {metric} of at least 0, got {value!r}")
        self.runner.call("observe", metric=metric, labels=labels, value=value)

    def gauge(self, metric: str, labels: str, value: float) -> None:
        """Note the present value of something; whoever reads it sees how old it is. `labels` as in `observe`.

        Raises:
            ValueError: the value is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"expected a finite {metric}, got {value!r}")
        self.runner.call("gauge", metric=metric, labels=labels, value=value)

    def audit(self, limits: Limits | None = None) -> list[Violation]:
        """Every violation of what must always hold (see ledger/audit.py); with `limits`, of the caps too."""
        return audit(self.runner, prefix=self.prefix, limits=limits)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
