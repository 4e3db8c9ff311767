"""What a rule is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: For how long an alert fires on when its expression says nothing. A scrape that the ledger did not answer in time has
#: no series of it: that is no reason to tell people that all is well, and to call them again a moment later.
KEPT = "2m"

#: Where the sections of the runbook are, relative to the repository; whoever publishes the docs puts an address before.
RUNBOOK = "docs/runbook.md"


class Severity(StrEnum):
    """How soon somebody must look."""

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
    """Something that a person must know."""

    name: str
    #: PromQL; whatever it returns is alerted.
    expr: str
    severity: Severity
    #: One line; may use `$labels` and `$value`.
    summary: str
    description: str
    #: How long it must be so.
    hold: str = "0m"
    #: For how long it fires on when it is so no more, or nothing is known.
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
