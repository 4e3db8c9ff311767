"""Dicts: values by serialized key, each removed after a week without a read or write.

Keys and values are opaque bytes: the SDK pickles them. Everything is held in memory and written through to the store.
"""

import hashlib
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError
from modal_local.services.named_objects import NamedObject, NamedObjects

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller

# "An individual Dict entry will expire after 7 days of inactivity (no reads or writes)" (`modal/dict.py`).
ENTRY_TTL_S: Final = 7 * 24 * 3600.0
# `Dict.len` says "will return at most 100,000".
MAX_REPORTED_LENGTH: Final = 100_000
# Modal's guide to Dicts: at most 10,000 entries in one update; the gRPC message bounds a value at 100 MiB.
MAX_UPDATE_ENTRIES: Final = 10_000
MAX_UPDATE_BYTES: Final = 100 * 1024**2
# A read only moves the stored expiry if it is older than this, so that reads are not writes.
_TOUCH_INTERVAL_S: Final = 3600.0

_TABLE: Final = "dicts"
_ENTRIES: Final = "dict_entries"
_HEADER = struct.Struct("<dI")


@dataclass(slots=True)
class Entry:
    """A value and when it was last read or written, in unix seconds."""

    value: bytes
    used_at: float
    saved_at: float


class DictService:
    """Answers the Dict RPCs.

    Args:
        context: of the server.
        max_update_bytes: larger updates are refused as too large.
    """

    def __init__(self, context: "Context", *, max_update_bytes: int = MAX_UPDATE_BYTES) -> None:
        self._context = context
        self._max_update_bytes = max_update_bytes
        self._entries: dict[str, dict[bytes, Entry]] = {}
        for stored, data in context.store.items(_ENTRIES):
            dict_id = stored.partition("/")[0]
            key, entry = _load(data)
            self._entries.setdefault(dict_id, {})[key] = entry
        self._objects = NamedObjects(context, table=_TABLE, prefix="di", kind="Dict", forget=self._clear)

    async def DictGetOrCreate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Finds or makes a dict."""
        resolution = self._objects.resolve(
            request.deployment_name, request.environment_name, request.object_creation_type
        )
        found = resolution.found
        if resolution.overwrite:
            self._clear(found.object_id)
        if resolution.created or resolution.overwrite:
            for entry in request.data:
                self._set(found.object_id, entry.key, entry.value)
        return api_pb2.DictGetOrCreateResponse(dict_id=found.object_id, metadata=_metadata(found))

    async def DictGetById(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Finds a dict."""
        found = self._objects.require(request.dict_id)
        return api_pb2.DictGetByIdResponse(dict_id=found.object_id, metadata=_metadata(found))

    async def DictHeartbeat(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Keeps an ephemeral dict."""
        self._objects.heartbeat(request.dict_id)
        return empty_pb2.Empty()

    async def DictList(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Named dicts, newest first."""
        infos = [
            api_pb2.DictListResponse.DictInfo(
                name=one.name, created_at=one.created_at, dict_id=one.object_id, metadata=_metadata(one)
            )
            for one in self._objects.page(request.environment_name, request.pagination)
        ]
        environment = self._context.environment(request.environment_name)
        return api_pb2.DictListResponse(dicts=infos, environment_name=environment)

    async def DictDelete(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Ends a dict."""
        self._objects.delete(request.dict_id)
        return empty_pb2.Empty()

    async def DictClear(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Removes all entries."""
        self._clear(self._objects.require(request.dict_id).object_id)
        return empty_pb2.Empty()

    async def DictUpdate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Writes entries; with `if_not_exists`, those whose key is there are left as they are."""
        self._objects.require(request.dict_id)
        self._check_size(request)
        created = False
        for update in request.updates:
            if request.if_not_exists and self._entry(request.dict_id, update.key) is not None:
                continue
            self._set(request.dict_id, update.key, update.value)
            created = True
        return api_pb2.DictUpdateResponse(created=created)

    async def DictGet(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """The value of a key."""
        entry = self._read(request.dict_id, request.key)
        return api_pb2.DictGetResponse(found=entry is not None, value=None if entry is None else entry.value)

    async def DictContains(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Whether a key is there."""
        return api_pb2.DictContainsResponse(found=self._read(request.dict_id, request.key) is not None)

    async def DictPop(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Removes a key and returns its value."""
        self._objects.require(request.dict_id)
        entry = self._entry(request.dict_id, request.key)
        if entry is None:
            return api_pb2.DictPopResponse(found=False)
        self._remove(request.dict_id, request.key)
        return api_pb2.DictPopResponse(found=True, value=entry.value)

    async def DictLen(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """How many entries there are, up to the number that is reported."""
        return api_pb2.DictLenResponse(len=min(len(self._live(request.dict_id)), MAX_REPORTED_LENGTH))

    async def DictContents(self, request: Any, caller: "Caller") -> AsyncGenerator[Any, None]:  # noqa: N802 - named as the RPC
        """All entries as they were when the stream began."""
        for key, entry in list(self._live(request.dict_id).items()):
            yield api_pb2.DictEntry(
                key=key if request.keys else b"",
                value=entry.value if request.values else b"",
            )

    def _check_size(self, request: Any) -> None:
        if len(request.updates) > MAX_UPDATE_ENTRIES:
            raise InvalidArgumentError(
                f"Dict.update: expected at most {MAX_UPDATE_ENTRIES} entries, got {len(request.updates)}. Split it."
            )
        size = request.ByteSize()
        if size > self._max_update_bytes:
            # The SDK tells a request that is too large by this text, which is grpclib's for HTTP 413 (`dict.py`).
            raise InvalidArgumentError(
                f"Received :status = '413': expected at most {self._max_update_bytes} bytes, got {size}."
            )

    def _live(self, dict_id: str) -> dict[bytes, Entry]:
        """The entries of a dict, after those have gone whose time is over."""
        self._objects.require(dict_id)
        for key in list(self._entries.get(dict_id, {})):
            self._entry(dict_id, key)
        return self._entries.get(dict_id, {})

    def _entry(self, dict_id: str, key: bytes) -> Entry | None:
        """An entry whose time is not over; one whose time is over goes."""
        entry = self._entries.get(dict_id, {}).get(key)
        if entry is None or self._context.clock.now() - entry.used_at <= ENTRY_TTL_S:
            return entry
        self._remove(dict_id, key)
        return None

    def _read(self, dict_id: str, key: bytes) -> Entry | None:
        self._objects.require(dict_id)
        entry = self._entry(dict_id, key)
        if entry is not None:
            entry.used_at = self._context.clock.now()
            if entry.used_at - entry.saved_at > _TOUCH_INTERVAL_S:
                self._save(dict_id, key, entry)
        return entry

    def _remove(self, dict_id: str, key: bytes) -> None:
        del self._entries[dict_id][key]
        self._context.store.delete(_ENTRIES, _stored_key(dict_id, key))

    def _set(self, dict_id: str, key: bytes, value: bytes) -> None:
        now = self._context.clock.now()
        entry = Entry(value, now, now)
        self._entries.setdefault(dict_id, {})[key] = entry
        self._save(dict_id, key, entry)

    def _save(self, dict_id: str, key: bytes, entry: Entry) -> None:
        entry.saved_at = entry.used_at
        data = _HEADER.pack(entry.used_at, len(key)) + key + entry.value
        self._context.store.put(_ENTRIES, _stored_key(dict_id, key), data)

    def _clear(self, dict_id: str) -> None:
        for key in self._entries.pop(dict_id, {}):
            self._context.store.delete(_ENTRIES, _stored_key(dict_id, key))


def _stored_key(dict_id: str, key: bytes) -> str:
    return f"{dict_id}/{hashlib.sha256(key).hexdigest()}"


def _load(data: bytes) -> tuple[bytes, Entry]:
    used_at, key_length = _HEADER.unpack_from(data)
    key_end = _HEADER.size + key_length
    return data[_HEADER.size : key_end], Entry(data[key_end:], used_at, used_at)


def _metadata(one: NamedObject) -> Any:
    return api_pb2.DictMetadata(name=one.name, creation_info=one.creation_info)
