"""A process's resources: its ledger, its S3 client, its producer. Made when first asked for, anew after a fork."""

import os
import threading
from dataclasses import dataclass

from infra.artifacts import ArtifactStore
from infra.limits import open_ledger
from infra.nudging import CeleryNudger
from infra.settings import Settings, settings
from ledger import Ledger


@dataclass(frozen=True)
class Resources:
    """What one process holds open."""

    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore
    nudger: CeleryNudger


_lock = threading.Lock()
_by_process: dict[int, Resources] = {}


def shared_resources() -> Resources:
    """This process's resources, which all of it shares."""
    process_id = os.getpid()
    with _lock:
        found = _by_process.get(process_id)
        if found is None:
            # What the parent holds open is the parent's: after a fork nothing of it may be used.
            _by_process.clear()
            values = settings()
            found = _by_process[process_id] = Resources(
                settings=values,
                ledger=open_ledger(values),
                artifacts=ArtifactStore(values),
                nudger=CeleryNudger(values),
            )
        return found


def _after_fork() -> None:
    """A lock that another thread of the parent held would never be opened in the child."""
    global _lock  # noqa: PLW0603 - the one place where it is replaced
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
