"""Images: nothing is built. A container runs on this machine's interpreter, with the image's ENV lines."""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import base64
import hashlib
import platform
import shlex
from collections.abc import AsyncIterator

from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import NotFoundError
from modal_local.rpc import Caller

BUILDER_VERSION = "2025.06"
_TABLE = "images"


class ImageService:
    """Serves the Image* RPCs. An image is the hash of its definition."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._images: dict[str, api_pb2.Image] = {
            key: api_pb2.Image.FromString(value) for key, value in context.store.items(_TABLE)
        }

    async def ImageGetOrCreate(
        self, request: api_pb2.ImageGetOrCreateRequest, caller: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        """Keeps the definition and says that it is built."""
        definition = request.image.SerializeToString(deterministic=True)
        digest = base64.b32encode(hashlib.sha256(definition).digest()).decode()
        image_id = f"im-{digest[:22]}"
        if image_id not in self._images:
            self._images[image_id] = request.image
            self._context.store.put(_TABLE, image_id, definition)
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=_built(), metadata=_metadata())

    async def ImageFromId(self, request: api_pb2.ImageFromIdRequest, caller: Caller) -> api_pb2.ImageFromIdResponse:
        """Looks an image up."""
        if request.image_id not in self._images:
            raise NotFoundError(f"Image {request.image_id!r} not found.")
        return api_pb2.ImageFromIdResponse(image_id=request.image_id, metadata=_metadata())

    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        """The end of a build: at once."""
        yield api_pb2.ImageJoinStreamingResponse(result=_built(), metadata=_metadata(), eof=True)

    def layers(self, image_id: str) -> list[api_pb2.Image]:
        """An image and what it is made of, the base first."""
        image = self._images.get(image_id)
        if image is None:
            return []
        below = [layer for base in image.base_images for layer in self.layers(base.image_id)]
        return [*below, image]

    def environment_of(self, image_id: str) -> dict[str, str]:
        """The variables that an image's ENV lines set."""
        variables: dict[str, str] = {}
        for layer in self.layers(image_id):
            for command in layer.dockerfile_commands:
                variables.update(_read_env(command))
        return variables

    def context_mounts(self, image_id: str) -> list[str]:
        """The mounts whose files are copied into the image."""
        return [layer.context_mount_id for layer in self.layers(image_id) if layer.context_mount_id]


def _read_env(command: str) -> dict[str, str]:
    keyword, _, rest = command.strip().partition(" ")
    if keyword.upper() != "ENV":
        return {}
    try:
        words = shlex.split(rest)
    except ValueError:
        return {}
    if words and "=" not in words[0]:
        return {words[0]: " ".join(words[1:])}
    return dict(word.split("=", 1) for word in words if "=" in word)


def _built() -> api_pb2.GenericResult:
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def _metadata() -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(
        python_version_info=f"Python {platform.python_version()}", image_builder_version=BUILDER_VERSION
    )
