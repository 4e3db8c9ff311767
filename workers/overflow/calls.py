"""The port to Modal: spawn a call, look at it, stop it. One implementation, by the real SDK."""

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import modal
from modal.exception import Error as ModalError

from modal_apps.announce import ANNOUNCEMENTS_DICT, Announcement, announcement_key, parse_entry
from modal_apps.names import RENDERER_CLASS


@dataclass(frozen=True)
class StillRunning:
    """The call has not ended, or not started yet."""


@dataclass(frozen=True)
class Answered:
    """The remote method returned something; an envelope, if all is well."""

    wire: Any


@dataclass(frozen=True)
class Raised:
    """Looking at the call raised: either the call ended so, or Modal could not be asked."""

    error: BaseException


Look = StillRunning | Answered | Raised


class ModalCalls(Protocol):
    """What the overflow plane wants from Modal."""

    def spawn(self, request: dict[str, object], *, attempt_of: tuple[str, int], gpu: str, timeout_s: float) -> str:
        """Start a call for a job's attempt on a GPU class, and return its id at once."""

    async def look(self, call_id: str) -> Look:
        """See how a call stands, without waiting."""

    async def stop(self, call_id: str) -> BaseException | None:
        """Stop a call and the container it runs in. What went wrong, if anything."""

    async def announced(self) -> list[Announcement]:
        """Calls that have said that they began and have not been forgotten since."""

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        """What an attempt's call has said of itself, if it began; None too if Modal cannot be asked."""

    async def forget(self, announcement: Announcement) -> None:
        """Remove an announcement that has served."""


class SpawnTimedOut(Exception):
    """Modal did not answer a spawn in time. The call may exist."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"expected Modal to answer a spawn within {timeout_s:g} s, got no answer; the call may exist.")


class ModalRenderer:
    """The deployed renderer, reached through Modal's SDK with the token in the environment.

    Handles are kept: a class's id survives redeploys, and each GPU class is bound once.
    """

    def __init__(self, *, app_name: str, environment: str | None) -> None:
        self._app_name = app_name
        self._environment = environment
        self._lock = threading.Lock()
        self._by_gpu: dict[str, Any] = {}

    def spawn(self, request: dict[str, object], *, attempt_of: tuple[str, int], gpu: str, timeout_s: float) -> str:
        """Start a render.

        Raises:
            SpawnTimedOut: no answer in time.
            Exception: what the SDK raises; `endings.classify_spawn_error` knows them.
        """
        renderer = self._bound(gpu)

        async def spawn() -> str:
            call = await renderer.render.spawn.aio(request, attempt_of)
            return str(call.object_id)

        async def bounded() -> str:
            return await asyncio.wait_for(spawn(), timeout_s)

        try:
            return asyncio.run(bounded())
        except TimeoutError as error:
            if error.args:
                raise
            raise SpawnTimedOut(timeout_s) from error

    async def look(self, call_id: str) -> Look:
        """See how a call stands. `timeout=0`: Modal answers at once."""
        try:
            return Answered(await modal.FunctionCall.from_id(call_id).get.aio(timeout=0))
        except TimeoutError as error:
            # The builtin one, without arguments, means "pending"; a remote method's own one carries its text.
            return Raised(error) if error.args else StillRunning()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a result may carry any exception; it is classified by type
            return Raised(error)

    async def stop(self, call_id: str) -> BaseException | None:
        """Cancel a call. It is alone in its container, so the container goes too and the GPU really stops."""
        try:
            await modal.FunctionCall.from_id(call_id).cancel.aio(terminate_containers=True)
        except (ModalError, OSError) as error:
            return error
        return None

    async def announced(self) -> list[Announcement]:
        """Calls that have said that they began.

        Raises:
            Exception: what the SDK raises when Modal cannot be asked.
        """
        found = []
        async for key, entry in self._announcements().items.aio():
            announcement = parse_entry(key, entry)
            if announcement is not None:
                found.append(announcement)
        return found

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        """What an attempt's call has said of itself."""
        key = announcement_key(job_id, attempt)
        try:
            return parse_entry(key, await self._announcements().get.aio(key))
        except (ModalError, OSError):
            return None

    async def forget(self, announcement: Announcement) -> None:
        """Remove an announcement; one that is gone already is fine."""
        with contextlib.suppress(KeyError):
            await self._announcements().pop.aio(announcement.key)

    def _announcements(self) -> modal.Dict:
        return modal.Dict.from_name(ANNOUNCEMENTS_DICT, environment_name=self._environment, create_if_missing=True)

    def _bound(self, gpu: str) -> Any:
        with self._lock:
            found = self._by_gpu.get(gpu)
            if found is None:
                named = modal.Cls.from_name(self._app_name, RENDERER_CLASS, environment_name=self._environment)
                found = self._by_gpu[gpu] = named.with_options(gpu=gpu)()
            return found
