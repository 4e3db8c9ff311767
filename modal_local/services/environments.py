"""Who is asked first: hello, tokens, the workspace, its environments."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import base64
import json
from collections.abc import Mapping

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modal_local.context import DEFAULT_ENVIRONMENT, Context
from modal_local.errors import AlreadyExistsError, NotFoundError
from modal_local.rpc import Caller
from modal_local.services.images import BUILDER_VERSION

WORKSPACE = "local"
_TOKEN_ID = "ak-local"  # noqa: S105 - an id, visible to every holder of the token
_TABLE = "environments"
_TOKEN_LIFETIME_S = 3600


class EnvironmentService:
    """Serves ClientHello, the token and workspace lookups and the Environment* RPCs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._environments: dict[str, str] = {key: value.decode() for key, value in context.store.items(_TABLE)}
        if DEFAULT_ENVIRONMENT not in self._environments:
            self._add(DEFAULT_ENVIRONMENT)

    def _add(self, name: str) -> str:
        environment_id = self._context.ids.new("en")
        self._environments[name] = environment_id
        self._context.store.put(_TABLE, name, environment_id.encode())
        return environment_id

    async def ClientHello(self, request: Empty, caller: Caller) -> api_pb2.ClientHelloResponse:
        """Says that the client may go on."""
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    async def AuthTokenGet(self, request: api_pb2.AuthTokenGetRequest, caller: Caller) -> api_pb2.AuthTokenGetResponse:
        """A token for the input plane; the SDK only reads its `exp`."""
        claims = {"exp": int(self._context.clock.now()) + _TOKEN_LIFETIME_S, "iat": int(self._context.clock.now())}
        parts = [_segment({"alg": "none", "typ": "JWT"}), _segment(claims), "local"]
        return api_pb2.AuthTokenGetResponse(token=".".join(parts))

    async def TokenInfoGet(self, request: api_pb2.TokenInfoGetRequest, caller: Caller) -> api_pb2.TokenInfoGetResponse:
        """Which workspace the token belongs to."""
        return api_pb2.TokenInfoGetResponse(
            token_id=_TOKEN_ID, workspace_id="wo-local", workspace_name=WORKSPACE, token_name=WORKSPACE
        )

    async def WorkspaceNameLookup(self, request: Empty, caller: Caller) -> api_pb2.WorkspaceNameLookupResponse:
        """The workspace's name."""
        return api_pb2.WorkspaceNameLookupResponse(workspace_name=WORKSPACE, username=WORKSPACE)

    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, caller: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        """Looks an environment up, and makes it if asked to."""
        name = self._context.environment(request.deployment_name)
        if name not in self._environments:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise NotFoundError(f"Environment {name!r} not found.")
            self._add(name)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=self._environments[name],
            metadata=api_pb2.EnvironmentMetadata(
                name=name, settings=api_pb2.EnvironmentSettings(image_builder_version=BUILDER_VERSION)
            ),
        )

    async def EnvironmentCreate(self, request: api_pb2.EnvironmentCreateRequest, caller: Caller) -> Empty:
        """Makes an environment."""
        if request.name in self._environments:
            raise AlreadyExistsError(f"Environment {request.name!r} already exists.")
        self._add(request.name)
        return Empty()

    async def EnvironmentDelete(self, request: api_pb2.EnvironmentDeleteRequest, caller: Caller) -> Empty:
        """Removes an environment's name."""
        if self._environments.pop(request.name, None) is None:
            raise NotFoundError(f"Environment {request.name!r} not found.")
        self._context.store.delete(_TABLE, request.name)
        return Empty()

    async def EnvironmentList(self, request: Empty, caller: Caller) -> api_pb2.EnvironmentListResponse:
        """All environments."""
        response = api_pb2.EnvironmentListResponse()
        for name, environment_id in sorted(self._environments.items()):
            response.items.add(name=name, environment_id=environment_id, default=name == DEFAULT_ENVIRONMENT)
        return response


def _segment(value: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
