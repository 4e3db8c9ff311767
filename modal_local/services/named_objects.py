"""What secrets, queues, dicts and volumes have in common: an id, perhaps a name in an environment, and an end.

An object is named (it stays until it is deleted), ephemeral (it stays while its client sends heartbeats), or owned by
an app. How `...GetOrCreate` requests ask for each is told by their `ObjectCreationType`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from modal_proto import api_pb2

from modal_local.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from modal_local.context import Context

# The SDK sends a heartbeat every 300 s (`_object.py`); three may be lost.
HEARTBEAT_TIMEOUT_S: Final = 1000.0
CREATED_BY: Final = "local"
_PAGE_SIZE: Final = 100
_TICK_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class NamedObject:
    """One object.

    Attributes:
        object_id: such as `qu-...`.
        name: empty for anonymous ones.
        environment: the environment's name.
        created_at: unix time in seconds, different for each object of a kind, so that pages do not overlap.
        ephemeral: ends when heartbeats do.
        app_id: of the app that owns it, or empty.
        properties: what a kind adds, such as a volume's version.
    """

    object_id: str
    name: str
    environment: str
    created_at: float
    ephemeral: bool = False
    app_id: str = ""
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def creation_info(self) -> Any:
        """As it goes over the wire."""
        return api_pb2.CreationInfo(created_at=self.created_at, created_by=CREATED_BY)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a `...GetOrCreate` led to.

    Attributes:
        found: the object.
        created: whether it was made now.
        overwrite: whether its old content shall go.
    """

    found: NamedObject
    created: bool
    overwrite: bool = False


class NamedObjects:
    """All objects of one kind.

    Args:
        context: of the server.
        table: in the store.
        prefix: of ids, such as `qu`.
        kind: for messages, such as `Queue`.
        forget: called with the id of an object that ended, to drop its content.
        heartbeat_timeout_s: when an ephemeral object ends; None if this kind knows no heartbeats.
    """

    def __init__(
        self,
        context: "Context",
        *,
        table: str,
        prefix: str,
        kind: str,
        forget: Callable[[str], None],
        heartbeat_timeout_s: float | None = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        self._context = context
        self._table = table
        self._prefix = prefix
        self._kind = kind
        self._forget = forget
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._objects: dict[str, NamedObject] = {}
        self._ids: dict[tuple[str, str], str] = {}
        # A client that lived through our restart had no chance to send heartbeats meanwhile: count from now.
        self._heartbeats: dict[str, float] = {}
        self._newest = 0.0
        for _, value in context.store.items(table):
            self._remember(NamedObject(**json.loads(value)))

    def resolve(
        self,
        name: str,
        environment: str,
        creation_type: int,
        *,
        app_id: str = "",
        properties: dict[str, str] | None = None,
    ) -> Resolution:
        """Finds an object by name, or makes one, as the creation type says.

        Raises:
            NotFoundError: a lookup of a name that is not there.
            AlreadyExistsError: the name is taken and must not be.
            InvalidArgumentError: a named creation without a name.
        """
        self._end_abandoned()
        environment = self._context.environment(environment)
        if creation_type in (
            api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL,
            api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP,
        ):
            ephemeral = creation_type == api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL
            return Resolution(self._create("", environment, ephemeral, app_id, properties), created=True)
        if not name:
            raise InvalidArgumentError(f"{self._kind}: expected a deployment_name, got an empty one.")
        object_id = self._ids.get((environment, name))
        if object_id is not None:
            if creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
                raise AlreadyExistsError(f"{self._kind} '{name}' already exists in environment '{environment}'.")
            overwrite = creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS
            return Resolution(self._objects[object_id], created=False, overwrite=overwrite)
        if creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise NotFoundError(f"{self._kind} '{name}' not found in environment '{environment}'.")
        return Resolution(
            self._create(name, environment, ephemeral=False, app_id=app_id, properties=properties), created=True
        )

    def require(self, object_id: str) -> NamedObject:
        """The object of an id.

        Raises:
            NotFoundError: unknown, deleted, or ended for lack of heartbeats.
        """
        self._end_abandoned()
        found = self._objects.get(object_id)
        if found is None:
            raise NotFoundError(f"{self._kind} with id '{object_id}' not found: it never existed or was deleted.")
        return found

    def heartbeat(self, object_id: str) -> None:
        """Keeps an ephemeral object.

        Raises:
            NotFoundError: it is not there (any more).
        """
        self._heartbeats[self.require(object_id).object_id] = self._context.clock.now()

    def page(self, environment: str, pagination: Any) -> list[NamedObject]:
        """Named objects of an environment, newest first, as a `ListPagination` asks."""
        environment = self._context.environment(environment)
        before = pagination.created_before or float("inf")
        found = [
            one
            for one in self._objects.values()
            if one.name and one.environment == environment and one.created_at < before
        ]
        found.sort(key=lambda one: one.created_at, reverse=True)
        return found[: pagination.max_objects or _PAGE_SIZE]

    def delete(self, object_id: str) -> None:
        """Ends an object and drops its content.

        Raises:
            NotFoundError: it is not there.
        """
        self._drop(self.require(object_id))

    def rename(self, object_id: str, name: str) -> None:
        """Gives a named object another name.

        Raises:
            NotFoundError: it is not there.
            AlreadyExistsError: the new name is taken.
            InvalidArgumentError: the new name is empty.
        """
        found = self.require(object_id)
        if not name:
            raise InvalidArgumentError(f"{self._kind}: expected a new name, got an empty one.")
        if self._ids.get((found.environment, name), object_id) != object_id:
            raise AlreadyExistsError(f"{self._kind} '{name}' already exists in environment '{found.environment}'.")
        self._ids.pop((found.environment, found.name), None)
        self._save(replace(found, name=name))

    def _create(
        self, name: str, environment: str, ephemeral: bool, app_id: str, properties: dict[str, str] | None
    ) -> NamedObject:
        created_at = max(self._context.clock.now(), self._newest + _TICK_S)
        made = NamedObject(
            object_id=self._context.ids.new(self._prefix),
            name=name,
            environment=environment,
            created_at=created_at,
            ephemeral=ephemeral,
            app_id=app_id,
            properties=properties or {},
        )
        self._save(made)
        return made

    def _save(self, one: NamedObject) -> None:
        self._remember(one)
        self._context.store.put(self._table, one.object_id, json.dumps(asdict(one)).encode())

    def _remember(self, one: NamedObject) -> None:
        self._objects[one.object_id] = one
        self._newest = max(self._newest, one.created_at)
        if one.name:
            self._ids[(one.environment, one.name)] = one.object_id
        if one.ephemeral and self._heartbeat_timeout_s is not None:
            self._heartbeats[one.object_id] = self._context.clock.now()

    def _drop(self, one: NamedObject) -> None:
        del self._objects[one.object_id]
        self._heartbeats.pop(one.object_id, None)
        if one.name:
            self._ids.pop((one.environment, one.name), None)
        self._context.store.delete(self._table, one.object_id)
        self._forget(one.object_id)

    def _end_abandoned(self) -> None:
        if self._heartbeat_timeout_s is None or not self._heartbeats:
            return
        oldest = self._context.clock.now() - self._heartbeat_timeout_s
        for object_id in [one for one, beat in self._heartbeats.items() if beat < oldest]:
            self._drop(self._objects[object_id])
