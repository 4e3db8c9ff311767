"""The Lua scripts by name: the legal table, the shared library and the script's own file, called by their hash."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.commands.core import Script

from ledger.errors import IllegalTransition, LedgerFull, LedgerUnavailable
from ledger.limits import as_lua as limits_as_lua
from ledger.metrics import as_lua as buckets_as_lua
from ledger.models import BurstMode, Kind
from ledger.refusals import as_lua as refusals_as_lua
from ledger.stages import as_lua as stages_as_lua
from ledger.states import as_lua

#: In a script's header: the libraries that it needs beside `_lib`.
_NEEDS = re.compile(r"^needs: ([a-z_, ]+)$", re.MULTILINE)

#: Libraries that are a table of Python's alone.
_TABLES: Mapping[str, Callable[[], str]] = {"refusals": refusals_as_lua}

_UNAVAILABLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
)


#: How a script that may move money ends, whether it answers or fails: what it has moved goes into the sums, so they
#: agree with their parts even after an error of ours (Redis takes nothing back).
_WITH_MONEY = """
local ok, answer = pcall(run)
flush_money()
if not ok then error(answer, 0) end
return answer
"""


#: Redis answers, and refuses every write: its disk failed, its replicas are gone, or it is none of those that may.
_NO_WRITES = ("MISCONF", "NOREPLICAS", "READONLY", "MASTERDOWN", "CLUSTERDOWN")


@cache
def script_text(name: str) -> str:
    """The whole text of a script.

    Raises:
        FileNotFoundError: no script has this name.
    """
    words = f"local KINDS = {_as_set(Kind)}\nlocal BURSTS = {_as_set(BurstMode)}"
    libraries = _libraries(name)
    ending = _WITH_MONEY if any("local function flush_money" in text for text in libraries) else "return run()"
    body = ["local function run()", _source(name), "end", ending]
    return "\n".join([as_lua(), words, buckets_as_lua(), _source("_lib"), *libraries, *body])


def _source(name: str) -> str:
    return files("ledger").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _libraries(name: str) -> list[str]:
    """The further libraries of a script, in order: what the `needs:` line of its header names, and what that needs."""
    needed = _NEEDS.search(_source(name))
    texts: list[str] = []
    for library in needed.group(1).split(", ") if needed else ():
        if library in _TABLES:
            texts.append(_TABLES[library]())
            continue
        generated = [stages_as_lua(), limits_as_lua()] if library == "money" else []
        for text in (*generated, *_libraries(f"_{library}"), _source(f"_{library}")):
            if text not in texts:
                texts.append(text)
    return texts


def _as_set(words: Iterable[str]) -> str:
    return "{ " + ", ".join(f"{word} = true" for word in words) + " }"


def as_json(value: object) -> str:
    """JSON that Redis reads: a lone surrogate, which is no text and which Redis's JSON refuses, becomes `?`."""
    text = json.dumps(value, separators=(",", ":"))
    if "\\ud" not in text:  # (each surrogate is escaped so, those of a pair too)
        return text
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace").decode()


class ScriptRunner:
    """Calls scripts on one Redis, and turns its errors into ours."""

    def __init__(
        self,
        client: "redis.Redis",
        *,
        prefix: str,
        address: str,
        constants: dict[str, object],
        fill: Callable[[], object] | None = None,
    ) -> None:
        """A runner; it asks nothing yet.

        Args:
            client: the connection.
            prefix: before every key.
            address: of the server, for messages.
            constants: added to every call's arguments (settings that the shared library needs).
            fill: fills the limits that the ledger does not have yet (it calls scripts itself); done before the first
                script of a process, and whenever a script finds an empty ledger. None: only in the latter case, with
                nothing: then the defaults hold.
        """
        self.client = client
        self.address = address
        self._meta_key = f"{prefix}:meta"
        self._constants = constants
        self._scripts: dict[str, Script] = {}
        self._fill = fill
        self._is_filled = fill is None

    def call(self, name: str, **arguments: object) -> dict[str, Any]:
        """Run one script and return its answer.

        Raises:
            LedgerUnavailable: Redis did not answer; run again, every script may be repeated.
            LedgerFull: Redis is out of memory; nothing was written.
            IllegalTransition: a bug of ours; nothing was changed.
        """
        if not self._is_filled:
            self._fill_limits()
        try:
            return self._call(name, arguments)
        except redis.exceptions.ResponseError as error:
            if "LIMITS are not filled" not in str(error):
                raise
        self._fill_limits()
        return self._call(name, arguments)

    def _fill_limits(self) -> None:
        if self._fill is None:
            self._call("limits", {"given": {}, "who": "", "why": ""})
            return
        # (Said first: what fills calls scripts, too. Two threads may both fill; the second changes nothing.)
        self._is_filled = True
        try:
            self._fill()
        except BaseException:
            self._is_filled = False
            raise

    def _call(self, name: str, arguments: dict[str, object]) -> dict[str, Any]:
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.client.register_script(script_text(name))
        text = as_json(self._constants | arguments)
        answer = self.guarded(lambda: script(keys=[self._meta_key], args=[text]))
        result: dict[str, Any] = json.loads(answer)
        return result

    def guarded(self, operation: Any) -> Any:
        """Run `operation` against Redis, with its errors turned into ours."""
        try:
            return operation()
        except redis.exceptions.OutOfMemoryError as error:
            raise LedgerFull(self.address) from error
        except _UNAVAILABLE as error:
            raise LedgerUnavailable(self.address, str(error) or type(error).__name__) from error
        except redis.exceptions.ResponseError as error:
            text = str(error)
            if any(word in text for word in _NO_WRITES):
                raise LedgerUnavailable(self.address, text) from error
            if "ILLEGAL transition" in text:
                raise IllegalTransition(text) from error
            if "OOM" in text:
                raise LedgerFull(self.address) from error
            raise
