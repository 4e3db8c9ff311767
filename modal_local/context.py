"""What every service gets: the store, the clock, the ids, the settings, the places of things."""

import os
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from modal_local.settings import Settings
    from modal_local.store import Store

DEFAULT_ENVIRONMENT = "main"
_ALPHABET = (string.ascii_letters + string.digits).encode()
# One letter for each byte: a fifth of the time of choosing letters one by one, for two ids in each spawn.
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_ID_LENGTH = 22
# A system call for each id would be a tenth of a spawn.
_IDS_AT_ONCE = 64


class Ids:
    """Makes object ids in Modal's form: a prefix of two letters, a dash, 22 letters and digits."""

    def __init__(self) -> None:
        self._letters = ""

    def new(self, prefix: str) -> str:
        """A fresh id such as `vo-3kXf...`."""
        if not self._letters:
            self._letters = os.urandom(_ID_LENGTH * _IDS_AT_ONCE).translate(_LETTERS).decode()
        chosen, self._letters = self._letters[:_ID_LENGTH], self._letters[_ID_LENGTH:]
        return f"{prefix}-{chosen}"


class Clock:
    """Two times in seconds: the wall clock's, which faults can skew, and a steady one for durations and deadlines."""

    def __init__(self) -> None:
        self.skew_s = 0.0
        self._ahead_s = time.time() - time.monotonic()

    def steady(self) -> float:
        """Seconds that only ever go forward, at the wall clock's value when the server started."""
        return time.monotonic() + self._ahead_s

    def now(self) -> float:
        """Unix time in seconds, with the skew."""
        return time.time() + self.skew_s


@dataclass(slots=True)
class Context:
    """What services share. One for each server.

    Attributes:
        store: tables that survive a restart.
        clock: `now()` for what is stored or reported, `steady()` for durations; services use no other clock.
        ids: makes object ids.
        settings: what the server was started with.
        state_dir: a directory for files (blobs, volumes, mounts). Always there; temporary if no state was asked for.
        http_base_url: where the HTTP server listens, without a slash at the end; set before the first RPC.
        logger: a structlog logger.
    """

    store: "Store"
    settings: "Settings"
    state_dir: Path
    clock: Clock = field(default_factory=Clock)
    ids: Ids = field(default_factory=Ids)
    http_base_url: str = ""
    logger: Any = field(default_factory=lambda: structlog.get_logger("modal_local"))
    service_url: Callable[[], str] = field(default=lambda: "")

    def environment(self, name: str) -> str:
        """The environment's name, with the default for an empty one."""
        return name or DEFAULT_ENVIRONMENT
