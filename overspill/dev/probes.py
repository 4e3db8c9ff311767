"""What each process shows when it is ready: answers, leases and pings, never the passing of time."""

from collections.abc import Callable, Mapping
from typing import Self

import httpx
from kombu.exceptions import OperationalError

from infra.celery_config import make_celery
from infra.settings import Settings
from ledger import Kind, Ledger, LedgerError, LedgerSettings

_ANSWER_TIMEOUT_S = 1.0


class Probes:
    """Looks at a stack from outside. Use it in a `with` block: it holds connections.

    Args:
        environment: what points at the stack.
        host: the name that the workers add to theirs.
        slots: how many in-house slots there should be.
    """

    def __init__(self, environment: Mapping[str, str], *, host: str, slots: int) -> None:
        self._environment = environment
        self._host = host
        self._slots = slots
        ledger = LedgerSettings.model_validate(
            {
                name: environment[variable]
                for name in LedgerSettings.model_fields
                if (variable := LedgerSettings.variable(name)) in environment
            }
        )
        settings = Settings(ledger=ledger)
        self._ledger = Ledger(ledger)
        self._celery = make_celery(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._celery.close()
        self._ledger.close()

    def signs(self, *, flower: bool) -> dict[str, Callable[[], bool]]:
        """Each process's sign, in the order in which they are best waited for."""
        gpus = [f"gpu-{number}" for number in range(1, self._slots + 1)]
        signs: dict[str, Callable[[], bool]] = {
            "gpu": lambda: self.slots_live() and self.workers_answer(gpus),
            "dispatch": lambda: self.workers_answer(["dispatch-1"]),
            "overflow": lambda: self.workers_answer(["overflow-1"]),
            "api": lambda: self._answers("OVERSPILL_API_URL", "/readyz"),
            "exporter": lambda: self._answers("OVERSPILL_EXPORTER_URL", "/healthz"),
        }
        if flower:
            # Without a password it must refuse: 401 is the sign that it runs, and that it does not run open.
            url = self._environment.get("OVERSPILL_FLOWER_URL", "")
            signs["flower"] = lambda: _http_status(url) == httpx.codes.UNAUTHORIZED
        return signs

    def _answers(self, address: str, path: str) -> bool:
        return _http_status(self._environment[address] + path) == httpx.codes.OK

    def slots_live(self) -> bool:
        """Whether the ledger knows as many live slots as there should be."""
        try:
            return self._ledger.placement.view().of(Kind.RENDER).live_slots >= self._slots
        except LedgerError:
            return False

    def workers_answer(self, names: list[str]) -> bool:
        """Whether all of these Celery workers answer a ping."""
        if not names:
            return True
        wanted = [f"{name}@{self._host}" for name in names]
        try:
            replies = self._celery.control.ping(destination=wanted, timeout=_ANSWER_TIMEOUT_S, limit=len(wanted)) or []
        except (OperationalError, OSError):
            return False
        return {name for reply in replies for name in reply} >= set(wanted)


def _http_status(url: str) -> int:
    try:
        return httpx.get(url, timeout=_ANSWER_TIMEOUT_S, trust_env=False).status_code
    except httpx.HTTPError:
        return 0
