"""Secrets: environment variables by name, for containers. Values leave by `environment_of` alone, never by an RPC."""

import json
import re
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2
from modal_proto import api_pb2

from modal_local.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from modal_local.services.named_objects import NamedObject, NamedObjects

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller

_TABLE: Final = "secrets"
_VALUES: Final = "secret_values"
_LAST_USED: Final = "secret_last_used"
# What POSIX lets an environment variable be called: execve takes anything without "=" and NUL.
_KEY = re.compile(r"[^=\0]+")


class SecretService:
    """Answers the Secret RPCs.

    Args:
        context: of the server.
    """

    def __init__(self, context: "Context") -> None:
        self._context = context
        # An unnamed secret made without an app gets no heartbeats (`secret.py: _load_from_env_dict`), so none end it.
        self._objects = NamedObjects(
            context, table=_TABLE, prefix="st", kind="Secret", forget=self._forget, heartbeat_timeout_s=None
        )

    def environment_of(self, secret_id: str) -> dict[str, str]:
        """The variables of a secret; counts as a use of it.

        Raises:
            NotFoundError: no such secret.
        """
        values = self._values(self._objects.require(secret_id).object_id)
        self._context.store.put(_LAST_USED, secret_id, json.dumps(self._context.clock.now()).encode())
        return values

    def env_for(self, secret_ids: list[str]) -> dict[str, str]:
        """The variables of several secrets; where two have the same key, the later one wins.

        Raises:
            NotFoundError: one of them is not there.
        """
        merged: dict[str, str] = {}
        for secret_id in secret_ids:
            merged.update(self.environment_of(secret_id))
        return merged

    async def SecretGetOrCreate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Finds or makes a secret."""
        variables = _checked(dict(request.env_dict))
        resolution = self._objects.resolve(
            request.deployment_name, request.environment_name, request.object_creation_type, app_id=request.app_id
        )
        secret_id = resolution.found.object_id
        if resolution.created or resolution.overwrite:
            self._save(secret_id, variables)
        missing = [key for key in request.required_keys if key not in self._values(secret_id)]
        if missing:
            raise FailedPreconditionError(f"Secret is missing key(s): {', '.join(missing)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret_id, metadata=self._metadata(resolution.found))

    async def SecretGetInfo(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """What is known of a secret, without its values."""
        return api_pb2.SecretGetInfoResponse(metadata=self._metadata(self._objects.require(request.secret_id)))

    async def SecretUpdate(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Merges keys in; an update without a value removes its key."""
        secret_id = self._objects.require(request.secret_id).object_id
        values = self._values(secret_id)
        for update in request.updates:
            if update.HasField("value"):
                values.update(_checked({update.key: update.value}))
            else:
                values.pop(update.key, None)
        self._save(secret_id, values)
        return empty_pb2.Empty()

    async def SecretList(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Named secrets, newest first."""
        items = [
            api_pb2.SecretListItem(
                label=one.name,
                created_at=one.created_at,
                last_used_at=self._last_used(one.object_id),
                environment_name=one.environment,
                secret_id=one.object_id,
                metadata=self._metadata(one),
            )
            for one in self._objects.page(request.environment_name, request.pagination)
        ]
        environment = self._context.environment(request.environment_name)
        return api_pb2.SecretListResponse(items=items, environment_name=environment)

    async def SecretDelete(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """Ends a secret. Containers that run keep their variables."""
        self._objects.delete(request.secret_id)
        return empty_pb2.Empty()

    def _metadata(self, one: NamedObject) -> Any:
        return api_pb2.SecretMetadata(
            name=one.name,
            creation_info=one.creation_info,
            keys=sorted(self._values(one.object_id)),
            environment_name=one.environment,
            last_used_at=self._last_used(one.object_id),
        )

    def _values(self, secret_id: str) -> dict[str, str]:
        data = self._context.store.get(_VALUES, secret_id)
        if data is None:
            raise NotFoundError(f"Secret with id '{secret_id}' has no values any more: it was deleted.")
        values: dict[str, str] = json.loads(data)
        return values

    def _save(self, secret_id: str, values: dict[str, str]) -> None:
        self._context.store.put(_VALUES, secret_id, json.dumps(values).encode())

    def _last_used(self, secret_id: str) -> float:
        data = self._context.store.get(_LAST_USED, secret_id)
        return 0.0 if data is None else float(json.loads(data))

    def _forget(self, secret_id: str) -> None:
        self._context.store.delete(_VALUES, secret_id)
        self._context.store.delete(_LAST_USED, secret_id)


def _checked(variables: dict[str, str]) -> dict[str, str]:
    for key, value in variables.items():
        if not _KEY.fullmatch(key) or "\0" in value:
            raise InvalidArgumentError(
                f"Secret: {key!r} cannot be an environment variable. Expected a name without '=' and no NUL bytes."
            )
    return variables
