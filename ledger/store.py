"""`Ledger`: all verbs on one connection. Safe to share between threads; made anew after a fork."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ledger.attempts import Attempts
from ledger.audit import Violation, audit
from ledger.deletions import Deletions
from ledger.jobs import Jobs
from ledger.limits import Difference, Limits, differences
from ledger.maintenance import Maintenance
from ledger.metrics import apart, is_of_histogram
from ledger.modal_calls import ModalCalls
from ledger.money import Money
from ledger.placement import Placement
from ledger.scripts import ScriptRunner
from ledger.server import address_of, connect, refuse_eviction
from ledger.settings import LedgerSettings
from ledger.stats import Stats


@dataclass(frozen=True)
class GivenLimits:
    """What the environment of a process says about limits.

    Attributes:
        values: by name (ledger/limits.py).
        who: the process, kept with what it fills.
        on_difference: told where the ledger holds another value; that one is in force.
    """

    values: Mapping[str, int | float]
    who: str
    on_difference: Callable[[Sequence[Difference]], None]


class Ledger:
    """The durable record, by who uses it.

    Attributes:
        jobs: submit, status, list, cancel.
        placement: claim queued jobs, see the cluster, commit decisions, recall what waits for own GPUs.
        attempts: run, renew, deliver, complete and fail attempts; in-house slots; how training runs go.
        modal_calls: spawn, record, poll, stop and settle Modal calls; hints, the breaker, the rate of spawns.
        money: limits, budgets, the month's book, the operator's hand, the true-up, warm containers.
        maintenance: what is done again and again, so that nothing is forgotten.
        stats: everything that is shown, for the exporter and for people.
    """

    def __init__(self, settings: LedgerSettings | None = None, *, given: GivenLimits | None = None) -> None:
        """A ledger; nothing is asked yet.

        Args:
            settings: where it is; None: as the environment says.
            given: the limits that this process's environment names, for those that the ledger does not have yet; None:
                this process has nothing to say about limits.
        """
        self.settings = settings or LedgerSettings()
        self._given = given
        self.prefix = self.settings.prefix
        self.address = address_of(self.settings.url.get_secret_value())
        self.client = connect(self.settings)
        self.runner = ScriptRunner(
            self.client,
            prefix=self.prefix,
            address=self.address,
            constants={
                "nudge_again_ms": int(self.settings.nudge_again_s * 1000),
                "events_kept": self.settings.events_kept,
            },
            fill=None if given is None else self._fill_limits,
        )
        self.jobs = Jobs(
            self.runner,
            prefix=self.prefix,
            idempotency_ttl_s=self.settings.idempotency_ttl_s,
            quotas=self.settings.quotas,
        )
        self.placement = Placement(self.runner, prefix=self.prefix)
        self.attempts = Attempts(self.runner, prefix=self.prefix)
        self.modal_calls = ModalCalls(self.runner)
        self.money = Money(self.runner, prefix=self.prefix)
        self.maintenance = Maintenance(self.runner)
        self.deletions = Deletions(self.runner, prefix=self.prefix)
        self.stats = Stats(self.runner, prefix=self.prefix)

    def _fill_limits(self) -> None:
        if self._given is None:
            return
        stored = self.money.fill_limits(self._given.values, who=self._given.who)
        if found := differences(self._given.values, stored):
            self._given.on_difference(found)

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

    def check_writes(self) -> None:
        """Have Redis write something small that is gone in a second: what a job needs of it.

        Raises:
            LedgerUnavailable: it did not answer in time, or takes no writes (a read-only replica, a disk that failed).
            LedgerFull: it has no memory for it.
        """
        self.runner.guarded(lambda: self.client.set(f"{self.prefix}:writable", "1", px=1_000))

    def refuse_eviction(self) -> None:
        """Raise unless the server keeps every key.

        Raises:
            EvictingServer: it may throw keys away; a key thrown away is a job lost.
            LedgerUnavailable: it does not answer.
        """
        self.runner.guarded(lambda: refuse_eviction(self.client, address=self.address))

    def counters(self) -> dict[str, int]:
        """All counters: `"metric|label=value|..."` -> number; what histograms hold is in `stats.read`."""
        raw: dict[str, str] = self.runner.guarded(lambda: self.client.hgetall(f"{self.prefix}:counters"))
        return {name: int(value) for name, value in apart(raw.items()).items() if not is_of_histogram(name)}

    def tally(self, metric: str, labels: str, by: int = 1) -> None:
        """Raise a counter for something that is no transition. `labels`: `"reason=garbage|queue=render"`, sorted."""
        self.runner.call("tally", metric=metric, labels=labels, by=by)

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
