"""What a rule is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: How long an alert keeps firing without a result of its expression. A scrape that the ledger did not answer in time
#: lacks its series; this must not resolve the alert and fire it again a moment later.
KEPT = "2m"

#: The runbook, relative to the repository. A published site needs an address before it.
RUNBOOK = "docs/runbook.md"


class Severity(StrEnum):
    """How soon a person must act."""

    #: Now: jobs are late or fail, or money runs out.
    CRITICAL = "critical"
    #: Today.
    WARNING = "warning"
    #: Good to know.
    INFO = "info"


def known(series: str) -> str:
    """PromQL for a gauge of the ledger as it was last read, within a minute: a scrape without it restarts no `for`."""
    return f"last_over_time({series}[1m])"


@dataclass(frozen=True)
class Recording:
    """A rule that keeps the value of an expression under a name `level:metric:operation`."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """A rule that notifies a person."""

    name: str
    #: PromQL; every series that it returns fires.
    expr: str
    severity: Severity
    #: One line; may use `$labels` and `$value`.
    summary: str
    description: str
    #: How long the expression must hold before it fires.
    hold: str = "0m"
    #: How long it keeps firing after the last result.
    keep: str = KEPT

    @property
    def anchor(self) -> str:
        """Of its section in the runbook, which has the alert's name as its heading."""
        return self.name.lower()

    @property
    def runbook_url(self) -> str:
        """Where its section is."""
        return f"{RUNBOOK}#{self.anchor}"


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in order; one file each."""

    name: str
    text: str
    recordings: tuple[Recording, ...] = ()
    alerts: tuple[Alert, ...] = ()
