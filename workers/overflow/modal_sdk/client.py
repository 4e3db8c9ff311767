"""The port's implementation by Modal's real SDK, with the token in the environment."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import modal
import structlog
from modal.exception import Error as ModalError
from modal.exception import NotFoundError

from ledger import LedgerError
from ledger.models import Kind
from modal_apps.announce import ANNOUNCEMENTS_DICT, Announcement, announcement_key, parse_entry
from modal_apps.gpus import parse as parse_gpu
from modal_apps.hints import HINTS_QUEUE, CallHint, parse_hint, partition_name
from modal_apps.names import RENDERER_CLASS, TRAINER_APP
from modal_apps.signing import KeyOf, attempt_key, no_key
from modal_apps.uploads import UploadAddress
from workers.overflow.modal_sdk.patches import Origin, bound_results, mark_origins, on_bytes, origin_of
from workers.overflow.modal_sdk.port import (
    PollFailed,
    PollResult,
    PollTimedOut,
    PoolStats,
    Raised,
    Returned,
    SpawnTimedOut,
    StillRunning,
)
from workers.overflow.modal_sdk.unpickling import restrict_unpickling

log = structlog.get_logger(__name__)

#: Longest wait for one answer about a call, or for the next bytes of a large result, seconds.
ANSWER_TIMEOUT_S = 30.0
#: Before the GPU class, in the key of a training handle.
_TRAIN = "train "
#: The secret is asked for again after this, seconds: a ledger that was wiped has another one.
SECRET_GOOD_FOR_S = 60.0
#: Beyond the time that a long poll was given, seconds.
_LONG_POLL_MARGIN_S = 10.0


class ModalSdk:
    """The deployed renderer and trainer.

    Handles are kept: a class's id survives redeploys, and each GPU class is bound once. A handle that is not found
    any more (the app was stopped and deployed anew) is looked up again.
    """

    def __init__(
        self,
        *,
        app_name: str,
        environment: str | None,
        max_result_bytes: int,
        trainer_app: str = TRAINER_APP,
        client: modal.Client | None = None,
        secret: Callable[[], bytes] | None = None,
    ) -> None:
        """The deployed apps.

        Args:
            app_name: the renderer's app.
            environment: Modal's environment; None: the token's own.
            max_result_bytes: a larger result is not fetched.
            trainer_app: the trainer's app.
            client: another account's, or another server's; None: the one of the environment.
            secret: makes the keys with which calls sign what they say of themselves. Asked for now and then; may block.
                None: nothing is signed, and nothing is checked.
        """
        bound_results(max_result_bytes)
        mark_origins()
        restrict_unpickling()
        self._client = client
        self._secret = secret
        self._known_secret: bytes | None = None
        self._asked_at = 0.0
        self._app_name = app_name
        self._trainer_app = trainer_app
        self._environment = environment
        self._lock = threading.Lock()
        self._methods: dict[str, Any] = {}
        self._queue: Any = None
        self._dict: Any = None

    async def spawn(
        self,
        request: Mapping[str, object],
        *,
        attempt_of: tuple[str, int],
        gpu: str,
        timeout_s: float,
        upload_to: Mapping[str, UploadAddress] | None = None,
    ) -> str:
        """Start a render.

        Raises:
            SpawnTimedOut: no answer in time.
            Exception: what the SDK raises; `classify.classify_spawn_error` knows them.
        """
        method = self._method(gpu)
        arguments: list[Any] = [dict(request), await self._signing(attempt_of)]
        if upload_to is not None:
            arguments.append({name: address.to_wire() for name, address in upload_to.items()})
        try:
            call = await asyncio.wait_for(method.spawn.aio(*arguments), timeout_s)
        except TimeoutError as error:
            if error.args:
                raise
            raise SpawnTimedOut(timeout_s) from error
        except NotFoundError:
            self._forget_method(gpu)
            raise
        return str(call.object_id)

    async def spawn_train(
        self, request: Mapping[str, object], *, attempt_of: tuple[str, int], gpu: str, timeout_s: float
    ) -> str:
        """Start a training segment. Its retries are the ledger's, so Modal is asked for none.

        Raises:
            SpawnTimedOut: no answer in time.
            Exception: what the SDK raises; `classify.classify_spawn_error` knows them.
        """
        method = self._train_method(gpu)
        try:
            signing = await self._signing(attempt_of)
            call = await asyncio.wait_for(method.spawn.aio(dict(request), signing), timeout_s)
        except TimeoutError as error:
            if error.args:
                raise
            raise SpawnTimedOut(timeout_s) from error
        except NotFoundError:
            self._forget_method(_TRAIN + gpu)
            raise
        return str(call.object_id)

    async def poll(self, call_id: str) -> PollResult:
        """Ask how a call stands. `timeout=0`: Modal answers at once; a large result takes as long as its bytes come."""
        handle = modal.FunctionCall.from_id(call_id, client=self._client)
        overdue = asyncio.timeout(ANSWER_TIMEOUT_S)
        try:
            async with overdue:
                with on_bytes(_extending(overdue, ANSWER_TIMEOUT_S)):
                    return Returned(await handle.get.aio(timeout=0))
        except BaseException as error:
            # A result may carry any exception, one that would end this process too.
            origin = origin_of(error)
            if origin is Origin.RESULT:
                return Raised(error)
            if overdue.expired():
                return PollFailed(PollTimedOut(ANSWER_TIMEOUT_S))
            if not isinstance(error, Exception):
                raise
            # The SDK's word for "pending" is the builtin one, without arguments.
            if isinstance(error, TimeoutError) and not error.args and origin is Origin.REQUEST:
                return StillRunning()
            return PollFailed(error, has_result=origin is Origin.FETCHING)

    async def cancel(self, call_id: str) -> BaseException | None:
        """Cancel a call. It is alone in its container, so the container goes too and the GPU really stops."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await modal.FunctionCall.from_id(call_id, client=self._client).cancel.aio(terminate_containers=True)
        except (ModalError, OSError) as error:  # a timeout is an OSError to Python
            return error
        return None

    async def probe(self) -> None:
        """Look the deployed class up afresh: that needs the token and the app, and costs nothing."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._class().hydrate.aio()
        with self._lock:
            self._methods.clear()

    async def hints(self, partition: int, *, limit: int, wait_s: float) -> Sequence[CallHint]:
        """Take hints; one long poll."""
        try:
            async with asyncio.timeout(wait_s + _LONG_POLL_MARGIN_S):
                taken = await self._hints().get_many.aio(limit, timeout=wait_s, partition=partition_name(partition))
        except queue.Empty:
            return []
        except NotFoundError:
            # It was removed; the next call makes it anew.
            with self._lock:
                self._queue = None
            raise
        key_of = await self._key_of()
        hints = [hint for item in taken if (hint := parse_hint(item, key_of)) is not None]
        if len(hints) < len(taken):
            log.warning("hints.unreadable", partition=partition, number=len(taken) - len(hints))
        return hints

    async def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
        """Announcements of calls that began, in pages.

        Raises:
            Exception: what the SDK raises when Modal cannot be asked.
        """
        found: list[Announcement] = []
        unreadable, key_of = 0, await self._key_of()
        try:
            async for key, entry in self._announcements().items.aio():
                announcement = parse_entry(key, entry, key_of)
                if announcement is not None:
                    found.append(announcement)
                else:
                    unreadable += 1
                if len(found) >= page:
                    yield found
                    found = []
        except NotFoundError:
            # It was removed; the next call makes it anew.
            with self._lock:
                self._dict = None
            raise
        if unreadable:
            log.warning("announcements.unreadable", number=unreadable)
        if found:
            yield found

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        """The announcement of an attempt's call; None: it never began.

        Raises:
            Exception: what the SDK raises when Modal cannot be asked.
        """
        key = announcement_key(job_id, attempt)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return parse_entry(key, await self._announcements().get.aio(key), await self._key_of())
        except NotFoundError:
            # The dict was removed; the next call makes it anew.
            with self._lock:
                self._dict = None
            raise

    async def forget(self, announcement: Announcement) -> None:
        """Remove an announcement; one that is gone already is fine."""
        with contextlib.suppress(KeyError):
            await self._announcements().pop.aio(announcement.key)

    async def pool(self, gpu: str, *, kind: Kind = Kind.RENDER) -> PoolStats:
        """How the containers of a kind and GPU class stand."""
        method = self._method(gpu) if kind is Kind.RENDER else self._train_method(gpu)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            stats = await method.get_current_stats.aio()
        return PoolStats(
            backlog=int(stats.backlog),
            runners=int(stats.num_total_runners),
            running_inputs=int(stats.num_running_inputs),
        )

    async def keep_warm(
        self, gpu: str, *, min_containers: int, buffer_containers: int, scaledown_window_s: int | None
    ) -> None:
        """Set how many containers of a GPU class stay up."""
        window = {} if scaledown_window_s is None else {"scaledown_window": scaledown_window_s}
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._method(gpu).autoscaler.update.aio(
                min_containers=min_containers, buffer_containers=buffer_containers, **window
            )

    async def _key_of(self) -> KeyOf:
        """The keys of attempts."""
        if self._secret is None:
            return no_key
        if self._known_secret is None or time.monotonic() - self._asked_at > SECRET_GOOD_FOR_S:
            try:
                self._known_secret = await asyncio.to_thread(self._secret)
            except LedgerError:
                if self._known_secret is None:
                    raise
            self._asked_at = time.monotonic()
        return partial(attempt_key, self._known_secret)

    async def _signing(self, attempt_of: tuple[str, int]) -> tuple[str, int] | tuple[str, int, str]:
        """Whom a call works for, and the key that signs for it, as it is given with its input."""
        key = (await self._key_of())(*attempt_of)
        return attempt_of if key is None else (*attempt_of, key)

    def _announcements(self) -> Any:
        with self._lock:
            if self._dict is None:
                self._dict = modal.Dict.from_name(
                    ANNOUNCEMENTS_DICT, environment_name=self._environment, create_if_missing=True, client=self._client
                )
            return self._dict

    def _hints(self) -> Any:
        with self._lock:
            if self._queue is None:
                self._queue = modal.Queue.from_name(
                    HINTS_QUEUE, environment_name=self._environment, create_if_missing=True, client=self._client
                )
            return self._queue

    def _method(self, gpu: str) -> Any:
        """The bound method of a GPU class. Kept itself: looking it up on the object copies its options each time."""
        with self._lock:
            found = self._methods.get(gpu)
            if found is None:
                found = self._methods[gpu] = self._class().with_options(gpu=gpu)().render
            return found

    def _class(self) -> Any:
        return modal.Cls.from_name(
            self._app_name, RENDERER_CLASS, environment_name=self._environment, client=self._client
        )

    def _train_method(self, gpu: str) -> Any:
        """The bound method of the training class of a GPU class."""
        with self._lock:
            found = self._methods.get(_TRAIN + gpu)
            if found is None:
                alias = parse_gpu(gpu).alias
                named = modal.Cls.from_name(
                    self._trainer_app, alias, environment_name=self._environment, client=self._client
                )
                found = self._methods[_TRAIN + gpu] = named.with_options(retries=0)().train
            return found

    def _forget_method(self, gpu: str) -> None:
        with self._lock:
            self._methods.pop(gpu, None)


def _extending(overdue: asyncio.Timeout, by_s: float) -> Callable[[], None]:
    """A function that moves a bound to `by_s` seconds from now each time that it is called, from any thread."""
    loop = asyncio.get_running_loop()

    def extend() -> None:
        with contextlib.suppress(RuntimeError):  # it is over
            overdue.reschedule(loop.time() + by_s)

    def came() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(extend)

    return came
