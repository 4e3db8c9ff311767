"""The fixed ports of `@modal.web_server` functions. One machine has each of them once."""

import asyncio
import socket

from modal_proto import api_pb2

from modal_local.errors import ModalLocalError

_LOOK_AGAIN_S = 0.1


def web_server_ports(definition: api_pb2.Function) -> list[int]:
    """The ports that a container of a function listens on. Pure."""
    configs = [definition.webhook_config, *(method.webhook_config for method in definition.method_definitions.values())]
    return [one.web_server_port for one in configs if one.type == api_pb2.WEBHOOK_TYPE_WEB_SERVER]


async def wait_until_free(port: int, timeout_s: float) -> None:
    """Waits until nobody listens on a port: a container that is being replaced may take a moment to go.

    Raises:
        ModalLocalError: somebody still does. What answered there would be taken for the container.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not _is_free(port):
        if asyncio.get_running_loop().time() > deadline:
            raise ModalLocalError(
                f"Port {port}, on which this web server is to listen, is taken by another process of this machine."
            )
        await asyncio.sleep(_LOOK_AGAIN_S)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
