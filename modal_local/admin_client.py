"""A small client of the admin API, for tests and tools. Needs nothing but the standard library."""

import json
import urllib.error
import urllib.request
from typing import Any

from modal_local.errors import ModalLocalError

_TIMEOUT_S = 10.0


class AdminError(ModalLocalError):
    """The server refused.

    Attributes:
        status: of the HTTP answer; 0 if there was none.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AdminClient:
    """Steers a running server.

    Args:
        admin_url: as `serve` printed it.
    """

    def __init__(self, admin_url: str) -> None:
        if not admin_url.startswith(("http://127.0.0.1:", "http://localhost:", "http://[::1]:")):
            raise AdminError(0, f"Expected the admin_url of a server on this machine, got {admin_url!r}.")
        self._base = admin_url.rstrip("/")
        # Two processes of one machine need no proxy, even if the environment names one.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def health(self) -> dict[str, Any]:
        """Counts of calls, unfinished inputs and containers."""
        return self._ask("GET", "/health")

    def calls(self, *, state: str = "", limit: int = 1_000) -> list[dict[str, Any]]:
        """The newest calls; `state` is `running`, `done`, `cancelled`, or empty for all."""
        return list(self._ask("GET", f"/calls?state={state}&limit={limit}")["calls"])

    def call(self, call_id: str) -> dict[str, Any]:
        """One call with its inputs."""
        return self._ask("GET", f"/calls/{call_id}")

    def containers(self, *, live: bool = False) -> list[dict[str, Any]]:
        """Containers, with their lifetimes and costs."""
        return list(self._ask("GET", f"/containers?live={int(live)}")["containers"])

    def pools(self) -> list[dict[str, Any]]:
        """Backlog, containers and settings of each pool."""
        return list(self._ask("GET", "/pools")["pools"])

    def spend(self) -> dict[str, Any]:
        """What the containers have cost: `usd_micros` in all, and one entry for each of `containers`."""
        return self._ask("GET", "/spend")

    def rpcs(self) -> dict[str, Any]:
        """Which RPCs are served, and how often each was called."""
        return self._ask("GET", "/rpcs")

    def schedules(self) -> list[dict[str, Any]]:
        """Functions that have a schedule, with `due_at`, the earliest first."""
        return list(self._ask("GET", "/schedules")["schedules"])

    def clock(self) -> dict[str, Any]:
        """The server's time: `now`, and `skew_s`, by which it is ahead of this machine's."""
        return self._ask("GET", "/clock")

    def advance_clock(self, seconds: float) -> dict[str, Any]:
        """Moves the server's time on: what is due by then runs, once each."""
        return self._ask("POST", "/clock", {"advance_s": seconds})

    def faults(self) -> dict[str, Any]:
        """The faults in force, and all that have been injected."""
        return self._ask("GET", "/faults")

    def inject(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Injects a fault; the fields are those of `modal_local.faults.model.Fault`.

        Raises:
            AdminError: the fault is malformed (400), or has no target (404).
        """
        return self._ask("POST", "/faults", {"kind": kind, **fields})

    def clear(self, fault_id: str | None = None) -> int:
        """Ends one fault, or all. Returns how many."""
        return int(self._ask("DELETE", f"/faults/{fault_id}" if fault_id else "/faults")["cleared"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, method=method)  # noqa: S310 - checked above
        request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            try:
                message = str(json.loads(text)["error"])
            except (ValueError, KeyError, TypeError):
                message = text
            raise AdminError(error.code, message) from None
        except OSError as error:
            raise AdminError(0, f"No server answers at {self._base}: {error}") from error
